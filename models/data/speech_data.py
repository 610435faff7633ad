"""Acted speech to learn emotions from: RAVDESS (English) and EmoDB (German), with one set of labels and folds.

Both are read from their own file names. RAVDESS's `calm` counts as neutral: its own raters confuse the two. A corpus
lacks some labels (`MISSING`); its clips say nothing about them. A fold holds whole speakers, of both sexes and both
corpora, so no voice is trained and tested on. The sentences are the same in all folds, each said with every emotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_agent.errors import DataError
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Utterance

LABELS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise", "boredom")
MISSING = {"ravdess": ("boredom",), "emodb": ("surprise",)}
SHARED = tuple(label for label in LABELS if label not in ("boredom", "surprise"))
"""What both corpora have: scores across corpora are over these."""
FOLDS = 5

_RAVDESS = {
    "01": "neutral",
    "02": "neutral",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_EMODB = {"W": "angry", "L": "boredom", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral"}
_EMODB_FOLDS = {"03": 0, "08": 0, "10": 1, "09": 1, "11": 2, "13": 2, "12": 3, "14": 3, "15": 4, "16": 4}
"""A man and a woman in each."""
_FRAME = SAMPLE_RATE_HZ // 50
_AUDIBLE_DB = 35.0
"""So far below a clip's loudest 20 ms, nobody speaks."""
_PADDING = SAMPLE_RATE_HZ * 160 // 1000
"""As the segmenter's."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One acted utterance: its file, who speaks (corpus and speaker), the label's index and the fold."""

    path: Path
    corpus: str
    speaker: str
    label: int
    fold: int


def load(folder: Path) -> list[Clip]:
    """Gives the clips below `folder`/ravdess and `folder`/emodb, in order of their names.

    Sound files may lie in folders of their own (as in the original archives) and have any suffix that media files have.

    Raises:
        DataError: a corpus is missing, or a file's name is none of its names.
    """
    clips = []
    for corpus, read in (("ravdess", _ravdess), ("emodb", _emodb)):
        files = sorted(path for path in (folder / corpus).rglob("*") if path.suffix.lower() in (".flac", ".wav"))
        if not files:
            raise DataError(f"no sound in {folder / corpus}; name the folder that holds speech/ravdess with --data-dir")
        clips += [read(path) for path in files]
    return clips


def sound(clip: Clip) -> NDArray[np.float32]:
    """Gives the clip's sound, float32 [n], 16 kHz."""
    chunks = [chunk.samples for chunk in audio_chunks(clip.path)]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def speech_of(samples: NDArray[np.float32]) -> tuple[int, int]:
    """Gives the first sample of speech and the one after its last, by loudness; acted clips are quiet around it."""
    whole = samples[: len(samples) - len(samples) % _FRAME].reshape(-1, _FRAME)
    power = np.square(whole, dtype=np.float64).mean(1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-_AUDIBLE_DB / 10))
    return (0, len(samples)) if len(loud) == 0 else (int(loud[0]) * _FRAME, (int(loud[-1]) + 1) * _FRAME)


def as_cut(samples: NDArray[np.float32]) -> Utterance:
    """Gives a clip as an utterance that was cut out of a conversation: its speech, with a little sound around it.

    Of the whole clip, whose silences are as long as its speech, duration and loudness would be those of no live
    utterance.
    """
    return cut_at(samples, *speech_of(samples))


def cut_at(samples: NDArray[np.float32], first: int, last: int) -> Utterance:
    """Gives the speech from sample `first` up to `last` as the segmenter would, with a little sound around it."""
    begin, end = max(0, first - _PADDING), min(len(samples), last + _PADDING)
    at_ns = [at * NS_PER_S // SAMPLE_RATE_HZ for at in (first, last, begin)]
    return Utterance("", None, at_ns[0], at_ns[1], audio=samples[begin:end], audio_start_ns=at_ns[2])


def possible(corpora: Sequence[str]) -> NDArray[np.bool_]:
    """Tells for each clip of these corpora which labels it could have: bool [clips, labels]."""
    return np.array([[label not in MISSING[corpus] for label in LABELS] for corpus in corpora])


def _ravdess(path: Path) -> Clip:
    parts = path.stem.split("-")
    if len(parts) != 7 or parts[2] not in _RAVDESS or not parts[6].isdecimal():
        raise DataError(f"{path.name} is no name of RAVDESS: seven numbers with dashes between them")
    pair = (int(parts[6]) - 1) // 2  # actors are numbered man, woman, man ...
    return Clip(path, "ravdess", f"ravdess-{parts[6]}", LABELS.index(_RAVDESS[parts[2]]), pair % FOLDS)


def _emodb(path: Path) -> Clip:
    name = path.stem
    if len(name) < 6 or name[5] not in _EMODB or name[:2] not in _EMODB_FOLDS:
        raise DataError(f"{path.name} is no name of EmoDB: speaker, sentence, emotion, version, as in 03a01Fa")
    return Clip(path, "emodb", f"emodb-{name[:2]}", LABELS.index(_EMODB[name[5]]), _EMODB_FOLDS[name[:2]])
