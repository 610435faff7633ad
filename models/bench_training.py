"""How much faster training is with the graph of a whole batch built at once than with Python loops over edges."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.context import speaker_slots
from mer_agent.models.dialogue_gcn import DialogueGCN

SPECS = (
    FeatureSpec("text/t@1", "text", 768),
    FeatureSpec("audio/a@1", "audio", 256),
    FeatureSpec("audio/b@1", "audio", 7),
)
"""Sizes of the features that IEMOCAP is trained with by default."""


class LiteralDialogueGCN(DialogueGCN):
    """The same model with the same weights, its edges scored, typed and listed one by one.

    That is how the published program of DialogueGCN makes them, and the ones that descend from it. What costs time there
    for no reason, such as searching for an edge's speakers in a tensor, is left out: this is the loop at its best.
    """

    def edges(self, context: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gives what the fast one gives, the edges in the same order."""
        projected = self.edge_attention(context)
        slots = self.speakers + 1
        kinds: dict[tuple[int, int, bool], int] = {}
        for late in (False, True):
            for first in range(slots):
                for second in range(slots):
                    kinds[first, second, late] = len(kinds)
        who = speaker_slots(batch.speakers, self.speakers).tolist()
        index: list[list[int]] = []
        relation: list[int] = []
        weight: list[Tensor] = []
        own: list[Tensor] = []
        start = 0
        for length in torch.unique_consecutive(batch.dialogue, return_counts=True)[1].tolist():
            for i in range(start, start + length):
                # From the farthest ahead to the farthest back, as the fast one has them.
                near = range(min(i + self.future, start + length - 1), max(i - self.window, start) - 1, -1)
                scores = torch.stack([projected[i] @ context[j] for j in near]).softmax(0)
                for k, j in enumerate(near):
                    index.append([j, i])
                    weight.append(scores[k])
                    relation.append(kinds[who[i], who[j], j > i])
                    if i == j:
                        own.append(scores[k])
            start += length
        return torch.tensor(index).T, torch.tensor(relation), torch.stack(weight), torch.stack(own)


def made_up(dialogues: int = 120, length: int = 43, seed: int = 0) -> Batch:
    """Gives dialogues of random numbers, as many and as long on average as IEMOCAP's training split has (5,163 in 120).

    Lengths go evenly from a half to one and a half of `length`.
    """
    random = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(0.5 * length, 1.5 * length, dialogues).round().long().clamp_min(1)
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
    """Trains DialogueGCN both ways on the same data with the same batches, in turns.

    Each epoch is forward, loss, backward and an Adam step over all dialogues, `batch_dialogues` at a time. Each round
    is `fast_epochs` of the fast one and one of the literal one; the best epoch of each counts, since other programs
    only ever make things slower.

    Args:
        data: the training split; `made_up()` if not given.
        batch_dialogues: dialogues in a batch.
        rounds: how often the two take turns.
        fast_epochs: epochs of the fast one a round.
        threads: torch threads.

    Returns:
        `ratio`: epochs a second of the fast one over those of the literal one; both of these; `edges_ratio`, of making
        the edges alone, forward and without gradients; and the number of dialogues, utterances and edges.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
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
    literal = LiteralDialogueGCN(specs, classes)
    literal.load_state_dict(fast.state_dict())
    batches = [data.dialogues(some) for some in torch.unique_consecutive(data.dialogue).split(batch_dialogues)]
    _epoch(fast, batches[:1])  # warms up what torch makes on its first call
    fast_s, literal_s = [], []
    for _ in range(rounds):
        fast_s.append(min(_epoch(fast, batches) for _ in range(fast_epochs)))
        literal_s.append(_epoch(literal, batches))
    edges = {model: _edges_s(model, batches) for model in (fast, literal)}
    return {
        "ratio": round(min(literal_s) / min(fast_s), 2),
        "edges_ratio": round(edges[literal] / edges[fast], 1),
        "fast_epochs_per_s": round(1 / min(fast_s), 4),
        "literal_epochs_per_s": round(1 / min(literal_s), 4),
        "dialogues": len(torch.unique_consecutive(data.dialogue)),
        "utterances": len(data),
        "edges": sum(fast.edges(torch.zeros(len(b), fast.context.dimension), b)[0].shape[1] for b in batches),
        "batch_dialogues": batch_dialogues,
        "threads": torch.get_num_threads(),
    }


def _epoch(model: DialogueGCN, batches: list[Batch]) -> float:
    """Trains one epoch; gives the seconds that it took."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    model.train()
    started = time.perf_counter()
    for batch in batches:
        loss = functional.cross_entropy(model(batch).logits, batch.labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return time.perf_counter() - started


@torch.no_grad()
def _edges_s(model: DialogueGCN, batches: list[Batch]) -> float:
    """Gives the seconds that making the edges of all batches takes."""
    contexts = [torch.zeros(len(batch), model.context.dimension) for batch in batches]
    started = time.perf_counter()
    for context, batch in zip(contexts, batches, strict=True):
        model.edges(context, batch)
    return time.perf_counter() - started
