"""Speech to learn emotions from: nine corpora of seven languages, eight of them acted and one from talk shows.

RAVDESS, CREMA-D and TESS (English), EmoDB (German), nEMO (Polish), ASED (Amharic), URDU (Urdu, the talk shows),
TurEV-DB (Turkish) and EmoTale (Danish and English) are read from their own file names, with one set of labels and
folds. What RAVDESS and TurEV-DB call `calm` counts as neutral: RAVDESS's own raters confuse the two. A corpus lacks
some labels (`MISSING`); its clips say nothing about them. A fold holds whole speakers, so no voice is trained and
tested on. The acted sentences are the same in all folds, each said with every emotion; of ASED's the others, which
belong to one emotion each, are left out: their words would tell it.

All but RAVDESS and EmoDB (`FURTHER`) may be missing. Where they are, the voice encoder learns from them, too: two
voices in a studio differ less than two studios do. The live model learns from those two alone, and how sure it may be
of a voice from elsewhere by the others, read by networks that know all corpora but theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mer_agent.errors import DataError
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Utterance

LABELS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise", "boredom")
MISSING = {
    "ravdess": ("boredom",),
    "emodb": ("surprise",),
    "nemo": ("disgust", "boredom"),
    "ased": ("disgust", "surprise", "boredom"),
    "tess": ("boredom",),
    "urdu": ("fear", "disgust", "surprise", "boredom"),
    "turev": ("fear", "disgust", "surprise", "boredom"),
    "emotale": ("fear", "disgust", "surprise"),
    "cremad": ("surprise", "boredom"),
}
CORPORA = ("ravdess", "emodb")
"""Those that have to be there."""
FURTHER = {
    "nemo": "amu-cai/nEMO on GitHub: nine Polish actors, 4,481 clips, CC BY-NC-SA 4.0 (Christop 2024)",
    "ased": "Ethio2021/ASED_V1 on GitHub: 65 speakers of Amharic, 2,474 clips, no terms stated (Retta et al. 2022)",
    "tess": "deepxzy/Toronto-emotional-speech-set on GitHub: two Canadian actresses, 2,800 clips, CC BY-NC-ND 4.0 "
    "(Pichora-Fuller and Dupuis 2020)",
    "urdu": "siddiquelatif/URDU-Dataset on GitHub: 29 speakers in talk shows, 400 clips, for research "
    "(Latif et al. 2018)",
    "turev": "Xeonen/TurEV-DB on GitHub: six Turkish amateurs, 1,735 single words, CC BY-NC-ND 4.0 "
    "(Canpolat et al. 2020)",
    "emotale": "snehadas/EmoTale on GitHub: 18 Danes in Danish and English, 800 clips, no licence, asks to be cited "
    "(Das et al. 2025)",
    "cremad": "CheyneyComputerScience/CREMA-D on GitHub, AudioWAV (Git LFS): 91 American actors, 7,442 clips, "
    "Open Database License (Cao et al. 2014)",
}
"""Those that may be, and where their authors keep them."""
MOST = {"nemo": 1500, "tess": 700, "turev": 700, "cremad": 3600}
"""Clips of a corpus that are read, chosen by their names: few speakers shouldn't outweigh many."""
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
_NEMO = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fear",
    "surprised": "surprise",
}
_NEMO_SPEAKERS = ("EB0", "IC0", "KD0", "MK0", "WR0", "KS0", "MP0", "SM0", "TP0")
"""So ordered that the folds in turn get a woman and a man each, the last one a man alone."""
_ASED = {"n": "neutral", "h": "happy", "s": "sad", "a": "angry", "f": "fear"}
_ASED_COMMON = ("01", "02")
"""The sentences that are said with every emotion; the corpus doesn't tell their numbers, but the recogniser's encoder
hears the same words in them (its mean states, less each emotion's, lie half as far apart as those of other numbers)."""
_TESS = re.compile(r"(OA|YA)F?_[a-z]+_(angry|disgust|fear|happy|neutral|ps|sad)\d*$")
"""`ps` is pleasant surprise. The first of the two is 64 years old, the other 26."""
_URDU = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
_TUREV = {"kz": "angry", "mt": "happy", "sk": "neutral", "hl": "sad"}
_TUREV_SPEAKERS = ("1157", "1234", "1358", "1984", "6783", "7895")
_EMOTALE = {"N": "neutral", "H": "happy", "S": "sad", "A": "angry", "B": "boredom"}
_CREMAD = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "ANG": "angry", "FEA": "fear", "DIS": "disgust"}
_SILENT = ("1076_MTI_SAD_XX",)
"""Clips of CREMA-D in which nobody speaks."""
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


def found(folder: Path) -> tuple[str, ...]:
    """Gives those of `FURTHER` that have a folder below `folder`."""
    return tuple(corpus for corpus in FURTHER if (folder / corpus).is_dir())


def load(folder: Path, corpora: Sequence[str] = CORPORA) -> list[Clip]:
    """Gives the clips below `folder`/ravdess, `folder`/emodb ..., corpus by corpus in order of their names.

    Sound files may lie in folders of their own (as in the original archives) and have any suffix that media files have.

    Raises:
        DataError: a corpus is missing, or a file's name is none of its names.
    """
    clips: list[Clip] = []
    for corpus in corpora:
        files = sorted(path for path in (folder / corpus).rglob("*") if path.suffix.lower() in (".flac", ".wav"))
        if not files:
            raise DataError(f"no sound in {folder / corpus}; name the folder that holds speech/ravdess with --data-dir")
        own = [_READERS[corpus](path) for path in files]
        if corpus == "ased":
            own = [clip for clip in own if clip.path.stem.split("-")[1] in _ASED_COMMON]
        own = [clip for clip in own if clip.path.stem not in _SILENT]
        if corpus in MOST:
            own = sorted(own, key=lambda clip: crc32(clip.path.stem.encode()))[: MOST[corpus]]
        clips += sorted(own, key=lambda clip: clip.path)
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


def _nemo(path: Path) -> Clip:
    parts = path.stem.split("_")
    if len(parts) != 3 or parts[1] not in _NEMO or parts[0] not in _NEMO_SPEAKERS:
        raise DataError(f"{path.name} is no name of nEMO: speaker, emotion, sentence, as in KS0_anger_35")
    fold = _NEMO_SPEAKERS.index(parts[0]) % FOLDS
    return Clip(path, "nemo", f"nemo-{parts[0]}", LABELS.index(_NEMO[parts[1]]), fold)


def _ased(path: Path) -> Clip:
    parts = path.stem.split("-")
    letter = parts[0][:1].lower()
    if len(parts) != 5 or letter not in _ASED or not parts[4].isdecimal():
        raise DataError(f"{path.name} is no name of ASED: emotion, sentence, take, sex, speaker, as in a5-03-01-02-50")
    return Clip(path, "ased", f"ased-{parts[4]}", LABELS.index(_ASED[letter]), int(parts[4]) % FOLDS)


def _tess(path: Path) -> Clip:
    found = _TESS.search(path.stem)
    if found is None:
        raise DataError(f"{path.name} is no name of TESS: speaker, word, emotion, as in YAF_youth_happy")
    speaker, emotion = found.groups()
    label = LABELS.index("surprise" if emotion == "ps" else emotion)
    return Clip(path, "tess", f"tess-{speaker}", label, ("OA", "YA").index(speaker))


def _urdu(path: Path) -> Clip:
    parts = path.stem.split("_")
    letter = parts[-1][:1]
    if len(parts) != 3 or letter not in _URDU or not parts[0][2:].isdecimal():
        raise DataError(f"{path.name} is no name of URDU: speaker, file, emotion, as in SM5_F6_A032")
    return Clip(path, "urdu", f"urdu-{parts[0]}", LABELS.index(_URDU[letter]), int(parts[0][2:]) % FOLDS)


def _turev(path: Path) -> Clip:
    parts = path.stem.split("_")
    if len(parts) != 3 or parts[1] not in _TUREV or parts[0] not in _TUREV_SPEAKERS:
        raise DataError(f"{path.name} is no name of TurEV-DB: speaker, emotion, word, as in 1358_kz_pamuk")
    fold = _TUREV_SPEAKERS.index(parts[0]) % FOLDS
    return Clip(path, "turev", f"turev-{parts[0]}", LABELS.index(_TUREV[parts[1]]), fold)


def _emotale(path: Path) -> Clip:
    parts = path.stem.split("_")
    if len(parts) != 4 or parts[2] not in _EMOTALE or not parts[1].isdecimal():
        raise DataError(f"{path.name} is no name of EmoTale: language, speaker, emotion, sentence, as in DK_004_A_5")
    label = LABELS.index(_EMOTALE[parts[2]])
    return Clip(path, "emotale", f"emotale-{parts[1]}", label, int(parts[1]) % FOLDS)


def _cremad(path: Path) -> Clip:
    parts = path.stem.split("_")
    if len(parts) != 4 or parts[2] not in _CREMAD or not parts[0].isdecimal():
        raise DataError(f"{path.name} is no name of CREMA-D: speaker, sentence, emotion, level, as in 1001_IEO_ANG_HI")
    label = LABELS.index(_CREMAD[parts[2]])
    return Clip(path, "cremad", f"cremad-{parts[0]}", label, int(parts[0]) % FOLDS)


_READERS: Mapping[str, Callable[[Path], Clip]] = {
    "ravdess": _ravdess,
    "emodb": _emodb,
    "nemo": _nemo,
    "ased": _ased,
    "tess": _tess,
    "urdu": _urdu,
    "turev": _turev,
    "emotale": _emotale,
    "cremad": _cremad,
}
