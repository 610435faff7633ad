"""The peers with small sizes, and batches to try them on."""

from __future__ import annotations

import torch

from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.peers.bc_lstm import BcLSTM
from mer_agent.models.peers.c_mfn import CMFN
from mer_agent.models.peers.ctnet import CTNet
from mer_agent.models.peers.dialogue_gcn import DialogueGCN
from mer_agent.models.peers.dialogue_rnn import DialogueRNN
from mer_agent.models.peers.fusions import Fusion
from mer_agent.models.peers.lr_gcn import LRGCN
from mer_agent.models.peers.multi_emo import MultiEMO
from mer_agent.models.peers.text_cnn import TextCNN

SPECS = (
    FeatureSpec("text/t@1", "text", 6),
    FeatureSpec("audio/a@1", "audio", 4),
    FeatureSpec("audio/p@1", "audio", 3, names=("x", "y", "z"), ignored=("z",)),
    FeatureSpec("face/f@1", "visual", 5),
)
WORDS = (FeatureSpec("text/words@1", "text", 64), *SPECS[1:])
CLASSES = 4

GRAPH = {"units": 8, "dimension": 8, "hidden": 8, "window": 3, "future": 2}
PEERS = {
    "textcnn": (TextCNN, {"filters": 5, "widths": (2, 3), "embedding": 6}),
    "bc-lstm": (BcLSTM, {"units": 8, "dimension": 8}),
    "bc-lstm-att": (BcLSTM, {"units": 8, "dimension": 8, "attention": True}),
    "dialogue-rnn": (
        DialogueRNN,
        {"global_units": 7, "party_units": 6, "emotion_units": 5, "hidden": 8},
    ),
    "dialogue-rnn-listener": (
        DialogueRNN,
        {"global_units": 7, "party_units": 6, "emotion_units": 5, "hidden": 8, "listener": True},
    ),
    "dialogue-gcn": (DialogueGCN, GRAPH),
    "dialogue-gcn-bare": (DialogueGCN, {**GRAPH, "attention": False}),
    "ctnet": (CTNet, {"dimension": 8, "heads": 2, "units": 8, "hidden": 8}),
    "lr-gcn": (LRGCN, {**GRAPH, "heads": 2, "layers": 2}),
    "multi-emo": (MultiEMO, {"dimension": 8, "heads": 2, "units": 8, "hidden": 8}),
    "c-mfn": (CMFN, {"dimension": 8, "units": 8, "memory": 8, "context": 3, "heads": 2}),
    **{
        f"fusion-{name}{'-context' if units else ''}": (
            Fusion,
            {"fusion": name, "dimension": 4, "hidden": 8, "units": units},
        )
        for name in ("add", "concatenate", "tensor", "low-rank")
        for units in (0, 4)
    },
}
ALONE = {name for name in PEERS if name == "textcnn" or (name.startswith("fusion") and "context" not in name)}
"""Those that look at one utterance alone."""
PAST = {"c-mfn"}
"""Those that only look back, whatever is asked."""


def build(name, *, causal=False, specs=SPECS, seed=0):
    """Gives a peer of small sizes in evaluation mode."""
    torch.manual_seed(seed)
    model, sizes = PEERS[name]
    return model(specs, CLASSES, **sizes, causal=causal).eval()


def batch(lengths=(5, 1, 9), specs=SPECS, seed=0):
    """Gives dialogues of these lengths, some features absent, some speakers unknown, dialogue numbers with gaps."""
    random = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    present = {spec.id: torch.rand(count, generator=random) < 0.8 for spec in specs}
    features = {spec.id: torch.randn(count, spec.dimension, generator=random) for spec in specs}
    for spec in specs:
        if spec.id.startswith("text/words@"):
            features[spec.id] = torch.randint(0, 40, (count, spec.dimension), generator=random).float()
            features[spec.id][:, 7:] = 0
    return Batch(
        features,
        present,
        torch.randint(-1, 4, (count,), generator=random),
        torch.repeat_interleave(torch.tensor([7, 3, 5, 11][: len(lengths)]), torch.tensor(lengths)),
        torch.randint(0, CLASSES, (count,), generator=random),
    )
