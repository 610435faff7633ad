"""MELD with its seven emotions, from the corpus's own CSV files and, where there are any, tables of prosody.

`train.csv`, `dev.csv` and `test.csv` (or `train_sent_emo.csv` and so on, as the corpus calls them) have the columns
Utterance, Speaker, Emotion, Dialogue_ID, Utterance_ID, StartTime and EndTime (`00:16:16,059`, time of the episode).
`train_prosody.csv`, `dev_prosody.csv` and `test_prosody.csv` have a row for each clip, `filename` being
`dia0_utt3.wav`; an utterance without one has no prosody, and rows of clips that the CSV does not list are left out.

Names of characters are dropped: speakers are numbers in order of appearance, as they are live.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mer_agent.errors import DataError
from mer_agent.models.data.datasets import PROSODY_COLUMNS, Corpus, EncodeTexts, text_features
from mer_agent.models.data.dialogues import Dialogue, Line, Table, gathered, ordered
from mer_agent.models.perception.text_features import IN_CONTEXT, Conversation, in_context

MELD_LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
"""In the order of the indices in the published feature files."""

FILES = {"train": "train", "valid": "dev", "test": "test"}
"""Our name of a split -> the corpus's."""

BROKEN_CLIPS = frozenset({"train_dia125_utt3", "dev_dia110_utt7"})
"""Clips that can't be decoded in the release: their words count, their sound and pictures are absent."""

_TIME = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d+)")


def load_meld(
    folder: Path, features: Sequence[str], *, encode_texts: EncodeTexts | None = None, descriptors: Sequence[str] = ()
) -> Corpus:
    """Gives MELD, seven classes, from `folder`.

    Args:
        folder: holds the CSV files.
        features: `text/...` ids that the text encoders make, and `audio/prosody@1`.
        encode_texts: gives text features; the text encoder that the feature id names if not given.
        descriptors: the columns of `audio/prosody@1`, in order.

    Raises:
        DataError: a file is missing or malformed; the message says which and where.
    """
    dialogues = read_dialogues(folder)
    lines = [line for dialogue in dialogues for line in dialogue.lines]
    values: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for feature in features:
        if feature in IN_CONTEXT:
            values[feature], present[feature] = in_context(
                [Conversation.of(d.name, d.split, ((line.speaker, line.text) for line in d.lines)) for d in dialogues],
                feature,
            )
        elif feature.startswith("text/"):
            values[feature], present[feature] = text_features(feature, [line.text for line in lines], encode_texts)
        elif feature == "audio/prosody@1":
            if not descriptors:
                raise DataError("audio/prosody@1 was asked for without naming its descriptors")
            rows = _prosody(folder, descriptors)
            values[feature], present[feature] = gathered(f"the prosody in {folder}", rows, lines)
        else:
            raise DataError(f"meld has no feature {feature!r}: it has text/... and audio/prosody@1")
    return Table("meld", "meld7", MELD_LABELS, dialogues, values, present, {}).corpus(features)


def read_dialogues(folder: Path) -> tuple[Dialogue, ...]:
    """Gives the dialogues of all three splits, the utterances of each in the order in which they end.

    An utterance's id is `train_dia0_utt3`, with the corpus's own name of the split, since the numbers recur in each.
    """
    found: dict[str, Dialogue] = {}
    lines: dict[str, list[Line]] = {}
    for split, ours in FILES.items():
        path = _csv_path(folder, ours)
        for number, row in enumerate(_rows(path), 2):
            try:
                name = f"{ours}_dia{int(row['Dialogue_ID'])}"
                line = Line(
                    f"{name}_utt{int(row['Utterance_ID'])}",
                    row["Speaker"].strip(),
                    mended(row["Utterance"]).strip(),
                    row["Emotion"].strip().lower(),
                    seconds(row["StartTime"]),
                    seconds(row["EndTime"]),
                )
            except KeyError as error:
                raise DataError(f"{path} has no column {error}: give the corpus's own CSV files") from error
            except (ValueError, AttributeError, TypeError) as error:
                raise DataError(f"{path}, record {number}: {error}") from error
            found.setdefault(name, Dialogue(name, split, "scripted", ()))
            lines.setdefault(name, []).append(line)
    whole = [Dialogue(d.name, d.split, d.kind, tuple(lines[name])) for name, d in found.items()]
    return ordered(str(folder), whole, MELD_LABELS)


def mended(text: str) -> str:
    """Gives the text with what cp1252 left in it put right: U+0092, a control character, is an apostrophe."""
    return "".join(c.encode("latin1").decode("cp1252", "ignore") if "\x80" <= c <= "\x9f" else c for c in text)


def seconds(time: str) -> float:
    """Gives the seconds of a time such as `00:16:16,059`; ValueError for anything else."""
    match = _TIME.fullmatch(time.strip())
    if match is None:
        raise ValueError(f"{time!r} is no time such as 00:16:16,059")
    hours, minutes, rest, fraction = match.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(f"{rest}.{fraction}")


def _csv_path(folder: Path, split: str) -> Path:
    for name in (f"{split}.csv", f"{split}_sent_emo.csv", f"{split}/{split}_sent_emo.csv"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has neither {split}.csv nor {split}_sent_emo.csv: put the corpus's CSV files there")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"can't read {path}: {error}") from error


def _prosody(folder: Path, descriptors: Sequence[str]) -> dict[str, list[float]]:
    try:
        columns = [PROSODY_COLUMNS[name] for name in descriptors]
    except KeyError as error:
        raise DataError(f"meld has no prosodic descriptor {error}; it has {', '.join(PROSODY_COLUMNS)}") from error
    rows: dict[str, list[float]] = {}
    for split in FILES.values():
        path = folder / f"{split}_prosody.csv"
        for number, row in enumerate(_rows(path), 2):
            try:
                if not row["avg_pitch"]:  # nothing was voiced: the table's zeros are undefined as well
                    row |= {"pitch_std": "", "pitch_range": ""}
                name = f"{split}_{row['filename'].removesuffix('.wav')}"
                if name not in BROKEN_CLIPS:
                    rows[name] = [float(row[column]) if row[column] else math.nan for column in columns]
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise DataError(f"{path}, record {number}: {error!r}") from error
    return rows
