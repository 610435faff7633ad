"""Whether a new checkpoint may take the place of the shipped one: both judge the same fixed utterances.

The utterances are those that the live model is validated on (`live_parts`): never a test split, which would be tuned on
if it decided anything. A part on which the new one is worse by more than chance (paired bootstrap, Efron and Tibshirani
1993) is enough to refuse it. A shipped one whose features nobody makes any more is held to what it once said
(`verdicts`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mer_agent.errors import CheckpointError
from mer_agent.models import checkpoint
from mer_agent.models.live import live_parts, train_live
from mer_agent.models.live.live_data import Mix
from mer_agent.models.training import verdicts
from mer_agent.models.training.verdicts import Verdicts

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Comparison:
    """Weighted F1 (percent) of both on one part, and the interval of the difference."""

    part: str
    shipped: float
    candidate: float
    low: float
    high: float
    n: int

    @property
    def worse(self) -> bool:
        """Whether the new one is worse by more than chance."""
        return self.high < 0


def compare(candidate: Verdicts, shipped: Verdicts, classes: int, seed: int = 0) -> list[Comparison]:
    """Gives the comparison of what two models said, on each part that holds the same utterances in both."""
    found = []
    for name, now in candidate.items():
        before = shipped.get(name)
        if before is None or not torch.equal(before[:, 0], now[:, 0]):
            continue
        cells = [labels * classes + said for labels, said in (own.long().unbind(1) for own in (before, now))]
        random = torch.Generator().manual_seed(seed)
        n = len(now)
        drawn = torch.randint(n, (RESAMPLES, n), generator=random)
        old, new = (weighted_f1(cell[drawn], classes) for cell in cells)
        first, second = (float(weighted_f1(cell[None], classes)[0]) for cell in cells)
        tail = (1 - CONFIDENCE) / 2
        low, high = torch.quantile(new - old, torch.tensor([tail, 1 - tail], dtype=torch.double)).tolist()
        found.append(Comparison(name, first, second, low, high, n))
    return found


def weighted_f1(cells: Tensor, classes: int) -> Tensor:
    """Gives the weighted F1 in percent [R] of R samples of predictions [R, n], each label * classes + prediction."""
    tables = torch.zeros(len(cells), classes**2, dtype=torch.double)
    tables.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.double))
    tables = tables.view(-1, classes, classes)
    hits, support, called = tables.diagonal(dim1=1, dim2=2), tables.sum(2), tables.sum(1)
    f1 = 2 * hits / (support + called).clamp_min(1)
    return 100 * (f1 * support).sum(1) / support.sum(1)


def check(
    name_or_path: str | Path, against: str | Path, data_dir: Path, encoders: Path, say: Callable[[str], None]
) -> list[Comparison]:
    """Gives the comparison of a checkpoint with the shipped one on all parts; see `live_parts.load` for the folders.

    Raises:
        CheckpointError: one of them can't be loaded, they tell other labels apart, the candidate reads features that
            nobody makes, or the shipped one does and what it once said isn't there or is of other utterances.
    """
    candidate, card = checkpoint.load_live(name_or_path)
    shipped, shipped_card = checkpoint.load_live(against)
    if card.labels != shipped_card.labels:
        raise CheckpointError(f"{card.name} and {shipped_card.name} have other labels: they can't be compared")
    if gone := _unread(card):
        raise CheckpointError(
            f"{name_or_path} reads {', '.join(gone)}, which is in none of the sets to compare on (they have "
            f"{', '.join(train_live.RECIPE.features)}); compare by mer-agent evaluate --end-to-end instead"
        )
    kept = verdicts.read(checkpoint.locate(against), shipped_card.sha256) if _unread(shipped_card) else None
    parts = live_parts.load(data_dir, encoders, train_live.RECIPE, Mix(), say).valid
    said = verdicts.of(candidate, parts)
    if kept is None:
        kept = verdicts.of(shipped, parts)
    found = compare(said, kept, candidate.classes)
    if others := sorted({*said, *kept} - {one.part for one in found}):
        say(f"not compared, since {against} was judged on other utterances there: {', '.join(others)}")
    if not found:
        raise CheckpointError(
            f"no part is made of the utterances on which {against} was judged, so there is nothing to compare: are all "
            f"data in {data_dir}?"
        )
    return found


def _unread(card: checkpoint.Card) -> list[str]:
    """Gives the features that a checkpoint reads and nobody makes any more."""
    return [spec.id for spec in card.features if spec.id not in train_live.RECIPE.features]
