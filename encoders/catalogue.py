"""The weights catalogue as frozen records, read from `catalogue.toml`, which also explains each key."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mer_agent.errors import WeightsError


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package that carries weights: `requirement` is `name==version`, `size` the wheel's length in bytes."""

    requirement: str
    size: int
    platform: str = "any"

    def is_file(self, filename: str) -> bool:
        """Whether `filename` is this wheel, by the naming rules of wheels (name and version, any spelling)."""
        if not filename.endswith(".whl") or filename.count("-") < 4:
            return False
        name, version = filename.split("-")[:2]
        return _normalised(f"{name}=={version}") == _normalised(self.requirement)


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes in a wheel: the handle of the wheel in its entry, and the path inside it."""

    wheel: str
    path: str


@dataclass(frozen=True, slots=True)
class Hub:
    """The official repository on the model hub."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of an entry: its name in the cache, what its bytes must be, and where they are in the wheels.

    `sha256` and `size` describe the file as its origin publishes it; both are None for files of the hub that we never
    had in hand. With `original`, the published file is a pickle and what is kept is the safetensors made from it.
    """

    name: str
    sha256: str | None = None
    size: int | None = None
    parts: tuple[Part, ...] = ()
    member: str | None = None
    original: str | None = None
    state: str | None = None
    kept_sha256: str | None = None
    kept_size: int | None = None

    @property
    def published_name(self) -> str:
        """The file's name at its origin."""
        return self.original or self.name


@dataclass(frozen=True, slots=True)
class Entry:
    """Weights under one name: everything that a person or `weights.pull` needs to know about them."""

    name: str
    description: str
    role: str
    licence: str
    origin: str
    files: tuple[WeightFile, ...]
    default: bool = False
    hub: Hub | None = None
    wheels: Mapping[str, Wheel] | None = None
    archive: tuple[Part, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes of all files as published; None when the hub alone knows."""
        sizes = [file.size for file in self.files]
        return sum(size or 0 for size in sizes) if None not in sizes else None

    @property
    def download_size(self) -> int | None:
        """Bytes that a pull from the wheels moves; None when there are none."""
        return sum(wheel.size for wheel in self.wheels.values()) if self.wheels else None


def _normalised(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", requirement).lower()


def _part(text: str) -> Part:
    handle, _, path = text.partition(":")
    return Part(handle, path)


def _file(raw: dict[str, Any]) -> WeightFile:
    parts = tuple(_part(text) for text in raw.pop("parts", ()))
    return WeightFile(parts=parts, **raw)


def parse(text: str) -> dict[str, Entry]:
    """Gives the entries of a catalogue in TOML, in its order.

    Raises:
        WeightsError: A name that would leave the cache folder, or a part of a wheel that isn't declared.
    """
    entries = {}
    for name, raw in tomllib.loads(text).items():
        files = tuple(_file(dict(file)) for file in raw.pop("files"))
        wheels = {handle: Wheel(**wheel) for handle, wheel in raw.pop("wheels", {}).items()}
        hub = Hub(**raw.pop("hub")) if "hub" in raw else None
        archive = tuple(_part(part) for part in raw.pop("archive", ()))
        for label in (name, *(file.name for file in files)):
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", label):
                raise WeightsError(f"weights catalogue: {label!r} is not a plain file name")
        for part in (*archive, *(part for file in files for part in file.parts)):
            if part.wheel not in wheels:
                raise WeightsError(f"weights catalogue: {name} takes {part.path} from an undeclared wheel")
        entries[name] = Entry(name=name, files=files, wheels=wheels, hub=hub, archive=archive, **raw)
    return entries


@functools.cache
def load() -> Mapping[str, Entry]:
    """Gives the catalogue that comes with the package: name -> entry."""
    return parse(resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8"))


def find(name: str) -> Entry:
    """Gives the entry of a name.

    Raises:
        WeightsError: There is none; the message offers the nearest name.
    """
    entries = load()
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "see: mer-agent weights list"
    raise WeightsError(f"no weights are called {name!r}; {hint}")
