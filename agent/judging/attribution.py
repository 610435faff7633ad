"""What the agent said beside what is true: who was heard, how well it was judged, and which stage cost what.

A true utterance is told what the predictions say that overlap it, each weighted by how long it does; one that nothing
overlaps was missed, and counts as wrong. Utterances without a label are not judged, but their words and speakers are
compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mer_agent.judging.gold import overlap_ns
from mer_agent.judging.truth import Case, named
from mer_agent.models.bench.speakers import error_s
from mer_agent.models.live import asr_noise
from mer_agent.models.perception.fit_voice_space import Voices
from mer_agent.models.training import regression
from mer_agent.models.training.metrics import calibration_error, scores
from mer_agent.streams.types import NS_PER_S, Prediction

_CLEARLY_NS = 100_000_000
"""A shorter overlap is a matter of where exactly speech ends."""


@dataclass(frozen=True, slots=True)
class Played:
    """What the agent said of a recording while these stages were as they are live, the others true."""

    case: Case
    found: frozenset[str]
    predictions: tuple[Prediction, ...]


def attribute(
    steps: Sequence[Sequence[Played]],
    spared: Mapping[str, Sequence[Played]],
    labels: Sequence[str],
    stages: Sequence[str],
) -> dict[str, Any]:
    """Gives what each stage costs.

    Args:
        steps: all recordings as they are with the truth, then with one more of the `stages` as it is live.
        spared: stage -> all recordings as they are live but for this one.
        labels: the checkpoint's.
        stages: what each step takes away.

    Returns:
        `drop`, what live loses against gold in weighted F1, with its interval; `steps`, `if_perfect`; `heard`, how
        well speech was cut, written and told apart live; `kinds`, the same for each kind of recording.
    """
    kinds = sorted({played.case.kind for played in steps[0]})
    figures = _attributed(steps, spared, labels, stages)
    if len(kinds) > 1:
        figures["kinds"] = {
            kind: _attributed(
                [_of(kind, own) for own in steps],
                {stage: _of(kind, own) for stage, own in spared.items()},
                labels,
                stages,
            )
            for kind in kinds
        }
    return figures


def _of(kind: str, played: Sequence[Played]) -> list[Played]:
    return [one for one in played if one.case.kind == kind]


def _attributed(
    steps: Sequence[Sequence[Played]],
    spared: Mapping[str, Sequence[Played]],
    labels: Sequence[str],
    stages: Sequence[str],
) -> dict[str, Any]:
    told = [judged(own, labels) for own in steps]
    scored = [score(*each, labels) for each in told]
    rows = [{"stage": "gold", **scored[0]}]
    for stage, before, now in zip(stages, scored[:-1], scored[1:], strict=True):
        rows.append({"stage": stage, **now, "lost": round(before["weighted_f1"] - now["weighted_f1"], 2)})
    perfect = {}
    for stage, own in spared.items():
        figures = score(*judged(own, labels), labels)
        perfect[stage] = {**figures, "gained": round(figures["weighted_f1"] - scored[-1]["weighted_f1"], 2)}
    low, high = interval(told[0], told[-1], len(labels))
    drop = {"weighted_f1": round(scored[0]["weighted_f1"] - scored[-1]["weighted_f1"], 2), "low": low, "high": high}
    return {"drop": drop, "steps": rows, "if_perfect": perfect, "heard": heard(steps[-1])}


def judged(played: Sequence[Played], labels: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Gives what all true utterances with a label were told, [N, C + 1], the last for missed, and their labels [N]."""
    rows, wanted = [], []
    for one in played:
        for truth in one.case.truth:
            label = named(truth.label, labels)
            if label is None:
                continue
            row = torch.zeros(len(labels) + 1)
            for prediction in one.predictions:
                if prediction.distribution:
                    utterance = prediction.utterance
                    weight = overlap_ns((truth.start_ns, truth.until_ns), (utterance.start_ns, utterance.end_ns))
                    said = torch.tensor([prediction.distribution[name] for name in labels])
                    row[: len(labels)] += weight / NS_PER_S * said
            if not row.any():
                row[-1] = 1.0
            rows.append(row / row.sum())
            wanted.append(label)
    return torch.stack(rows) if rows else torch.zeros(0, len(labels) + 1), torch.tensor(wanted, dtype=torch.int64)


def score(told: Tensor, wanted: Tensor, labels: Sequence[str]) -> dict[str, Any]:
    """Gives the scores in percent; macro F1 is over the labels that occur, ECE over what was heard."""
    every = scores(told, wanted, (*labels, "missed"))
    f1 = [own["f1"] for own in every["per_class"].values() if own["n"]]
    there = told[:, -1] < 1
    return {
        "weighted_f1": round(every["weighted_f1"], 2),
        "macro_f1": round(sum(f1) / max(1, len(f1)), 2),
        "accuracy": round(every["accuracy"], 2),
        "ece": round(calibration_error(told[there, :-1], wanted[there]), 2),
        "missed": int((~there).sum()),
        "n": len(wanted),
    }


def interval(gold: tuple[Tensor, Tensor], live: tuple[Tensor, Tensor], classes: int) -> tuple[float, float]:
    """Gives the 95 % interval of the drop in weighted F1, by paired bootstrap over utterances."""
    n = len(gold[1])
    if n == 0:
        return 0.0, 0.0
    drawn = torch.randint(n, (regression.RESAMPLES, n), generator=torch.Generator().manual_seed(0))
    before, after = (
        regression.weighted_f1((wanted * (classes + 1) + told.argmax(1))[drawn], classes + 1)
        for told, wanted in (gold, live)
    )
    low, high = torch.quantile(before - after, torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return round(low, 2), round(high, 2)


def heard(played: Sequence[Played]) -> dict[str, float | None]:
    """Gives, in percent, how well speech was cut, written and told apart; None where nobody knows the truth.

    Of the true utterances: `missed` ones, `split` ones that became several, `merged` ones that share a prediction with
    another. Of the predictions: `invented` ones that are of no true utterance. `word_errors` of the true words,
    `speaker_errors` of the seconds of speech that were heard, numbers matched to names as well as possible.
    """
    true = missed = split = merged = predicted = invented = 0
    errors = said = 0
    wrong_s = total_s = 0.0
    for one in played:
        overlaps = np.array(
            [
                [
                    overlap_ns((t.start_ns, t.until_ns), (p.utterance.start_ns, p.utterance.end_ns))
                    for p in one.predictions
                ]
                for t in one.case.truth
            ]
        ).reshape(len(one.case.truth), len(one.predictions))
        clear = overlaps >= _CLEARLY_NS
        true, predicted = true + len(overlaps), predicted + len(one.predictions)
        missed += int((~overlaps.any(1)).sum())
        split += int((clear.sum(1) > 1).sum())
        merged += int(clear[:, clear.sum(0) > 1].any(1).sum())
        invented += int((~overlaps.any(0)).sum())
        if "words" in one.case.known:
            meant = asr_noise.plain(" ".join(t.text or "" for t in one.case.truth))
            written = asr_noise.plain(" ".join(p.utterance.text for p in one.predictions))
            errors, said = errors + word_errors(meant, written), said + len(meant)
        if "speakers" in one.case.known and clear.any():
            at, by = clear.nonzero()
            seconds = overlaps[at, by] / NS_PER_S
            names = np.array([str(one.case.truth[row].speaker) for row in at])
            voices = Voices(np.zeros((len(at), 0)), seconds, names, np.zeros(len(at), np.bool_))
            wrong_s += sum(error_s([one.predictions[column].utterance.speaker for column in by], voices))
            total_s += float(seconds.sum())

    def percent(part: float, whole: float) -> float | None:
        return round(100 * part / whole, 2) if whole else None

    return {
        "missed": percent(missed, true),
        "split": percent(split, true),
        "merged": percent(merged, true),
        "invented": percent(invented, predicted),
        "word_errors": percent(errors, said),
        "speaker_errors": percent(wrong_s, total_s),
    }


def word_errors(meant: Sequence[str], written: Sequence[str]) -> int:
    """Gives the least number of words to replace, leave out or put in that makes one of the other (Levenshtein)."""
    row = list(range(len(written) + 1))
    for number, word in enumerate(meant, 1):
        before, row[0] = row[0], number
        for at, own in enumerate(written, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (word != own))
    return row[-1]
