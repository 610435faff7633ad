"""Whether a new checkpoint may take the place of the shipped one: both judge the same fixed utterances.

The utterances are those that the live model is validated on (`train_live`): never a test split, which would be tuned on
if it decided anything. A part on which the new one is worse by more than chance (paired bootstrap, Efron and Tibshirani
1993) is enough to refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mer_agent.errors import CheckpointError
from mer_agent.models import checkpoint
from mer_agent.models.batch import Batch
from mer_agent.models.live import live_figures, train_live
from mer_agent.models.live.live_data import Mix
from mer_agent.models.registry import LiveModel

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


def compare(candidate: LiveModel, shipped: LiveModel, parts: Mapping[str, Batch], seed: int = 0) -> list[Comparison]:
    """Gives the comparison of two models of the same labels on each part."""
    found = []
    for name, batch in parts.items():
        cells, classes = [], candidate.classes
        for model in (shipped, candidate):
            probabilities, labels = live_figures.told(model, batch)
            cells.append(labels * classes + probabilities.argmax(-1))
        random = torch.Generator().manual_seed(seed)
        n = len(cells[0])
        drawn = torch.randint(n, (RESAMPLES, n), generator=random)
        old, new = (weighted_f1(cell[drawn], classes) for cell in cells)
        before, now = (float(weighted_f1(cell[None], classes)[0]) for cell in cells)
        tail = (1 - CONFIDENCE) / 2
        low, high = torch.quantile(new - old, torch.tensor([tail, 1 - tail], dtype=torch.double)).tolist()
        found.append(Comparison(name, before, now, low, high, n))
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
    """Gives the comparison of a checkpoint with the shipped one on all parts; see `train_live.load` for the folders.

    Raises:
        CheckpointError: one of them can't be loaded, they tell other labels apart, or one reads other features.
    """
    candidate, card = checkpoint.load_live(name_or_path)
    shipped, shipped_card = checkpoint.load_live(against)
    if card.labels != shipped_card.labels:
        raise CheckpointError(f"{card.name} and {shipped_card.name} have other labels: they can't be compared")
    for path, own in ((name_or_path, card), (against, shipped_card)):
        if gone := [spec.id for spec in own.features if spec.id not in train_live.RECIPE.features]:
            raise CheckpointError(
                f"{path} reads {', '.join(gone)}, which is in none of the sets to compare on (they have "
                f"{', '.join(train_live.RECIPE.features)}); compare by mer-agent evaluate --end-to-end instead"
            )
    parts = train_live.load(data_dir, encoders, train_live.RECIPE, Mix(), say).valid
    return compare(candidate, shipped, parts)
