"""Training data: dialogues with labels, and the features that our own encoders give for them.

IEMOCAP comes as a folder with `dialogues.jsonl` (a dialogue a line: `dialogue`, `split`, `kind`, `utterances` of
`id`, `speaker`, `text`, `label`, `start`, `end` in seconds), `ge2e.npz` (`id`, `embedding` [n, 256]), `prosody.csv`
and perhaps `dimensional.csv` (valence, activation, dominance). Utterances are put in the order in which they
*end*, since that is the order in which a listener has them; speakers become 0, 1, ... in order of appearance,
as they are live.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from platformdirs import user_cache_path
from torch import Tensor

from mer_agent.encoders.sequences import STEPS
from mer_agent.errors import DataError
from mer_agent.models.batch import Batch
from mer_agent.models.perception.text_features import IN_CONTEXT, Conversation, in_context

IEMOCAP_LABELS = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
SPLITS = ("train", "valid", "test")

PROSODY_COLUMNS = {
    "duration_s": "duration",
    "intensity_db_mean": "avg_intensity",
    "intensity_db_deviation": "intensity_variation",
    "pitch_hz_mean": "avg_pitch",
    "pitch_hz_deviation": "pitch_std",
    "pitch_hz_range": "pitch_range",
    "articulation_rate_hz": "articulation_rate",
    "hnr_db_mean": "mean_hnr",
}
"""Our name of a prosodic descriptor -> its column in `prosody.csv`."""


EncodeTexts = Callable[[Sequence[str]], "list[Tensor | None]"]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A labelled data set. `batch` holds all of it; `split` and `kind` are keyed by the dialogue's index in it."""

    name: str
    label_set: str
    labels: tuple[str, ...]
    batch: Batch
    split: tuple[str, ...]
    kind: tuple[str, ...]
    dialogues: tuple[str, ...]

    def part(self, split: str, kind: str | None = None) -> Batch:
        """Gives the utterances of one split, of one kind of dialogue only if asked."""
        wanted = [i for i, s in enumerate(self.split) if s == split and kind in (None, self.kind[i])]
        return self.batch.dialogues(torch.tensor(wanted, dtype=torch.int64))


def load_iemocap(
    folder: Path, features: Sequence[str], *, encode_texts: EncodeTexts | None = None, descriptors: Sequence[str] = ()
) -> Corpus:
    """Gives IEMOCAP, six classes, from `folder`; see `corpora.load`."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: give the one that holds iemocap/ with --data-dir")
    dialogues = read_dialogues(folder / "dialogues.jsonl")
    ids = [u["id"] for d in dialogues for u in d["utterances"]]
    texts = [u["text"] for d in dialogues for u in d["utterances"]]
    values: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for feature in features:
        if feature in IN_CONTEXT:
            values[feature], present[feature] = in_context(
                [
                    Conversation.of(d["dialogue"], d["split"], ((u["speaker"], u["text"]) for u in d["utterances"]))
                    for d in dialogues
                ],
                feature,
            )
        elif feature.startswith("text/"):
            values[feature], present[feature] = text_features(feature, texts, encode_texts)
        elif feature == "audio/ge2e@1":
            values[feature], present[feature] = _embeddings(folder / "ge2e.npz", ids)
        elif feature == "audio/prosody@1":
            values[feature], present[feature] = _prosody(folder / "prosody.csv", ids, descriptors)
        else:
            raise DataError(f"iemocap has no feature {feature!r}")
    speakers: list[int] = []
    for dialogue in dialogues:
        seen: dict[str, int] = {}
        speakers += [seen.setdefault(u["speaker"], len(seen)) for u in dialogue["utterances"]]
    lengths = torch.tensor([len(d["utterances"]) for d in dialogues])
    batch = Batch(
        values,
        present,
        torch.tensor(speakers),
        torch.repeat_interleave(torch.arange(len(dialogues)), lengths),
        torch.tensor([IEMOCAP_LABELS.index(u["label"]) for d in dialogues for u in d["utterances"]]),
        ids,
        _affect(folder / "dimensional.csv", ids),
    )
    return Corpus(
        "iemocap",
        "iemocap6",
        IEMOCAP_LABELS,
        batch,
        tuple(d["split"] for d in dialogues),
        tuple(d["kind"] for d in dialogues),
        tuple(d["dialogue"] for d in dialogues),
    )


def read_dialogues(path: Path) -> list[dict[str, Any]]:
    """Gives the dialogues of `dialogues.jsonl`, checked, the utterances of each in the order in which they end.

    Raises:
        DataError: the file is missing or malformed.
    """
    dialogues = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read {path}: {error}") from error
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            dialogue = json.loads(line)
            for utterance in dialogue["utterances"]:
                _check(utterance, seen)
            if dialogue["split"] not in SPLITS:
                raise ValueError(f"split {dialogue['split']!r} is none of {', '.join(SPLITS)}")
            dialogue["kind"], dialogue["dialogue"] = str(dialogue["kind"]), str(dialogue["dialogue"])
            if not dialogue["utterances"]:
                raise ValueError("a dialogue without utterances")
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        except KeyError as error:
            raise DataError(f"{path}, line {number}: {error} is missing") from error
        dialogue["utterances"].sort(key=lambda u: (u["end"], u["start"]))
        dialogues.append(dialogue)
    for split in SPLITS:
        if not any(d["split"] == split for d in dialogues):
            raise DataError(f"{path} has no dialogue of the split {split!r}")
    return dialogues


def _check(utterance: dict[str, Any], seen: set[str]) -> None:
    """Raises ValueError for an utterance that can't be used, KeyError for one that lacks something."""
    name = utterance["id"]
    if name in seen:
        raise ValueError(f"utterance {name} stands there twice")
    seen.add(name)
    if utterance["label"] not in IEMOCAP_LABELS:
        raise ValueError(
            f"utterance {name} has the label {utterance['label']!r}, not one of {', '.join(IEMOCAP_LABELS)}"
        )
    if not all(isinstance(utterance[key], int | float) and math.isfinite(utterance[key]) for key in ("start", "end")):
        raise ValueError(f"utterance {name} has no proper start and end")
    if not isinstance(utterance["text"], str) or not isinstance(utterance["speaker"], str):
        raise ValueError(f"utterance {name} has no proper text or speaker")


def _embeddings(path: Path, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            rows = {str(name): row for name, row in zip(archive["id"], archive["embedding"], strict=True)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"can't read the embeddings in {path}: {error}") from error
    return _gather(path, rows, ids, finite=True)


def _prosody(path: Path, ids: Sequence[str], descriptors: Sequence[str]) -> tuple[Tensor, Tensor]:
    if not descriptors:
        raise DataError("audio/prosody@1 was asked for without naming its descriptors")
    try:
        columns = [PROSODY_COLUMNS[name] for name in descriptors]
    except KeyError as error:
        raise DataError(f"iemocap has no prosodic descriptor {error}; it has {', '.join(PROSODY_COLUMNS)}") from error
    rows = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if not row["avg_pitch"]:  # nothing was voiced: the table's zeros are undefined as well
                    row |= {"pitch_std": "", "pitch_range": ""}
                numbers = [float(row[column]) if row[column] else math.nan for column in columns]
                rows[row["utterance_id"]] = np.array(numbers, np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"can't read the prosody in {path}: {error!r}") from error
    return _gather(path, rows, ids, finite=False)


def _affect(path: Path, ids: Sequence[str]) -> Tensor | None:
    """Gives valence, activation and dominance [N, 3], NaN where nobody rated; None where there is no such file."""
    if not path.is_file():
        return None
    rows = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rated = [float(row[c] or "nan") for c in ("valence", "activation", "dominance")]
                # The file counts valence from pleasant to unpleasant and activation from excited to calm: its happy
                # utterances have a valence of 2.05 on average, its angry ones 4.09.
                rows[row["utterance_id"]] = [6 - rated[0], 6 - rated[1], rated[2]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"can't read the ratings in {path}: {error!r}") from error
    return torch.tensor([rows.get(name, [math.nan] * 3) for name in ids])


def _gather(path: Path, rows: Mapping[str, Any], ids: Sequence[str], *, finite: bool) -> tuple[Tensor, Tensor]:
    """Gives the rows in the order of `ids`, and which were there; if none was, that is an error."""
    present = torch.tensor([name in rows for name in ids])
    if not present.any():
        raise DataError(f"{path} holds none of the utterances in dialogues.jsonl")
    dimension = len(next(rows[name] for name in ids if name in rows))
    values = np.zeros((len(ids), dimension), np.float32)
    for i, name in enumerate(ids):
        if name in rows:
            if np.shape(rows[name]) != (dimension,) or (finite and not np.isfinite(rows[name]).all()):
                raise DataError(f"{path}: the values of utterance {name} are not {dimension} finite numbers")
            values[i] = rows[name]
    return torch.from_numpy(values), present


def text_features(feature: str, texts: Sequence[str], encode: EncodeTexts | None) -> tuple[Tensor, Tensor]:
    """Gives text features, from the cache if these very texts were encoded by this very recipe before."""
    key = hashlib.sha256("\0".join([feature, *texts]).encode()).hexdigest()[:32]
    path = user_cache_path("mer-agent") / "features" / f"{feature.replace('/', '-').replace('@', '-')}-{key}.npz"
    if encode is None and path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            return torch.from_numpy(archive["values"]), torch.from_numpy(archive["present"])
    values, present = _encode(feature, texts, encode or _encoder(feature))
    if encode is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, values=values.numpy(), present=present.numpy())
        partial.replace(path)
    return values, present


def _encode(feature: str, texts: Sequence[str], encode: EncodeTexts) -> tuple[Tensor, Tensor]:
    rows: list[Tensor | None] = [None] * len(texts)
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # equal lengths together: little padding
    for at in range(0, len(texts), 16):
        some = by_length[at : at + 16]
        for i, row in zip(some, encode([texts[i] for i in some]), strict=True):
            rows[i] = row
    if feature in STEPS:  # sequences are large, and their models compute in half precision while they learn
        rows = [None if row is None else row.half() for row in rows]
    found = [row for row in rows if row is not None]
    if not found:
        raise DataError(f"no utterance has any words, so {feature} can't be computed")
    absent = torch.zeros_like(found[0])
    return torch.stack([absent if row is None else row for row in rows]), torch.tensor(
        [row is not None for row in rows]
    )


def _encoder(feature: str) -> EncodeTexts:
    from mer_agent.encoders.place import Place
    from mer_agent.encoders.text import TextEncoder
    from mer_agent.encoders.text_lower import LowerTextEncoder
    from mer_agent.encoders.tokens import TokenEncoder
    from mer_agent.encoders.words import WordEncoder

    if feature == WordEncoder.feature:
        return WordEncoder().encode_texts
    if feature == TokenEncoder.feature:
        return TokenEncoder().encode_texts
    if feature == LowerTextEncoder.feature:
        return LowerTextEncoder(Place.of("auto", "auto")).encode_texts  # as what is read in context (`in_context`)
    if feature in IN_CONTEXT:
        raise DataError(f"{feature} reads whole dialogues: only iemocap and meld have it")
    encoder = TextEncoder(feature.removeprefix("text/").partition("@")[0])
    if encoder.feature != feature:
        raise DataError(f"the text encoder here gives {encoder.feature}, not {feature}")
    return encoder.encode_texts
