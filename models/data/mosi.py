"""CMU-MOSI: monologues about films, positive or negative, with features of all three modalities for each utterance.

`text_train.csv`, `audio_train.csv`, `video_train.csv` and the same for `test` have a row for each utterance: 100, 73
and 100 features, and the label last (1 is positive). They have no ids, and their rows are *sorted by label*: first all
positive ones, then all negative ones. Read as they stand, neighbours tell the label. `transcripts.csv` (id, words,
number of the video, label) puts that right: videos 1 to 62 are for training and the rest for testing, and in each
split and class the rows come in the order of that file. That reading was found by comparing; what speaks for it is
that the labels agree in every row, that the two pairs of identical text features are the two pairs of identical
sentences, and that the text features tell the number of words (R2 0.6; 0 for any other order that was tried).
Where the labels do not agree the reader refuses.

A video is a dialogue of one speaker, its utterances in the order of their numbers. Whole videos of the training part,
10 % of its rows, are held out to validate. The networks behind the text and face features have seen the labels of all
of the training part, though, so figures on those videos are far too good: choose nothing by them (docs/data/mosi.md).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mer_agent.errors import DataError
from mer_agent.models.data.datasets import Corpus, EncodeTexts, text_features
from mer_agent.models.data.dialogues import Dialogue, Line, Table, gathered, held_out, ordered

MOSI_LABELS = ("negative", "positive")
MOSI_FEATURES = {"text/mosi@1": "text", "audio/mosi@1": "audio", "face/mosi@1": "video"}
"""Feature id of an imported feature -> the first part of its files' names. No encoder of ours makes these."""

LAST_TRAINING_VIDEO = 62


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    text: str
    video: int
    label: int

    @property
    def title(self) -> str:
        return self.id.rpartition("_")[0]

    @property
    def number(self) -> int:
        return int(self.id.rpartition("_")[2])


def load_mosi(
    folder: Path,
    features: Sequence[str] = tuple(MOSI_FEATURES),
    *,
    encode_texts: EncodeTexts | None = None,
    last_training_video: int = LAST_TRAINING_VIDEO,
) -> Corpus:
    """Gives CMU-MOSI, two classes, from `folder`.

    Args:
        folder: holds the CSV files.
        features: `text/mosi@1`, `audio/mosi@1`, `face/mosi@1`, and other `text/...` ids that our encoders make of
            the transcripts (upper case, without punctuation).
        encode_texts: gives text features of those others; the encoder that the feature id names if not given.
        last_training_video: the number of the last video of the training part.

    Raises:
        DataError: a file is missing or malformed, or its labels do not fit the transcripts.
    """
    transcripts = _transcripts(folder / "transcripts.csv")
    training = {r.title: 0 for r in transcripts if r.video <= last_training_video}
    for row in transcripts:
        if row.title in training:
            training[row.title] += 1
    validation = held_out(training)
    by_title: dict[str, list[_Row]] = {}
    for row in transcripts:
        by_title.setdefault(row.title, []).append(row)
    found = [
        Dialogue(
            title,
            "valid" if title in validation else "train" if title in training else "test",
            "monologue",
            tuple(
                Line(row.id, "speaker", row.text, MOSI_LABELS[row.label])
                for row in sorted(rows, key=lambda row: row.number)
            ),
        )
        for title, rows in by_title.items()
    ]
    dialogues = ordered(str(folder), found, MOSI_LABELS)
    lines = [line for dialogue in dialogues for line in dialogue.lines]
    values: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for feature in features:
        if feature in MOSI_FEATURES:
            table: dict[str, list[float]] = {}
            for part, is_training in (("train", True), ("test", False)):
                rows = [row for row in transcripts if (row.title in training) == is_training]
                table |= _features(folder / f"{MOSI_FEATURES[feature]}_{part}.csv", rows)
            values[feature], present[feature] = gathered(str(folder), table, lines)
        elif feature.startswith("text/"):
            values[feature], present[feature] = text_features(feature, [line.text for line in lines], encode_texts)
        else:
            raise DataError(f"mosi has no feature {feature!r}; it has {', '.join(MOSI_FEATURES)} and text/...")
    return Table("mosi", "mosi2", MOSI_LABELS, dialogues, values, present, {}).corpus(features)


def _transcripts(path: Path) -> list[_Row]:
    rows = []
    for number, fields in enumerate(_csv(path), 1):
        try:
            name, text, video, label = fields
            row = _Row(name, text.strip(), int(video), int(label))
            if row.label not in (0, 1):
                raise ValueError(f"the label {row.label} is neither 0 nor 1")
            if not row.title or row.number < 0:
                raise ValueError(f"{name!r} is no id such as VIDEO_3")
        except ValueError as error:
            raise DataError(f"{path}, record {number}: {error}") from error
        rows.append(row)
    return rows


def _features(path: Path, rows: Sequence[_Row]) -> dict[str, list[float]]:
    """Gives the features of each id: the rows of the file are those of `rows`, positive ones first."""
    stored = [row for label in (1, 0) for row in rows if row.label == label]
    records = _csv(path)
    if len(records) != len(stored):
        raise DataError(f"{path} has {len(records)} rows, the transcripts have {len(stored)} of that part")
    found: dict[str, list[float]] = {}
    for number, (row, fields) in enumerate(zip(stored, records, strict=True), 1):
        try:
            *values, label = [float(field) for field in fields]
        except ValueError as error:
            raise DataError(f"{path}, record {number}: {error}") from error
        if label != row.label:
            raise DataError(f"{path}, record {number}: its label is not that of {row.id} in transcripts.csv")
        if not values or not all(map(math.isfinite, values)):
            raise DataError(f"{path}, record {number}: a feature is not a finite number")
        found[row.id] = values
    return found


def _csv(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [fields for fields in csv.reader(file) if fields]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"can't read {path}: {error}") from error
