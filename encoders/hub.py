"""Takes weights from the model hub, for users who have it and the package `huggingface_hub`."""

from __future__ import annotations

import errno
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from mer_agent.encoders.carriers import POLL_S, SourceError
from mer_agent.encoders.catalogue import Entry, WeightFile
from mer_agent.encoders.storing import read_chunks


def chunks_from_hub(
    entry: Entry, file: WeightFile, workshop: Path, report: Callable[[int, int], None]
) -> Iterator[bytes]:
    """Gives the bytes of `file` from the entry's repository on the hub; what is there half already is continued.

    The hub names a hash of each file (sha256 of a large one, git's hash of a small one). The bytes must have it, which
    is all that can be asked of a file that the catalogue doesn't pin.

    Raises:
        SourceError: There is no hub, no such file, or its bytes aren't what the hub said.
    """
    home = entry.hub
    if home is None:
        raise SourceError("it is not on the hub")
    try:
        import huggingface_hub as hub
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    except ImportError:
        raise SourceError("the hub needs the package huggingface_hub (pip install huggingface_hub)") from None
    disable_progress_bars()
    folder = workshop / "hub"
    try:
        url = hub.hf_hub_url(home.repo, file.published_name, revision=home.revision)
        facts = hub.get_hf_file_metadata(url)
        got = _in_background(
            lambda: hub.hf_hub_download(
                home.repo, file.published_name, revision=facts.commit_hash or home.revision, local_dir=folder
            ),
            lambda: report(_largest(folder), facts.size or 0),
        )
        path = Path(got)
    except OSError as error:
        if error.errno == errno.ENOSPC or error.filename is not None:
            raise  # the disk, not the network
        raise _unreachable(entry, error) from error
    except Exception as error:  # the hub's client has its own errors and those of its HTTP library
        raise _unreachable(entry, error) from error
    _check(path, (facts.etag or "").strip('"'))
    yield from read_chunks(path)


def _in_background(work: Callable[[], str], poll: Callable[[], None]) -> str:
    """Runs `work` in a thread and calls `poll` meanwhile; a daemon, so that Ctrl-C needn't wait for a big file."""
    results: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except Exception as error:  # handed over, and raised where the caller is
            results.put(error)

    threading.Thread(target=run, name="hub-download", daemon=True).start()
    while True:
        try:
            result = results.get(timeout=POLL_S)
        except queue.Empty:
            poll()
            continue
        if isinstance(result, Exception):
            raise result
        return result


def _unreachable(entry: Entry, error: Exception) -> SourceError:
    reason = (str(error).strip().splitlines() or [""])[0][:120]
    return SourceError(f"the hub didn't give it ({type(error).__name__}: {reason})")


def _check(path: Path, promised: str) -> None:
    if len(promised) == 64:
        digest = hashlib.sha256()
    elif len(promised) == 40:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        path.unlink()
        raise SourceError(f"the hub named no hash for {path.name}")
    for chunk in read_chunks(path):
        digest.update(chunk)
    if digest.hexdigest() != promised:
        path.unlink()
        raise SourceError(f"{path.name} from the hub has hash {digest.hexdigest()} but must have {promised}; removed")


def _largest(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue
    return max(sizes)
