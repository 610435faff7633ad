"""Joint-vector fusion: two transformers, for words and for the picture of a voice, linked by joint vectors (Shi 2024).

Shi, Zhang, Cheng, Zhang, Yu, Xiao, Wang: Enhancing Emotion Recognition in Conversation through Emotional Cross-Modal
Fusion and Inter-class Contrastive Learning (2024). Top to bottom, for N utterances, d dimensions, C classes:

    states of tokens        [N, L, 768]   features; 12 layers of all-mpnet-base-v2
    -> projection           [N, L, d]
    -> two layers, F_t      [N, L, d]     the paper's feature extractor, 8 heads
    patches of mel          [N, P, 640]   features; 80 bands, 80 ms
    -> projection, F_m      [N, P, d]
    -> N = 2 joint blocks                 joint_blocks.JointBlock, eq. 1-4
    -> CLS of each side     [N, 2, d]     together F of eq. 6, on which ICL is learned (objectives.icl, eq. 7)
    -> two linear layers    [N, C]        logits averaged, eq. 5 by the trainer

Where the text leaves a choice. It reads "the 12th layer of large RoBERTa" and 768 dimensions, which is RoBERTa-base:
MPNet is of that kind and size, and in the catalogue. Its 1024 dimensions of the extractor are taken as the width of
the feed-forward part (`hidden`). CLS is a learned step before each sequence. `tied` says whether the two passes of a
layer share their weights or only start alike.

Ours: a feature that is one vector is a sequence of one step, so that a corpus whose recordings are not at hand can
still bring its sound; a modality that is absent is a CLS alone; `context` rounds of the speaker graph over the CLS
states let an utterance feel the ones before it, 0 leaves the paper's model, which looks at each alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mer_agent.encoders.sequences import take_apart
from mer_agent.errors import ConfigError
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.graph import SpeakerGraph, speaker_edges
from mer_agent.models.joint_blocks import (
    Apart,
    CrossAttention,
    JointBlock,
    Single,
    Sizes,
    Steps,
    language_layer,
    through,
    visual_layer,
)
from mer_agent.models.layers import Dropout, Moments, Normalise, Standardise, classifier
from mer_agent.models.stream import Stream
from mer_agent.streams.types import MODALITIES, Modality

FUSIONS = ("joint", "late", "attention", "concatenate")
"""Of the paper, without its JFM, by CFA instead, by concatenation instead."""

TOGETHER = 64
"""Utterances, of like length, that are read at once."""
STEPS_ROUNDED, GROUPS_ROUNDED = 4, 16
"""To multiples of these sequences and groups are filled in training: a kernel for bfloat16 is made for each shape."""


class Side(nn.Module):
    """Gives one modality's sequence: a CLS, then the steps of its features, projected.

    Words know their order from the layers below; patches get a learned position each. With `moments` the steps of
    sound are scaled, and one more stands before them that tells mean and deviation of them all.

    Shapes: features {id: [N, dimension]}, present {id: [N]} -> Steps of [N, 1 + L, d].
    """

    def __init__(self, specs: Sequence[FeatureSpec], dimension: int, dropout: float, *, moments: bool = False) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.cls = nn.Parameter(torch.randn(dimension) * 0.02)
        self.normalise = nn.ModuleList(
            nn.LayerNorm(spec.dimension // spec.steps)
            if spec.steps > 1 and spec.modality == "text"
            else nn.Identity()  # a patch says how loud it is beside the others
            if spec.steps > 1
            else Normalise(spec)
            for spec in specs
        )
        self.project = nn.ModuleList(nn.Linear(spec.dimension // spec.steps, dimension) for spec in specs)
        self.places = nn.ParameterList(
            torch.randn(1 if spec.modality == "text" else spec.steps, dimension) * 0.02 for spec in specs
        )
        self.dropout = Dropout(dropout)
        summed = [spec for spec in specs if moments and spec.steps > 1 and spec.modality == "audio"]
        widths = {str(specs.index(spec)): spec.dimension // spec.steps for spec in summed}
        self.standardise = nn.ModuleDict({key: Standardise(width) for key, width in widths.items()})
        self.moments = nn.ModuleDict({key: Moments(width, dimension, dropout) for key, width in widths.items()})

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Steps:
        """Gives the sequence, as long as the longest of these utterances needs."""
        count = len(next(iter(present.values())))
        whole = Steps(self.cls.expand(count, 1, -1), torch.ones(count, 1, dtype=torch.bool, device=self.cls.device))
        for number, (spec, normalise, project, place) in enumerate(
            zip(self.specs, self.normalise, self.project, self.places, strict=True)
        ):
            steps, there = take_apart(features[spec.id], spec.steps)
            if spec.steps == 1:
                there = torch.ones_like(there)  # a vector may well be zero
            there = there & present[spec.id].unsqueeze(1)
            longest = int(there.sum(1).max())
            if longest == 0:
                continue
            if self.training:
                longest = min(spec.steps, -(-longest // STEPS_ROUNDED) * STEPS_ROUNDED)
            there = there[:, :longest]
            # What is not there is never read, and may be anything.
            states = normalise(steps[:, :longest].float().masked_fill(~there.unsqueeze(-1), 0.0))
            if (key := str(number)) in self.moments:
                states = self.standardise[key](states, there)
                one = self.moments[key](states, there)
                whole = Steps(
                    torch.cat([whole.states, one], 1), torch.cat([whole.there, there.any(1, keepdim=True)], 1)
                )
            states = project(self.dropout(states)) + place[:longest]
            whole = Steps(torch.cat([whole.states, states], 1), torch.cat([whole.there, there], 1))
        return whole


class JointFusion(nn.Module):
    """The model. It holds no conversation: `stream()` gives an object that does.

    Args:
        specs: the features, of text and audio; one modality alone is a model of its transformer alone.
        classes: how many there are.
        dimension, heads, hidden: of all transformer layers.
        extractor: layers of the text's feature extractor.
        blocks: N.
        vectors: length of the joint vectors; 0 leaves them out.
        fusion: one of `FUSIONS`.
        tied: see `JointBlock`.
        moments: see `Side`.
        context: rounds of the speaker graph.
        window: utterances back in a round.
        causal: looks back only.
        dropout, input_dropout: in training.
        rated: learns the raters' valence, activation and dominance, too, as a further task; not in the paper.
        language: `mpnet` starts the language layers from the last ones of the catalogue's model (dimension 768, heads
            12, hidden 3072), empty from chance.
        vision: `vit` or `ast` starts the visual layers from what the user has of the hub (`joint_pretrained`).

    Raises:
        ConfigError: a feature is neither of text nor of audio, or `fusion` is unknown.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        *,
        dimension: int = 256,
        heads: int = 8,
        hidden: int = 512,
        extractor: int = 2,
        blocks: int = 2,
        vectors: int = 4,
        fusion: str = "joint",
        tied: bool = True,
        moments: bool = False,
        context: int = 2,
        window: int = 10,
        causal: bool = True,
        dropout: float = 0.3,
        input_dropout: float = 0.2,
        rated: bool = False,
        language: str = "",
        vision: str = "",
    ) -> None:
        super().__init__()
        if any(spec.modality not in ("text", "audio") for spec in specs):
            raise ConfigError("joint-fusion reads words and sound alone: leave the other features out")
        if fusion not in FUSIONS:
            raise ConfigError(f"joint-fusion can't fuse by {fusion!r}: take one of {', '.join(FUSIONS)}")
        self.specs, self.classes = tuple(specs), classes
        self.pretrained = {"language": language, "vision": vision}
        self.modalities: tuple[Modality, ...] = tuple(m for m in MODALITIES if any(s.modality == m for s in specs))
        sizes = Sizes(dimension, heads, hidden, dropout)
        self.sides = nn.ModuleDict(
            {
                m: Side([s for s in specs if s.modality == m], dimension, input_dropout, moments=moments)
                for m in self.modalities
            }
        )
        has_text = "text" in self.modalities
        self.extractor = nn.ModuleList(language_layer(sizes) for _ in range(extractor if has_text else 0))
        layer = language_layer if has_text else visual_layer
        self.blocks: nn.ModuleList
        if len(self.modalities) == 1:
            self.blocks = nn.ModuleList([Single([layer(sizes) for _ in range(blocks)])])
        elif fusion == "joint":
            self.blocks = nn.ModuleList(JointBlock(sizes, vectors=vectors, tied=tied) for _ in range(blocks))
        else:
            self.blocks = nn.ModuleList([(CrossAttention if fusion == "attention" else Apart)(sizes, blocks)])
        future = 0 if causal else window
        self.graphs = nn.ModuleList(
            SpeakerGraph(dimension, layers=context, window=window, future=future, heads=4, dropout=dropout, share=False)
            for _ in self.modalities
        )
        self.window, self.future = window, future
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(dimension, classes) for _ in self.modalities)
        self.affect_head = nn.Linear(len(self.modalities) * dimension, 3) if rated else None
        # Two linear layers whose logits are averaged are one linear layer of both, so concatenation gets a hidden one.
        self.classifier = classifier(2 * dimension, dimension, classes, dropout) if fusion == "concatenate" else None
        self.temperature = nn.Buffer(torch.ones(()))
        """Divides the logits so that confidences are honest; fitted on the validation split after training."""

    def forward(self, batch: Batch) -> Output:
        """Gives the logits of every utterance of the batch's dialogues."""
        edges = speaker_edges(batch.speakers, batch.dialogue, window=self.window, future=self.future)
        nodes = self.nodes(batch.features, batch.present)
        states = [graph(nodes[:, k], edges) for k, graph in enumerate(self.graphs)]
        stacked = torch.stack(states, 1)  # [N, M, d]
        modal = torch.stack(self._alone(stacked), 1) if self.training else None
        affect = self.affect_head(stacked.flatten(1)) if self.training and self.affect_head is not None else None
        return Output(self.judge(stacked), affect, spaces=nodes, states=stacked, modal_logits=modal)

    def nodes(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Gives each utterance's CLS states [N, M, d], before the graphs; those of like length are read together."""
        lengths = sum(
            (take_apart(features[spec.id], spec.steps)[1].sum(1) if spec.steps > 1 else 1) * present[spec.id]
            for spec in self.specs
        )
        order = torch.as_tensor(lengths).argsort(stable=True, descending=True)
        rows = order
        if self.training:  # the shortest again
            rows = torch.cat([order, order[-1:].expand(-len(order) % GROUPS_ROUNDED)])
        with _fast(order.device.type) if self.training else nullcontext():
            parts = [
                self._read(*({key: value[some] for key, value in told.items()} for told in (features, present)))
                for some in torch.split(rows, TOGETHER)
            ]
        return torch.cat(parts)[: len(order)][order.argsort()]

    def _read(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        sides = [side(features, present) for side in self.sides.values()]
        for layer in self.extractor:
            sides[0] = through(layer, sides[0])
        if len(sides) == 1:
            sides = [self.blocks[0](sides[0])]
        else:
            tm, mt = sides
            for block in self.blocks:
                mt, tm = block(mt, tm)
            sides = [tm, mt]
        return torch.stack([side.states[:, 0].float() for side in sides], 1)

    def judge(
        self,
        states: Tensor,
        features: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Gives the logits [N, C] of the states [N, M, d]; the features and what was present change nothing."""
        if self.classifier is not None and len(self.modalities) > 1:
            logits: Tensor = self.classifier(states.flatten(1))
        else:
            logits = torch.stack(self._alone(states)).mean(0)
        return logits / self.temperature

    def _alone(self, states: Tensor) -> list[Tensor]:
        """Gives what each side says alone, M x [N, C]."""
        return [head(self.dropout(state)) for head, state in zip(self.heads, states.unbind(1), strict=True)]

    def start_from_pretrained(self) -> None:
        """Loads the layers that the shape names; a checkpoint holds them already.

        Raises:
            WeightsError: they are not here.
            ConfigError: they have other sizes.
        """
        from mer_agent.models.joint_pretrained import load_layers

        load_layers(self, language=self.pretrained["language"], vision=self.pretrained["vision"])

    def stream(self) -> Stream:
        """Gives a new conversation, to be fed utterance by utterance. Put the model in `eval()` first."""
        if self.training:
            raise RuntimeError("model.eval() first: dropout would make a live conversation random")
        return Stream(self)


@contextmanager
def _fast(device: str) -> Iterator[None]:
    """Computes in bfloat16 meanwhile, for training; what is judged and what runs live is in full precision.

    On a CPU the fused attention is slower than the plain one for sequences as short as these.
    """
    plain = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
    with torch.autocast(device, torch.bfloat16), plain:
        yield
