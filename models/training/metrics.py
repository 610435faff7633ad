"""How good predictions are: F1, accuracy and the honesty of confidences. All figures are in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Gives how often each label (row) was called each class (column), int64 [C, C]."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)


def scores(probabilities: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Gives weighted and macro F1, accuracy, ECE and each class's own figures.

    Args:
        probabilities: [N, C].
        labels: int64 [N], all of them real.
        names: the C class names.

    F1 of a class that was neither there nor predicted is 0, as in scikit-learn with `zero_division=0`; weighted F1
    weighs each class by its count among the labels.
    """
    table = confusion(probabilities.argmax(-1), labels, len(names)).double()
    hits, support, called = table.diagonal(), table.sum(1), table.sum(0)
    f1 = 2 * hits / (support + called).clamp_min(1)
    precision, recall = hits / called.clamp_min(1), hits / support.clamp_min(1)
    total = support.sum().clamp_min(1)
    return {
        "weighted_f1": 100 * float((f1 * support).sum() / total),
        "macro_f1": 100 * float(f1.mean()),
        "accuracy": 100 * float(hits.sum() / total),
        "ece": calibration_error(probabilities, labels),
        "per_class": {
            name: {
                "f1": 100 * float(f1[k]),
                "precision": 100 * float(precision[k]),
                "recall": 100 * float(recall[k]),
                "n": int(support[k]),
            }
            for k, name in enumerate(names)
        },
        "n": len(labels),
    }


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Gives the expected calibration error: mean gap between confidence and accuracy over equal bins, by their size.

    Source: Guo et al. 2017, On calibration of modern neural networks, with 15 bins.
    """
    confidence, predicted = probabilities.max(-1)
    return confidence_error(confidence, predicted == labels, bins)


def confidence_error(confidence: Tensor, right: Tensor, bins: int = 15) -> float:
    """Gives the same from the confidence [N] of each prediction and whether it was right."""
    if len(right) == 0:
        return 0.0
    slot = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = right.double() - confidence.double()
    return 100 * float(
        torch.zeros(bins, dtype=torch.double).index_add_(0, slot.cpu(), gap.cpu()).abs().sum() / len(right)
    )


_TEMPERATURES = torch.logspace(-0.7, 0.7, 281, dtype=torch.double)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Gives the T > 0 for which softmax(logits / T) has the least negative log-likelihood.

    A search over a fine logarithmic grid (0.2 to 5): one number needs no optimiser that may fail to converge.
    """
    losses = [torch.nn.functional.cross_entropy(logits.double() / t, labels) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(torch.stack(losses).argmin())])


def fit_sureness(logits: Tensor, labels: Tensor) -> float:
    """Gives the T > 0 for which the likeliest label of softmax(logits / T) is as likely, on average, as it is right.

    Where a model can't tell when it is wrong, that is more cautious than the least negative log-likelihood, which is
    bought by being surer of what it gets right. The same search.
    """
    right = (logits.argmax(1) == labels).double().mean()
    sure = torch.stack([(logits.double() / t).softmax(1).amax(1).mean() for t in _TEMPERATURES])
    return float(_TEMPERATURES[int((sure - right).abs().argmin())])


def agreement(said: Tensor, truth: Tensor) -> float:
    """Gives the concordance correlation coefficient (Lin 1989) of two series [N]: 1 where they are the same."""
    said, truth = said.double(), truth.double()
    shared = ((said - said.mean()) * (truth - truth.mean())).mean()
    spread = said.var(unbiased=False) + truth.var(unbiased=False) + (said.mean() - truth.mean()) ** 2
    return float(2 * shared / spread.clamp_min(1e-12))
