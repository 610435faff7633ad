"""Reads the raw corpora as their makers hand them out, and encodes their clips with the live encoders.

    IEMOCAP_full_release/Session1..5/
        dialog/EmoEvaluation/Ses01F_impro01.txt     [6.2901 - 8.2357]  Ses01F_impro01_F000  neu  [2.5, 2.5, 2.5]
        dialog/transcriptions/Ses01F_impro01.txt    Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
        sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav
    MELD.Raw/
        train_sent_emo.csv (or train/train_sent_emo.csv), dev_sent_emo.csv, test_sent_emo.csv
        train_splits/dia0_utt3.mp4, dev_splits_complete/..., output_repeated_splits_test/...

The pictures of IEMOCAP show both speakers at once, so only its sound and words are read. Each reader gives a `Table`:
`write_table` keeps it in a folder, since encoding takes hours, and `.corpus()` is what training reads.

Neither corpus could be had where this was written: it is tested on small files of the same layout.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mer_agent.encoders.prosody import DESCRIPTORS
from mer_agent.errors import DataError
from mer_agent.models.data import meld
from mer_agent.models.data.clips import Encode, LiveEncoders, encode_clips
from mer_agent.models.data.datasets import IEMOCAP_LABELS
from mer_agent.models.data.dialogues import Dialogue, Line, Table, ordered
from mer_agent.models.data.published import IEMOCAP_VALID

FEATURES = ("text/mpnet@1", "audio/ge2e@1", "audio/prosody@1")

CODES = {"hap": "happy", "sad": "sad", "neu": "neutral", "ang": "angry", "exc": "excited", "fru": "frustrated"}
"""The corpus's code of an emotion -> its label here."""
OTHER_CODES = frozenset({"xxx", "sur", "fea", "dis", "oth"})
"""Emotions (and `xxx`, no agreement) outside of the six classes: those utterances are left out, as the field does."""

_EVALUATION = re.compile(r"\[([\d.]+) - ([\d.]+)\]\s+(\S+_[FM]\w+)(?:[ \t]+([a-z]{3}))?(?:[ \t]+\[([^\]]*)\])?\s*")
_TRANSCRIPT = re.compile(r"(\S+_[FM]\w+) \[[\d.]+-[\d.]+\]:(.*)")

MELD_CLIPS = {
    "train": ("train_splits", "train/train_splits"),
    "dev": ("dev_splits_complete", "dev/dev_splits_complete"),
    "test": ("output_repeated_splits_test", "test/output_repeated_splits_test"),
}
"""The corpus's name of a split -> where its clips may lie."""


def read_iemocap_release(root: Path, features: Sequence[str] = FEATURES, *, encode: Encode | None = None) -> Table:
    """Gives IEMOCAP, six classes, with the features that the live encoders make of its sentences.

    Session 5 is for testing, the twelve usual dialogues to validate, the rest for training.

    Args:
        root: IEMOCAP_full_release.
        features: feature ids of `encoders.base.create`; no visual ones.
        encode: what encodes; the live encoders if not given.

    Raises:
        DataError: the layout is another one, a file is malformed, or an utterance lacks its label or its words.
    """
    dialogues: list[Dialogue] = []
    clips: dict[str, Path] = {}
    for session in sorted(root.glob("Session[1-5]")):
        for path in sorted((session / "dialog" / "EmoEvaluation").glob("[!.]*.txt")):  # macOS left ._ files there
            name = path.stem
            words = _transcript(session / "dialog" / "transcriptions" / path.name)
            lines = _evaluated(path, words)
            if not lines:
                continue  # nobody agreed on one of the six in all of it
            for line in lines:
                clip = session / "sentences" / "wav" / name / f"{line.id}.wav"
                if clip.is_file():
                    clips[line.id] = clip
            split = "test" if session.name == "Session5" else "valid" if name in IEMOCAP_VALID else "train"
            dialogues.append(Dialogue(name, split, "scripted" if "script" in name else "improvised", lines))
    if not dialogues:
        raise DataError(f"{root} has no Session1/dialog/EmoEvaluation/*.txt: give the folder IEMOCAP_full_release")
    in_order = ordered(str(root), dialogues, IEMOCAP_LABELS)
    values, present = encode_clips(in_order, clips, features, encode or LiveEncoders())
    return Table("iemocap", "iemocap6", IEMOCAP_LABELS, in_order, values, present, _columns(features))


def read_meld_raw(root: Path, features: Sequence[str] = FEATURES, *, encode: Encode | None = None) -> Table:
    """Gives MELD, seven classes, with the features that the live encoders make of its clips.

    The two clips that are broken in the release count with their words alone.

    Args:
        root: MELD.Raw, its archives unpacked.
        features: feature ids of `encoders.base.create`.
        encode: what encodes; the live encoders if not given.

    Raises:
        DataError: the layout is another one, or a file is malformed.
    """
    dialogues = meld.read_dialogues(root)
    folders = {split: _clip_folder(root, split) for split in MELD_CLIPS}
    clips: dict[str, Path] = {}
    for dialogue in dialogues:
        for line in dialogue.lines:
            split, _, name = line.id.partition("_")
            clip = folders[split] / f"{name}.mp4"
            if clip.is_file():
                clips[line.id] = clip
    values, present = encode_clips(dialogues, clips, features, encode or LiveEncoders(), broken=meld.BROKEN_CLIPS)
    return Table("meld", "meld7", meld.MELD_LABELS, dialogues, values, present, _columns(features))


def _columns(features: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {feature: DESCRIPTORS for feature in features if feature.startswith("audio/prosody@")}


def _clip_folder(root: Path, split: str) -> Path:
    for name in MELD_CLIPS[split]:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has no folder {MELD_CLIPS[split][0]}: unpack {split}.tar.gz of MELD.Raw there")


def _evaluated(path: Path, words: dict[str, str]) -> tuple[Line, ...]:
    lines = []
    for number, text in enumerate(_lines(path), 1):
        if not re.match(r"\[\d", text):
            continue  # the header, the ratings one by one, empty lines
        match = _EVALUATION.fullmatch(text)
        if match is None:
            raise DataError(f"{path}, line {number}: not [start - end] id emotion [valence, activation, dominance]")
        start, end, name, code, ratings = match.groups()
        if code is None:
            raise DataError(f"{path}, line {number}: utterance {name} has no label")
        if code in OTHER_CODES:
            continue
        if code not in CODES:
            raise DataError(f"{path}, line {number}: utterance {name} has the unknown label {code!r}")
        if name not in words:
            raise DataError(f"{path}, line {number}: utterance {name} is not in the transcriptions")
        speaker = name.rpartition("_")[2][0]
        try:
            affect = tuple(float(value) for value in ratings.split(",")) if ratings else None
            if affect is not None and len(affect) != 3:
                raise ValueError("three ratings are expected")
            lines.append(Line(name, speaker, words[name], CODES[code], float(start), float(end), affect))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    return tuple(lines)


def _transcript(path: Path) -> dict[str, str]:
    matches = [_TRANSCRIPT.fullmatch(line.strip()) for line in _lines(path)]  # others are asides such as "M: (laughs)"
    return {match[1]: match[2].strip() for match in matches if match}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"can't read {path}: {error}") from error
