"""What records say: measures of a run, and how far the mean over its seeds can be trusted.

Protocol `clean` reads the epoch that validation chose. Protocol `paper` reads the epoch that is best on the test split,
which no one could choose without looking; its figures are those of the same runs and never stand beside the others.

The papers' weighted average accuracy: Shou et al. 2023, eq. 21, is introduced as a mean of per-class accuracies whose
weights are "inversely proportional to the number of samples". Its own table says otherwise: with the counts of the test
split as weights, CT-Net's row gives 68.01 (printed: 68.01), with inverse weights 66.06. Weighted by counts it is plain
accuracy, and so `waa` equals `accuracy` here; `waa_inverse` is what the sentence says.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from mer_agent.models.training.metrics import confidence_error
from mer_agent.models.training.records import unpack

Protocol = Literal["clean", "paper"]
PROTOCOLS: tuple[Protocol, ...] = ("clean", "paper")

MEASURES = ("weighted_f1", "accuracy", "waa", "waa_inverse", "macro_f1", "ece")

Counts = NDArray[np.float64]
"""How often each label (second axis from behind) was called each class (last)."""


def measures(record: dict[str, Any], split: str = "test") -> dict[str, Any]:
    """Gives a run's measures on a split, in percent: those of `MEASURES`, and `per_class` (F1 of each label)."""
    labels, called, confidence = unpack(record["predictions"][split])
    every = range(len(record["labels"]))
    truth, said = labels.numpy(), called.numpy()
    there = np.bincount(truth, minlength=len(every))
    recall = recall_score(truth, said, labels=every, average=None, zero_division=0)
    inverse = np.divide(1.0, there, where=there > 0, out=np.zeros(len(every)))
    f1 = f1_score(truth, said, labels=every, average=None, zero_division=0)
    accuracy = 100 * accuracy_score(truth, said)
    return {
        "weighted_f1": 100 * f1_score(truth, said, labels=every, average="weighted", zero_division=0),
        "accuracy": accuracy,
        "waa": accuracy,
        "waa_inverse": 100 * float(np.average(recall, weights=inverse)),
        "macro_f1": 100 * float(f1.mean()),
        "ece": confidence_error(confidence, called == labels),
        "per_class": {name: 100 * float(f1[k]) for k, name in enumerate(record["labels"])},
    }


def by_kind(record: dict[str, Any], split: str = "test") -> dict[str, float]:
    """Gives weighted F1 of each kind of dialogue (improvised, scripted); they differ, since scripts recur."""
    told = record["predictions"][split]
    tables = _tables(record, split)
    kinds = np.array([kind for kind, _ in told["dialogues"]])
    return {kind: float(_weighted_f1(tables[kinds == kind].sum(0))) for kind in sorted(set(kinds.tolist()))}


def best_on_test(record: dict[str, Any]) -> dict[str, float]:
    """Gives weighted F1 and accuracy of the epoch that is best on the test split: protocol `paper`."""
    best = max(record["epochs"], key=lambda epoch: float(epoch["test"]["weighted_f1"]))["test"]
    return {"weighted_f1": best["weighted_f1"], "accuracy": best["accuracy"]}


def summary(records: Sequence[dict[str, Any]], protocol: Protocol) -> dict[str, dict[str, float | None]]:
    """Gives mean and sample deviation (None for a single run) of each measure over the runs of one recipe."""
    each = [measures(r) if protocol == "clean" else best_on_test(r) for r in records]
    spread = {key: mean_and_deviation([run[key] for run in each]) for key in each[0] if key != "per_class"}
    if protocol == "clean":
        spread["valid_weighted_f1"] = mean_and_deviation([r["valid"]["weighted_f1"] for r in records])
    return spread


def mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    """Gives both, rounded to hundredths."""
    deviation = round(statistics.stdev(values), 2) if len(values) > 1 else None
    return {"mean": round(statistics.mean(values), 2), "deviation": deviation}


def compare(
    records: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]], *, resamples: int = 2000
) -> dict[str, float | list[float] | None]:
    """Gives how much better (weighted F1, test) some runs are than a baseline's, and how sure that is.

    `difference` is that of the means over the seeds. `interval` is its 95 % bootstrap interval: the test *dialogues*
    are drawn anew, the same for both, since the utterances of a dialogue are not independent; the seeds are kept. It
    tells what other dialogues would change. `p` is that of Welch's t-test over the seeds, None with fewer than two: it
    tells what other seeds would change (the papers' t-test names no kind).
    """
    ours, theirs = (np.stack([_tables(run, "test") for run in runs]) for runs in (records, baseline))  # [S, D, C, C]

    def difference(drawn: NDArray[np.int64], axis: int = -1) -> Counts:
        means = [_weighted_f1(np.moveaxis(t[:, drawn], 0, -3).sum(-4)).mean(-1) for t in (ours, theirs)]
        gained: Counts = means[0] - means[1]
        return gained

    every = np.arange(ours.shape[1])
    found = stats.bootstrap(
        (every,), difference, n_resamples=resamples, batch=200, vectorized=True, method="percentile", rng=0
    )
    p = None
    if min(len(records), len(baseline)) > 1:
        scores = ([run["test"]["weighted_f1"] for run in runs] for runs in (records, baseline))
        p = float(stats.ttest_ind(*scores, equal_var=False).pvalue)
    low, high = found.confidence_interval
    return {
        "difference": round(float(difference(every)), 2),
        "interval": [round(float(low), 2), round(float(high), 2)],
        "p": None if p is None else round(p, 4),
    }


def confusion(records: Sequence[dict[str, Any]], split: str = "test") -> Counts:
    """Gives how often each label (row) was called each class (column), in percent of the label, over all runs."""
    every = range(len(records[0]["labels"]))
    tables = []
    for record in records:
        labels, called, _ = unpack(record["predictions"][split])
        tables.append(confusion_matrix(labels.numpy(), called.numpy(), labels=every, normalize="true"))
    mean: Counts = 100 * np.mean(tables, 0)
    return mean


def _tables(record: dict[str, Any], split: str) -> Counts:
    """Gives the counts [D, C, C] of each dialogue."""
    told = record["predictions"][split]
    labels, called, _ = (part.numpy() for part in unpack(told))
    classes, lengths = len(record["labels"]), [n for _, n in told["dialogues"]]
    tables = np.zeros((len(lengths), classes, classes))
    np.add.at(tables, (np.repeat(np.arange(len(lengths)), lengths), labels, called), 1)
    return tables


def _weighted_f1(tables: Counts) -> Counts:
    """[..., C, C] -> [...], in percent; what scikit-learn computes, for thousands of tables at once."""
    hits, there, called = tables.diagonal(axis1=-2, axis2=-1), tables.sum(-1), tables.sum(-2)
    f1 = 2 * hits / np.maximum(there + called, 1)
    weighted: Counts = 100 * (f1 * there).sum(-1) / np.maximum(there.sum(-1), 1)
    return weighted
