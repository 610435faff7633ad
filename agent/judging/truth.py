"""What is true of a recording: who spoke when, what was said, and how it was meant, as far as somebody knows.

    talk.mp4                    the recording
    talk.truth.jsonl            one JSON object a line, for each utterance in order of time

    {"label": "joy", "speaker": "ann", "text": "Oh, come on in.", "start_ns": 1200000000, "end_ns": 2500000000}

A line has what a line of a session's `words.jsonl` has (`streams.session`), so a session folder with labels in that
file is a recording with truth. Any key may be missing: without a label an utterance is not judged; without times it is
the whole recording, which then has one line only. Clips of MELD are known by their file names (`dia12_utt3.mp4`,
`meld_test_dia12_utt3.mp4`; without a split the test split is meant), if the corpus is at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mer_agent.encoders.prosody import ProsodyEncoder
from mer_agent.errors import DataError, MediaError
from mer_agent.models.data import meld
from mer_agent.streams import session
from mer_agent.streams.given_words import Given, GivenWord
from mer_agent.streams.replay import open_media
from mer_agent.streams.types import Word

if TYPE_CHECKING:
    from torch import Tensor

    from mer_agent.models.data.datasets import Corpus
    from mer_agent.models.data.dialogues import Dialogue

SUFFIX = ".truth.jsonl"

_MELD = re.compile(r"(?:meld_)?(?:(train|dev|test)_)?(dia\d+_utt\d+)")
_SAME = {
    "happy": "joy",
    "happiness": "joy",
    "sad": "sadness",
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "surprised": "surprise",
    "calm": "neutral",
}
"""Other names of MELD's labels."""

Nanoseconds = Annotated[int, Field(ge=0)]


class Truth(BaseModel):
    """One utterance."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    label: str | None = None
    speaker: str | None = None
    text: str | None = None
    language: str | None = None
    """Code of the language of `text`, such as en; None is taken for one that the encoders read."""
    start_ns: Nanoseconds = 0
    end_ns: Nanoseconds | None = None
    words: tuple[GivenWord, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Truth:
        if self.end_ns is not None and self.end_ns <= self.start_ns:
            raise ValueError("it ends before it begins")
        return self

    @property
    def until_ns(self) -> int:
        """When it ended; always known of what `read` gives."""
        assert self.end_ns is not None  # noqa: S101
        return self.end_ns

    def timed(self) -> tuple[Word, ...]:
        """Its words; evenly over its time if nobody knows better."""
        given = Given(text=self.text or "", start_ns=self.start_ns, end_ns=self.until_ns, words=self.words)
        return given.timed()


@dataclass(frozen=True, slots=True)
class Case:
    """A recording, and what is true of it, in order of time; nothing where nobody knows anything."""

    path: Path
    kind: str
    """Where it comes from; figures are told for each."""
    truth: tuple[Truth, ...] = ()
    trained: tuple[Mapping[str, Tensor | None], ...] = field(default=())
    """For each utterance features as a model that learns from it would get them: of a table, or of the whole clip."""
    tracks: int = 1
    """Of sound; where there are several, nobody can say which of them an utterance is in."""

    @property
    def speakers(self) -> dict[str, int]:
        """Names as numbers, in order of appearance."""
        return {name: number for number, name in enumerate(dict.fromkeys(t.speaker for t in self.truth if t.speaker))}

    @property
    def known(self) -> frozenset[str]:
        """The stages whose result is known: `segmentation`, `words`, `speakers` and `features`."""
        complete = {
            "segmentation": bool(self.truth) and self.tracks == 1,
            "words": bool(self.truth) and all(one.text is not None for one in self.truth),
            "speakers": bool(self.truth) and all(one.speaker is not None for one in self.truth),
            "features": bool(self.trained) and self.tracks == 1,
        }
        return frozenset(stage for stage, there in complete.items() if there)


def find(folder: Path, data_dir: Path, descriptors: Sequence[str] = ()) -> list[Case]:
    """Gives the recordings in a folder (or the one that it is), in order of their names.

    Args:
        folder: holds media files and session folders; what can't be played is left out.
        data_dir: holds meld/, if the truth about clips of MELD is wanted.
        descriptors: of `audio/prosody@1`, which comes with MELD.

    Raises:
        MediaError: there is no recording.
        DataError: a truth is malformed.
    """
    paths = [folder] if folder.is_file() or (folder / session.MANIFEST).is_file() else sorted(folder.glob("*"))
    cases = []
    for path in paths:
        if path.suffix in (".jsonl", ".json", ".txt", ".csv", ".md"):
            continue
        try:
            recording = open_media(path)
        except MediaError:
            if path == folder:
                raise
            continue
        case = _case(path, recording.duration_ns or 0, data_dir, tuple(descriptors))
        cases.append(replace(case, tracks=len(recording.audio)))
    if not cases:
        raise MediaError(f"{folder}: holds no recording; give a folder with media files or recorded sessions")
    return cases


def named(label: str | None, labels: Sequence[str]) -> int | None:
    """Gives the index of a label in a checkpoint's, under whichever of its names; None where it has no counterpart."""
    if label is None:
        return None
    wanted = _SAME.get(label.lower(), label.lower())
    return next((at for at, own in enumerate(labels) if _SAME.get(own, own) == wanted), None)


def _case(path: Path, duration_ns: int, data_dir: Path, descriptors: tuple[str, ...]) -> Case:
    beside = path / session.WORDS if path.is_dir() else path.with_name(path.stem + SUFFIX)
    if beside.is_file():
        return Case(path, path.parent.name if path.is_file() else "sessions", _read(beside, duration_ns))
    match = _MELD.fullmatch(path.stem)
    if match and (data_dir / "meld").is_dir():
        return _of_meld(path, f"{match[1] or 'test'}_{match[2]}", duration_ns, data_dir / "meld", descriptors)
    return Case(path, "without truth")


def _read(path: Path, duration_ns: int) -> tuple[Truth, ...]:
    told = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            told.append(Truth.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "content"
            raise DataError(f"{path}, line {number}: {key}: {first['msg']}") from None
    if len(told) > 1 and any(one.end_ns is None for one in told):
        raise DataError(f"{path}: has several lines, so each needs start_ns and end_ns")
    ended = [one if one.end_ns is not None else one.model_copy(update={"end_ns": duration_ns}) for one in told]
    return tuple(sorted(ended, key=lambda one: (one.until_ns, one.start_ns)))


def _of_meld(path: Path, name: str, duration_ns: int, folder: Path, descriptors: tuple[str, ...]) -> Case:
    """A clip of MELD: the whole file is the utterance, and its prosody comes from the corpus's own tables."""
    lines = {line.id: line for dialogue in _meld_dialogues(folder) for line in dialogue.lines}
    if name not in lines:
        return Case(path, "without truth")
    line, trained = lines[name], {}
    feature = ProsodyEncoder.feature
    if descriptors and all((folder / f"{split}_prosody.csv").is_file() for split in meld.FILES.values()):
        batch = _meld_prosody(folder, descriptors).batch
        at = list(batch.names).index(name)
        trained[feature] = batch.features[feature][at] if batch.present[feature][at] else None
    truth = Truth(label=line.label, speaker=line.speaker, text=line.text, end_ns=duration_ns)
    return Case(path, "meld", (truth,), (trained,) if trained else ())


@cache
def _meld_dialogues(folder: Path) -> tuple[Dialogue, ...]:
    return meld.read_dialogues(folder)


@cache
def _meld_prosody(folder: Path, descriptors: tuple[str, ...]) -> Corpus:
    return meld.load_meld(folder, [ProsodyEncoder.feature], descriptors=descriptors)
