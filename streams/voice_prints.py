"""Voices that are known by name: enrolled once, from a few seconds, with the consent of whose voice it is.

    mer-agent enroll ann ann.wav --consent      mer-agent forget ann

A voice print is biometric data. It is kept in one file of the user's, which nobody else can read, only when consent is
said in so many words, and it is gone when it is forgotten. It never leaves the machine.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mer_agent.errors import InputError

FORMAT = "mer-agent/voices@1"
LEAST_S = 3.0
"""A voice isn't known by less speech."""

Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$")]


class VoicePrint(BaseModel):
    """One voice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    feature: str
    """The recipe of the embedding; a print of another recipe is of no use."""
    embedding: tuple[float, ...] = Field(min_length=1, max_length=4096)
    speech_s: float = Field(gt=0)
    consented_at: AwareDatetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = FORMAT
    voices: tuple[VoicePrint, ...] = ()


def default_file() -> Path:
    """Where this user's voice prints are kept."""
    return platformdirs.user_data_path("mer-agent", appauthor=False) / "voices.json"


def load(file: Path) -> tuple[VoicePrint, ...]:
    """Gives the voices in a file; none if it isn't there.

    Raises:
        InputError: it can't be read, or is no such file.
    """
    try:
        read = _File.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror})") from error
    except ValidationError as error:
        # pydantic would quote the voice.
        raise InputError(f"{file}: holds no voice prints of this version; delete it and enroll again") from error
    if read.format != FORMAT:
        raise InputError(f"{file}: holds no voice prints of this version; delete it and enroll again")
    return read.voices


def enroll(file: Path, name: str, feature: str, embedding: tuple[float, ...], speech_s: float) -> None:
    """Keeps a voice, in place of one of the same name. Consent is the caller's to ask for.

    Raises:
        InputError: too little speech, a name that can't be shown, or a file that can't be written.
    """
    if speech_s < LEAST_S:
        raise InputError(f"only {speech_s:.1f} s of speech: a voice needs {LEAST_S:.0f} s, better ten")
    try:
        own = VoicePrint(
            name=name, feature=feature, embedding=embedding, speech_s=speech_s, consented_at=datetime.now(UTC)
        )
    except ValidationError as error:
        raise InputError("the name needs 1 to 64 characters that can be shown") from error
    _save(file, (*(one for one in load(file) if one.name != name), own))


def forget(file: Path, name: str) -> bool:
    """Deletes a voice; gives whether it was known. The last one takes the file with it.

    Raises:
        InputError: the file can't be read or written.
    """
    voices = load(file)
    left = tuple(one for one in voices if one.name != name)
    if len(left) == len(voices):
        return False
    if left:
        _save(file, left)
    else:
        file.unlink()
    return True


def _save(file: Path, voices: tuple[VoicePrint, ...]) -> None:
    partial = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Readable for nobody else from its first byte on.
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(_File(voices=voices).model_dump_json())
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{file}: can't be written ({error.strerror})") from error
