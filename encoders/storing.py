"""Puts files into a folder so that a name never stands for something half written or unverified.

A lock for each folder keeps two programs apart; bytes go to `NAME.part`, are hashed on the way, reach the disk (fsync)
and only then take their name (atomic rename). A pickle is opened without running code and kept as safetensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mer_agent.encoders.catalogue import WeightFile
from mer_agent.errors import MissingExtraError

CHUNK_BYTES = 1 << 20


class RefusedError(Exception):
    """These bytes are not the ones that were promised, or can't be opened safely."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What stands on the disk: length and sha256 of the file as kept."""

    size: int
    sha256: str


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file `path`, waiting for whoever has it; calls `waiting` now and then meanwhile.

    The system drops the lock when its holder dies, so nothing stale is left; the empty file stays, because removing
    it would let a third program lock another file of the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        while not _try_lock(file.fileno()):
            waiting()
            time.sleep(0.1)
        try:
            yield
        finally:
            _unlock(file.fileno())


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def read_chunks(path: Path) -> Iterator[bytes]:
    """Gives the bytes of a file in pieces."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def fingerprint(path: Path, report: Callable[[int], None] = lambda _: None) -> Stored:
    """Gives length and sha256 of a file; `report` hears how many bytes are done."""
    digest, done = hashlib.sha256(), 0
    for chunk in read_chunks(path):
        digest.update(chunk)
        done += len(chunk)
        report(done)
    return Stored(done, digest.hexdigest())


def store(
    chunks: Iterable[bytes], target: Path, file: WeightFile, *, convert: bool, report: Callable[[int], None]
) -> Stored:
    """Writes `chunks` as `target` if they are the bytes that `file` promises.

    Args:
        chunks: The published file's bytes.
        target: Where the file is to stand.
        file: What it must be; without a sha256 anything is taken.
        convert: The bytes are a pickle: keep the safetensors made from it.
        report: Hears how many bytes are written.

    Raises:
        RefusedError: Length or sha256 differ, or the pickle holds more than tensors. Nothing is left behind.
        OSError: The disk is full or can't be written. Nothing is left behind.
    """
    part = target.with_name(target.name + ".part")
    kept = target.with_name(target.name + ".kept.part")
    try:
        stored = _write(chunks, part, file, report)
        if convert:
            _convert(part, kept, file)
            _sync(kept)
            stored = fingerprint(kept)
            kept.replace(target)
        else:
            part.replace(target)
        _sync(target.parent)
        return stored
    finally:
        part.unlink(missing_ok=True)
        kept.unlink(missing_ok=True)


def write_whole(chunks: Iterable[bytes], target: Path) -> None:
    """Writes a file that takes its name only once all of it is on the disk."""
    part = target.with_name(target.name + ".part")
    try:
        _write(chunks, part, WeightFile(target.name), lambda _: None)
        part.replace(target)
        _sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _write(chunks: Iterable[bytes], part: Path, file: WeightFile, report: Callable[[int], None]) -> Stored:
    digest, done = hashlib.sha256(), 0
    with part.open("wb") as out:
        for chunk in chunks:
            done += len(chunk)
            if file.size is not None and done > file.size:
                raise RefusedError(f"{file.published_name} is longer than the {file.size} bytes it must have; removed")
            out.write(chunk)
            digest.update(chunk)
            report(done)
        out.flush()
        os.fsync(out.fileno())
    got = digest.hexdigest()
    if file.sha256 is not None and got != file.sha256:
        raise RefusedError(
            f"{file.published_name} has sha256 {got} ({done} bytes) but must have {file.sha256} ({file.size}); removed"
        )
    return Stored(done, got)


def _convert(pickled: Path, target: Path, file: WeightFile) -> None:
    """Keeps the tensors of a pickle as safetensors, without ever running what else the pickle may hold."""
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtraError(
            f"{file.published_name} has to be converted, which needs torch: pip install 'mer-agent[agent]'"
        ) from error
    try:
        content = torch.load(pickled, map_location="cpu", weights_only=True)
        tensors = content[file.state] if file.state else content
        # Clones: safetensors refuses tensors that share memory, and a view would drag its whole storage along.
        tensors = {str(key): tensor.detach().clone().contiguous() for key, tensor in tensors.items()}
    except Exception as error:  # torch's reader raises whatever a damaged or hostile pickle makes it raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RefusedError(
            f"{file.published_name} can't be opened as plain tensors ({reason[:120]}); removed"
        ) from error
    save_file(tensors, target, metadata={"format": "pt"})


def _sync(path: Path) -> None:
    """Makes sure that a file, or the names in a folder, have reached the disk, as far as the system lets us."""
    # Windows can't open folders, and some network disks can't sync them: the rename is still atomic there.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
