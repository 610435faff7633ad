"""Imports the feature files that papers on emotion in conversation publish, once, into a folder of our own layout.

    layout              files                                                     text / audio / face
    iemocap-raw         IEMOCAP_features_raw.pkl, tuple of 9 (bc-LSTM, DialogueRNN)   100 / 100 / 512
    iemocap-mmgcn       IEMOCAP_features.pkl, tuple of 9 (MMGCN)                      100 / 1582 / 342
    meld-mmgcn          MELD_features_raw1.pkl, tuple of 10 (MMGCN)                   600 / 300 / 342
    iemocap-multiemo    a folder: Speakers.pkl (9), TextFeatures.pkl, AudioFeatures.pkl, VisualFeatures.pkl
    meld-multiemo       the same with Speakers.pkl of 10                              768 / 512 / 1000

A tuple holds dicts by dialogue: ids, speakers, labels, text, audio, face, sentences; then the dialogues to train on,
those to test on, and for MELD one more (sentiment), which is not read. The features come without times, so their
lines keep the order of the file, which for IEMOCAP is not that of their ends: a "causal" model sees a little of the
future there. The features' recipes are not ours: ids such as `text/iemocap-raw@1` say so, and nothing makes them live.

None of these files could be had where this was written: it is tested on small files of the same layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mer_agent.errors import DataError
from mer_agent.models.data.datasets import IEMOCAP_LABELS
from mer_agent.models.data.dialogues import Dialogue, Line, Table, ordered
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.data.pickles import read_pickle

IEMOCAP_VALID = frozenset(
    {
        "Ses01M_impro01",
        "Ses01M_script03_1",
        "Ses02F_impro02",
        "Ses02F_impro07",
        "Ses02M_script01_2",
        "Ses03F_impro01",
        "Ses03M_impro02",
        "Ses03M_impro08a",
        "Ses03M_script02_2",
        "Ses03M_script03_2",
        "Ses04F_impro07",
        "Ses04F_script02_1",
    }
)
"""The dialogues of IEMOCAP that the field validates on; these files themselves name none."""

MELD_FIRST_VALID = 1039
"""The files number MELD's dialogues through: 0 to 1038 train, 1039 to 1152 the corpus's dev, the rest test."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One published layout: `fields` of its tuple, and the sizes of its text, audio and face features."""

    data: str
    """`iemocap` or `meld`."""
    recipe: str
    fields: int
    sizes: tuple[int, int, int]
    is_folder: bool = False


LAYOUTS = {
    "iemocap-raw": Layout("iemocap", "iemocap-raw", 9, (100, 100, 512)),
    "iemocap-mmgcn": Layout("iemocap", "iemocap-mmgcn", 9, (100, 1582, 342)),
    "meld-mmgcn": Layout("meld", "meld-mmgcn", 10, (600, 300, 342)),
    "iemocap-multiemo": Layout("iemocap", "iemocap-multiemo", 9, (768, 512, 1000), True),
    "meld-multiemo": Layout("meld", "meld-multiemo", 10, (768, 512, 1000), True),
}


def read_published(source: Path, layout: str) -> Table:
    """Gives what published feature files hold.

    Args:
        source: the pickle, or for MultiEMO the folder that holds the four.
        layout: a name in `LAYOUTS`.

    Raises:
        DataError: another layout, a damaged file, or a pickle with more in it than features (nothing is run).
    """
    if layout not in LAYOUTS:
        raise DataError(f"no published layout is called {layout!r}: give one of {', '.join(LAYOUTS)}")
    kind = LAYOUTS[layout]
    if kind.is_folder:
        fields = _fields(source / "Speakers.pkl", kind, features_inside=False)
        for i, name in enumerate(("TextFeatures.pkl", "AudioFeatures.pkl", "VisualFeatures.pkl"), 3):
            fields[i] = _dict(read_pickle(source / name), source / name, "the features")
    else:
        fields = _fields(source, kind)
    try:
        found = _dialogues(fields, kind)
        labels, name = (IEMOCAP_LABELS, "iemocap6") if kind.data == "iemocap" else (MELD_LABELS, "meld7")
        dialogues = ordered(str(source), [dialogue for dialogue, _ in found], labels)
        keys = [key for _, key in found]
        values = {
            f"{modality}/{kind.recipe}@1": _stacked(source, f, keys, dialogues, size)
            for modality, f, size in zip(("text", "audio", "face"), fields[3:6], kind.sizes, strict=True)
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{source} is not of the layout {layout}: {error!r}") from error
    present = {feature: torch.ones(len(rows), dtype=torch.bool) for feature, rows in values.items()}
    return Table(kind.data, name, labels, dialogues, values, present, {})


def _fields(path: Path, kind: Layout, *, features_inside: bool = True) -> list[Any]:
    content = read_pickle(path)
    if not isinstance(content, tuple | list) or len(content) != kind.fields:
        what = f"{len(content)} fields" if isinstance(content, tuple | list) else type(content).__name__
        raise DataError(f"{path} holds {what}, not a tuple of {kind.fields}: it is of another layout")
    fields = list(content)
    for i, name in ((1, "the speakers"), (2, "the labels")):
        _dict(fields[i], path, name)
    if features_inside:
        for i, name in ((0, "the ids"), (3, "the text"), (4, "the audio"), (5, "the faces"), (6, "the sentences")):
            _dict(fields[i], path, name)
    return fields


def _dict(value: Any, path: Path, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{path}: {what} should be a dict by dialogue, not {type(value).__name__}")
    return value


def _dialogues(fields: list[Any], kind: Layout) -> list[tuple[Dialogue, Any]]:
    """Gives each dialogue with its key in the dicts, in a fixed order."""
    ids, speakers, labels, sentences = fields[0], fields[1], fields[2], fields[6]
    training, testing = set(fields[7]), set(fields[8])
    if training & testing:
        raise ValueError("a dialogue is for training and for testing")
    names = IEMOCAP_LABELS if kind.data == "iemocap" else MELD_LABELS
    found = []
    for key in sorted(training | testing):
        split = "test" if key in testing else "valid" if _is_valid(key, kind) else "train"
        count = len(labels[key])
        of_dialogue = ids[key] if isinstance(ids, dict) and key in ids else range(count)
        words = sentences[key] if isinstance(sentences, dict) and key in sentences else [""] * count
        lines = []
        for one, speaker, label, text in zip(of_dialogue, speakers[key], labels[key], words, strict=True):
            index = int(label)
            if not 0 <= index < len(names):
                raise ValueError(f"dialogue {key} has the label {index}")
            whole = str(one) if str(one).startswith(str(key)) and isinstance(one, str) else f"{key}_{one}"
            lines.append(Line(whole, _speaker(speaker), str(text), names[index]))
        scripted = kind.data == "meld" or "script" in str(key)
        found.append((Dialogue(str(key), split, "scripted" if scripted else "improvised", tuple(lines)), key))
    return found


def _is_valid(key: Any, kind: Layout) -> bool:
    return str(key) in IEMOCAP_VALID if kind.data == "iemocap" else int(key) >= MELD_FIRST_VALID


def _speaker(value: Any) -> str:
    """Gives a speaker's name: a letter as it stands, a one-hot vector by the place of its one."""
    if isinstance(value, str):
        return value
    vector = np.asarray(value, dtype=np.float64)
    if vector.ndim != 1 or vector.sum() != 1 or vector.max() != 1:
        raise ValueError("a speaker is neither a letter nor a one-hot vector")
    return str(int(vector.argmax()))


def _stacked(source: Path, by_key: Mapping[Any, Any], keys: list[Any], dialogues: Any, size: int) -> Tensor:
    parts = []
    for key, dialogue in zip(keys, dialogues, strict=True):
        rows = np.asarray(by_key[key], dtype=np.float32)
        if rows.shape != (len(dialogue.lines), size):
            raise DataError(
                f"{source}: a feature of dialogue {key} has the shape {list(rows.shape)}, "
                f"not {[len(dialogue.lines), size]}: it is of another layout"
            )
        parts.append(rows)
    return torch.from_numpy(np.concatenate(parts))
