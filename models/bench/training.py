"""How much faster training is with the graph of a whole batch built at once than with Python loops over edges."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.graph import speaker_edges
from mer_agent.models.peers.context import Layout, speaker_slots
from mer_agent.models.peers.dialogue_gcn import DialogueGCN
from mer_agent.models.training.train import flushed_denormals

SPECS = (
    FeatureSpec("text/t@1", "text", 768),
    FeatureSpec("audio/a@1", "audio", 256),
    FeatureSpec("audio/b@1", "audio", 7),
)
"""Sizes of the features that IEMOCAP is trained with by default."""


class LiteralDialogueGCN(DialogueGCN):
    """The same model with the same weights, its edges made one by one as the published program of DialogueGCN does.

    That program, and the many that descend from it, scores whole dialogues at once, but then goes through the edges:
    each one's score is picked out of the tensor of all scores (and in the backward pass each pick makes a tensor of
    zeros of that size), both its speakers are searched for among the parties, its type is found in a dictionary.
    """

    def edges(self, context: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gives what the fast one gives, the edges in the same order."""
        layout = Layout.of(batch.dialogue)
        block = layout.pad(context)
        place = torch.arange(block.shape[1])
        back = place.unsqueeze(1) - place
        near = layout.visible(causal=False) & (back <= self.window) & (-back <= self.future)
        near |= back == 0  # so that padding has something to look at
        scores = self.edge_attention(block) @ block.transpose(1, 2)
        scores = scores.masked_fill(~near, float("-inf")).softmax(-1)
        slots, kinds = layout.pad(speaker_slots(batch.speakers, self.speakers)), _kinds(self.speakers + 1)
        speaks = functional.one_hot(slots, self.speakers + 1)  # [D, T, parties]
        index: list[Tensor] = []
        relation: list[int] = []
        weight: list[Tensor] = []
        own: list[Tensor] = []
        start = 0
        for k, length in enumerate(layout.lengths.tolist()):
            for i in range(length):
                own.append(scores[k, i, i])
                for j in _near(i, self.window, self.future, length):
                    index.append(torch.tensor([start + j, start + i]))
                    weight.append(scores[k, i, j])
                    first, second = ((speaks[k, turn] == 1).nonzero()[0].item() for turn in (i, j))
                    relation.append(kinds[int(first), int(second), j > i])
            start += length
        return torch.stack(index, 1), torch.tensor(relation), torch.stack(weight), torch.stack(own)


class CarefulDialogueGCN(DialogueGCN):
    """The same model again: a Python loop over edges that does nothing in vain, to see what the loop alone costs."""

    def edges(self, context: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gives what the fast one gives, the edges in the same order."""
        asking, asked = self.edge_attention(context).unbind(), context.unbind()
        slots, kinds = speaker_slots(batch.speakers, self.speakers).tolist(), _kinds(self.speakers + 1)
        index: list[list[int]] = []
        relation: list[int] = []
        weight: list[Tensor] = []
        own: list[Tensor] = []
        start = 0
        for length in Layout.of(batch.dialogue).lengths.tolist():
            for i in range(start, start + length):
                near = [start + j for j in _near(i - start, self.window, self.future, length)]
                scores = torch.stack([asking[i] @ asked[j] for j in near]).softmax(0)
                weight.append(scores)
                own.append(scores[near.index(i)])
                for j in near:
                    index.append([j, i])
                    relation.append(kinds[slots[i], slots[j], j > i])
            start += length
        return torch.tensor(index).T, torch.tensor(relation), torch.cat(weight), torch.stack(own)


def _kinds(slots: int) -> dict[tuple[int, int, bool], int]:
    """Gives the number of each edge type: both speakers, and whether j comes after i."""
    kinds: dict[tuple[int, int, bool], int] = {}
    for ahead in (False, True):
        for first in range(slots):
            for second in range(slots):
                kinds[first, second, ahead] = len(kinds)
    return kinds


def _near(i: int, window: int, future: int, length: int) -> range:
    """Gives the places that i looks at, from the farthest ahead to the farthest back, as the fast one has them."""
    return range(min(i + future, length - 1), max(i - window, 0) - 1, -1)


def made_up(dialogues: int = 108, length: float = 48.0, spread: float = 16.0, seed: int = 0) -> Batch:
    """Gives dialogues of random numbers of the size of IEMOCAP's training split: 5,163 utterances in 108 dialogues.

    Lengths are the quantiles of a normal distribution with this mean and deviation, in random order, from 8 on; those
    of IEMOCAP go from 8 to 94 with quartiles of 37, 47 and 58.
    """
    random = torch.Generator().manual_seed(seed)
    quantiles = (torch.randperm(dialogues, generator=random) + 0.5) / dialogues
    lengths = (length + spread * torch.special.ndtri(quantiles)).round().long().clamp_min(8)
    count = int(lengths.sum())
    return Batch(
        {spec.id: torch.randn(count, spec.dimension, generator=random) for spec in SPECS},
        {spec.id: torch.ones(count, dtype=torch.bool) for spec in SPECS},
        torch.randint(2, (count,), generator=random),
        torch.repeat_interleave(torch.arange(dialogues), lengths),
        torch.randint(6, (count,), generator=random),
    )


def bench(
    data: Batch | None = None, *, batch_dialogues: int = 32, rounds: int = 2, fast_epochs: int = 3, threads: int = 1
) -> dict[str, Any]:
    """Trains DialogueGCN, fast and literal, on the same data with the same batches, in turns.

    Each epoch is forward, loss, backward and an Adam step over all dialogues, `batch_dialogues` at a time. Each round
    is `fast_epochs` of the fast one and one of each literal one; the best epoch of each counts, since other programs
    only ever make things slower. Times are this process's CPU time, so with one thread others count little.

    Args:
        data: the training split; `made_up()` if not given.
        batch_dialogues: dialogues in a batch.
        rounds: how often they take turns.
        fast_epochs: epochs of the fast one a round.
        threads: torch threads.

    Returns:
        `ratio`: epochs a (CPU) second of the fast one over those of the literal one; `careful_ratio`: the same over
        those of the careful loop; the epochs a second of all three; and how many dialogues, utterances and edges.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with flushed_denormals():  # for all three, as in any training here
            return _bench(data or made_up(), batch_dialogues, rounds, fast_epochs)
    finally:
        torch.set_num_threads(before)


def _bench(data: Batch, batch_dialogues: int, rounds: int, fast_epochs: int) -> dict[str, Any]:
    specs = [spec for spec in SPECS if spec.id in data.features] or [
        FeatureSpec(key, "text", rows.shape[1]) for key, rows in data.features.items()
    ]
    classes = int(data.labels.max()) + 1
    torch.manual_seed(0)
    fast = DialogueGCN(specs, classes)
    literal, careful = LiteralDialogueGCN(specs, classes), CarefulDialogueGCN(specs, classes)
    literal.load_state_dict(fast.state_dict())
    careful.load_state_dict(fast.state_dict())
    batches = [data.dialogues(some) for some in torch.unique_consecutive(data.dialogue).split(batch_dialogues)]
    _epoch(fast, batches[:1])  # warms up what torch makes on its first call
    epochs: dict[DialogueGCN, int] = {fast: fast_epochs, literal: 1, careful: 1}
    best_s = dict.fromkeys(epochs, float("inf"))
    for _ in range(rounds):
        for model, many in epochs.items():
            best_s[model] = min(best_s[model], *(_epoch(model, batches) for _ in range(many)))
    return {
        "ratio": round(best_s[literal] / best_s[fast], 2),
        "careful_ratio": round(best_s[careful] / best_s[fast], 2),
        "fast_epochs_per_s": round(1 / best_s[fast], 4),
        "literal_epochs_per_s": round(1 / best_s[literal], 4),
        "careful_epochs_per_s": round(1 / best_s[careful], 4),
        "dialogues": len(torch.unique_consecutive(data.dialogue)),
        "utterances": len(data),
        "edges": sum(
            len(speaker_edges(b.speakers, b.dialogue, window=fast.window, future=fast.future).relation) for b in batches
        ),
        "batch_dialogues": batch_dialogues,
        "threads": torch.get_num_threads(),
    }


def _epoch(model: DialogueGCN, batches: list[Batch]) -> float:
    """Trains one epoch; gives the CPU seconds that it took."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    model.train()
    started = time.process_time()
    for batch in batches:
        loss = functional.cross_entropy(model(batch).logits, batch.labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return time.process_time() - started
