"""What the live model's card says: scores by part and subset, calibration, when to abstain, valence and arousal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mer_agent.models.ar_iigcn import ARIIGCN
from mer_agent.models.batch import NO_LABEL, Batch
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.ensemble import Ensemble
from mer_agent.models.registry import LiveModel
from mer_agent.models.training.learner import MIDDLE_OF_SCALE
from mer_agent.models.training.metrics import agreement, scores
from mer_agent.streams.types import Modality

Told = tuple[Tensor, Tensor]
"""Probabilities [N, C] and labels [N] of utterances that have one."""

ABSTAIN_RISK = 0.25
"""Share of wrong predictions that the abstain threshold aims at, on validation."""


@torch.no_grad()
def told(model: LiveModel, batch: Batch, modalities: Sequence[Modality] | None = None) -> Told:
    """Gives what the model says of a batch that shows these modalities only (all if not given)."""
    hidden = [spec.id for spec in model.specs if modalities is not None and spec.modality not in modalities]
    known = batch.labels != NO_LABEL
    return model(batch.without(hidden)).logits.softmax(-1)[known], batch.labels[known]


def brief(found: Told) -> dict[str, Any]:
    """Gives the main scores in percent."""
    every = scores(*found, MELD_LABELS)
    return {key: round(float(every[key]), 2) for key in ("weighted_f1", "macro_f1", "accuracy", "ece")} | {
        "n": every["n"]
    }


def subsets(model: LiveModel, batch: Batch) -> dict[str, dict[str, Any]]:
    """Gives the scores of each subset of the modalities that the batch has."""
    there = [m for m in model.modalities if any(batch.present[s.id].any() for s in model.specs if s.modality == m)]
    every = [subset for size in range(1, len(there) + 1) for subset in combinations(there, size)]
    return {"+".join(subset): brief(told(model, batch, subset)) for subset in every}


@torch.no_grad()
def affect(model: ARIIGCN | Ensemble, batch: Batch) -> dict[str, float]:
    """Gives the concordance (CCC) with the raters' valence, arousal and dominance over the rated utterances."""
    if batch.affect is None:
        return {}
    rated = batch.affect.isfinite().all(1)
    said = model.rate(model(batch).states)[rated]
    truth = batch.affect[rated] - MIDDLE_OF_SCALE
    return {
        name: round(agreement(said[:, k], truth[:, k]), 3) for k, name in enumerate(("valence", "arousal", "dominance"))
    }


def risk_by_coverage(found: Told) -> list[tuple[float, float, float]]:
    """Gives (threshold, coverage, risk) for each confidence at which one might begin to abstain, in steps of 0.05.

    Coverage is the share of utterances whose confidence is at least the threshold, risk that of wrong ones among them.
    """
    confidence, predicted = found[0].max(-1)
    wrong = (predicted != found[1]).double()
    curve = []
    for step in range(20):
        kept = confidence >= step / 20
        if kept.any():
            curve.append((step / 20, round(float(kept.double().mean()), 4), round(float(wrong[kept].mean()), 4)))
    return curve


def abstain_below(found: Told, risk: float = ABSTAIN_RISK) -> float:
    """Gives the least confidence in steps of 0.05 at which the risk on these utterances is no more than `risk`."""
    return next((threshold for threshold, _, own in risk_by_coverage(found) if own <= risk), 0.95)


def of(model: ARIIGCN | Ensemble, valid: Mapping[str, Batch], test: Mapping[str, Batch]) -> dict[str, Any]:
    """Gives all figures of a finished model. Test parts are looked at here and nowhere else."""
    chosen = told(model, valid["meld"])
    threshold = abstain_below(chosen)
    figures: dict[str, Any] = {
        "valid": {name: brief(told(model, batch)) for name, batch in valid.items()},
        "test": {name: brief(told(model, batch)) for name, batch in test.items()},
        "meld_test_subsets": subsets(model, test["meld"]),
        "held_out_voices_subsets": subsets(model, valid["voices"]),
        "iemocap_test_subsets": subsets(model, test["iemocap"]),
        "affect_ccc": {"valid": affect(model, valid["iemocap"]), "test": affect(model, test["iemocap"])},
        "abstain": {
            "below": threshold,
            "aim": f"a risk of {ABSTAIN_RISK} on MELD's validation split",
            "meld_test_risk_by_coverage": risk_by_coverage(told(model, test["meld"])),
        },
    }
    every = scores(*told(model, test["meld"]), MELD_LABELS)
    figures["meld_test_per_class"] = {
        name: {key: round(value, 2) for key, value in own.items()} for name, own in every["per_class"].items()
    }
    return figures


def draw_risk(figures: Mapping[str, Any], path: Path) -> None:
    """Draws how many predictions are wrong among those that are not withheld, by the share that is given."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    own = figures["abstain"]
    curve = own["meld_test_risk_by_coverage"]
    figure, axes = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
    axes.plot([100 * point[1] for point in curve], [100 * point[2] for point in curve], marker=".")
    for threshold, coverage, risk in curve:
        if threshold == own["below"]:
            axes.annotate(f"abstain below {threshold:.2f}", (100 * coverage, 100 * risk), xytext=(8, -12),
                          textcoords="offset points")  # fmt: skip
            axes.plot([100 * coverage], [100 * risk], "o")
    axes.set_xlabel("predictions given, %")
    axes.set_ylabel("of these wrong, %")
    axes.set_title("live on MELD test, words and speakers as written")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
