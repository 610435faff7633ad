"""A recorded session: a folder with sound, pictures, words and predictions on one time base.

    manifest.json      what is in the folder and when each recording began
    audio-N.flac       one file for each microphone, 16 kHz mono
    video-N.mkv        one file for each camera
    words.jsonl        who said what and when: `Spoken`, one JSON object a line, in order of time
    predictions.jsonl  what the agent made of it, in the wire schema

All times are session time in nanoseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mer_agent.errors import MediaError
from mer_agent.streams.media import check_exists

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
    note: str = ""


class Spoken(_Record):
    """A line of `words.jsonl`: a turn, its speaker and, where somebody judged it, its emotion."""

    speaker: str
    text: str
    start_ns: Nanoseconds
    end_ns: Nanoseconds
    label: str | None = None


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
    path = folder / WORDS
    if not path.is_file():
        return []
    lines = enumerate(_text(path).splitlines(), 1)
    return [_parse(Spoken, path, line, f", line {number}") for number, line in lines if line.strip()]


def write_session(folder: Path, manifest: Manifest, words: Iterable[Spoken] = ()) -> None:
    """Writes the manifest and the words of a session; the recordings themselves are the writer's business."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    lines = [json.dumps(spoken.model_dump(exclude_none=True), ensure_ascii=False) + "\n" for spoken in words]
    if lines:
        (folder / WORDS).write_text("".join(lines), encoding="utf-8")


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
