"""The record of a training run: everything that a report needs, in one small JSON file.

It holds the recipe, the seed, the revision of the source tree, a fingerprint of the data, every epoch's scores and, of
the chosen epoch, each utterance's label, prediction and confidence: what statistics are computed from later.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mer_agent.errors import DataError
from mer_agent.models.batch import NO_LABEL, Batch
from mer_agent.models.data.datasets import Corpus
from mer_agent.models.training.metrics import fit_temperature, scores

FORMAT = 2
"""Version of the record's layout."""

JUDGED = ("valid", "test")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@torch.no_grad()
def record_of(
    model: nn.Module,
    parts: Mapping[str, Batch],
    corpus: Corpus,
    recipe: dict[str, Any],
    seed: int,
    epochs: list[dict[str, Any]],
    took_s: float,
) -> dict[str, Any]:
    """Fits the temperature of a model that holds its chosen weights, and gives the run's record.

    Args:
        model: with the weights of the epoch that was chosen on validation; its temperature is set here.
        parts: the splits, on the model's device.
        corpus: the data.
        recipe: the recipe's fields.
        seed: of the run.
        epochs: the scores of each epoch.
        took_s: how long the run took.
    """
    model.eval()
    valid = parts["valid"]
    known = valid.labels != NO_LABEL
    temperature = fit_temperature(model(valid).logits[known].cpu(), valid.labels[known].cpu())
    model.temperature.fill_(temperature)  # type: ignore[operator]
    judged: dict[str, Any] = {}
    predictions: dict[str, Any] = {}
    for split in JUDGED:
        batch = parts[split]
        known = batch.labels != NO_LABEL
        probabilities, labels = model(batch).logits.softmax(-1)[known].cpu(), batch.labels[known].cpu()
        judged[split] = scores(probabilities, labels, corpus.labels)
        predictions[split] = pack(probabilities, labels) | {"dialogues": _dialogues(batch.dialogue[known], corpus)}
    return {
        "format": FORMAT,
        "recipe": json.loads(json.dumps(recipe)),
        "data": corpus.name,
        "fingerprint": fingerprint(corpus),
        "label_set": corpus.label_set,
        "labels": list(corpus.labels),
        "protocol": "clean",
        "seed": seed,
        "revision": git_revision(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "temperature": temperature,
        "took_s": round(took_s, 1),
        **judged,
        "epochs": json.loads(json.dumps(epochs), parse_float=lambda digits: round(float(digits), 3)),
        "predictions": predictions,
    }


def pack(probabilities: Tensor, labels: Tensor) -> dict[str, Any]:
    """Gives what was true and what was said of N labelled utterances, in short.

    `labels` and `called` are strings of N digits (0 to 9, a to z), each the index of a label; `confidence` is that
    of the label called, in thousandths.
    """
    confidence, called = probabilities.max(-1)
    return {
        "labels": "".join(_DIGITS[k] for k in labels.tolist()),
        "called": "".join(_DIGITS[k] for k in called.tolist()),
        "confidence": [round(1000 * value) for value in confidence.tolist()],
    }


def unpack(predictions: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Gives labels [N], predicted labels [N] (both int64) and confidences [N] of what `pack` gave."""
    labels, called = (torch.tensor([_DIGITS.index(c) for c in predictions[key]]) for key in ("labels", "called"))
    return labels, called, torch.tensor(predictions["confidence"]) / 1000


def _dialogues(dialogue: Tensor, corpus: Corpus) -> list[tuple[str, int]]:
    """Gives kind and number of utterances of each dialogue, in their order."""
    each, lengths = torch.unique_consecutive(dialogue.cpu(), return_counts=True)
    return [(corpus.kind[k], n) for k, n in zip(each.tolist(), lengths.tolist(), strict=True)]


def fingerprint(corpus: Corpus) -> str:
    """Gives 16 hexadecimal digits that change with utterances, their order, labels, speakers, splits or features.

    Of a feature's values only their mean size and spread count, to four digits: the encoders' last bits differ from one
    processor to another, and a record is still of the same data.
    """
    batch = corpus.batch
    told: list[Any] = [corpus.labels, corpus.split, list(batch.names), batch.dialogue.tolist()]
    told += [batch.speakers.tolist(), batch.labels.tolist()]
    for name in sorted(batch.features):
        present = batch.present[name]
        rows = batch.features[name][present].double()
        known = rows[rows.isfinite()]
        size = [f"{value:.4g}" for value in (known.abs().mean().item(), known.std().item())]
        told.append([name, rows.shape[-1], int(present.sum()), *size])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record, a field a line; it is either there as a whole or not at all."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in record.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Gives the record at `path`.

    Raises:
        DataError: it can't be read, is of another format, or does not hold together.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise DataError(f"{path} has the format {record['format']}; this version reads {FORMAT}: run it again")
        for split in JUDGED:
            told = record["predictions"][split]
            labels, called, confidence = unpack(told)
            rows = sum(n for _, n in told["dialogues"])
            if not len(labels) == len(called) == len(confidence) == rows == record[split]["n"]:
                raise ValueError(f"its {split} predictions are incomplete")
            found = 100 * (labels == called).double().mean().item()
            if not math.isclose(found, record[split]["accuracy"], abs_tol=1e-6):
                raise ValueError(f"its {split} predictions are not those of its scores")
    except OSError as error:
        raise DataError(f"can't read the record {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"the record {path} is damaged ({error}): remove it and run it again") from error
    return record


def git_revision() -> str | None:
    """Gives the revision of the source tree, None outside of one."""
    try:
        found = subprocess.run(  # noqa: S603  # a fixed command
            ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short=12", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
