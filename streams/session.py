"""A recorded session: a folder with sound, pictures, words and predictions on one time base.

    manifest.json        what is in the folder and when each recording began
    audio-N.flac         one file for each microphone, 16 kHz mono
    audio-N.clock.jsonl  where its samples lie in time: `Anchor`, one JSON object a line; absent where they lie gapless
    video-N.mkv          one file for each camera
    words.jsonl          who said what and when: `Spoken`, one JSON object a line, in order of time
    predictions.jsonl    what the agent made of it, in the wire schema

All times are session time in nanoseconds. `recorder` writes such a folder, `replay` plays it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mer_agent.errors import MediaError
from mer_agent.streams.media import check_exists

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
WORDS = "words.jsonl"
PREDICTIONS = "predictions.jsonl"

Nanoseconds = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    """Something on disk. Unknown keys are kept out of the way, so that a newer recording can still be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Recorded(_Record):
    """One file of a session and when it began."""

    # A plain name: a manifest must not lead out of its folder.
    file: str = Field(pattern=r"^(audio-\d+\.flac|video-\d+\.mkv)$")
    start_ns: Nanoseconds = 0

    @property
    def source(self) -> str:
        """What the recording's chunks or frames are called: `audio-0`."""
        return self.file.partition(".")[0]


class Manifest(_Record):
    """What a session folder holds."""

    format: Literal["mer-agent/session@1"] = "mer-agent/session@1"
    started_at: AwareDatetime = datetime.fromtimestamp(0, UTC)
    """Wall-clock time of session time 0."""
    language: str | None = None
    audio: tuple[Recorded, ...] = ()
    video: tuple[Recorded, ...] = ()
    speakers: Mapping[str, str | None] = Field(default_factory=dict)
    """Microphone -> name of the one speaker that it is of; empty where voices have to be told apart."""
    versions: Mapping[str, str] = Field(default_factory=dict)
    """What recorded it: program, model, weights."""
    ended_ns: Nanoseconds | None = None
    """When the recording was closed; None: it never was, its end may be missing."""
    note: str = ""


class Anchor(_Record):
    """A line of `audio-N.clock.jsonl`: from this sample on, time counts anew; samples before the first begin at 0."""

    sample: int = Field(ge=0)
    """How many samples of the file come before."""
    at_ns: Nanoseconds
    broken: bool = False
    """Sound is missing before it."""
    gone: bool = False
    """The microphone went away at this moment."""


class SpokenWord(_Record):
    """One word with its time."""

    text: str
    start_ns: Nanoseconds
    end_ns: Nanoseconds
    probability: float = Field(default=1.0, ge=0, le=1)


class Spoken(_Record):
    """A line of `words.jsonl`: a turn, its speaker and, where somebody judged it, its emotion."""

    speaker: str
    text: str
    start_ns: Nanoseconds
    end_ns: Nanoseconds
    label: str | None = None
    words: tuple[SpokenWord, ...] = ()

    def to_json(self) -> str:
        """The line; what nobody knows is absent."""
        return json.dumps(self.model_dump(exclude_none=True, exclude_defaults=True), ensure_ascii=False)


R = TypeVar("R", bound=_Record)


def read_manifest(folder: Path) -> Manifest:
    """Gives the manifest of a session folder, all of whose files are there.

    Raises:
        MediaError: the folder is no session, its manifest is malformed, or a file that it names is missing.
    """
    check_exists(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise MediaError(f"{folder}: a folder without {MANIFEST} is no recorded session; name a media file")
    manifest = _parse(Manifest, path, _text(path), "")
    if not manifest.audio:
        raise MediaError(f"{path}: names no sound (audio-N.flac), and without sound there is nothing to cut")
    for recorded in (*manifest.audio, *manifest.video):
        if not (folder / recorded.file).is_file():
            raise MediaError(f"{folder}: {MANIFEST} names {recorded.file}, which is missing")
    return manifest


def read_words(folder: Path) -> list[Spoken]:
    """Gives what was said in a session, in order of time; nothing when nobody wrote it down.

    Raises:
        MediaError: a line is malformed.
    """
    return _lines(Spoken, folder / WORDS)


def read_clock(folder: Path, source: str) -> list[Anchor]:
    """Gives where the samples of a microphone lie in time; nothing when they lie without a gap from its start on.

    Raises:
        MediaError: a line is malformed.
    """
    return _lines(Anchor, folder / clock_file(source))


def clock_file(source: str) -> str:
    """Name of the file with a microphone's anchors."""
    return f"{source}.clock.jsonl"


def write_session(folder: Path, manifest: Manifest, words: Iterable[Spoken] = ()) -> None:
    """Writes the manifest and the words of a session; the recordings themselves are the writer's business."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    if lines := [spoken.to_json() + "\n" for spoken in words]:
        _replace(folder / WORDS, "".join(lines))


def _replace(path: Path, text: str) -> None:
    """Writes a file so that whoever reads it, even after a crash, finds the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def _lines(kind: type[R], path: Path) -> list[R]:
    """All lines of a file. What a crash left of the last one is left out; it has no end."""
    if not path.is_file():
        return []
    whole = _text(path).split("\n")
    if whole.pop():
        log.warning("%s: its last line was never finished", path)
    return [_parse(kind, path, line, f", line {number}") for number, line in enumerate(whole, 1) if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path}: can't be read as text") from error


def _parse(kind: type[R], path: Path, text: str, where: str) -> R:
    """Reads one record; the error names the place and the first thing that is wrong, not what was said."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise MediaError(f"{path}{where}: {key}: {first['msg']}") from error
