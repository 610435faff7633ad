"""What all commands share at the terminal: where they print, and what they say when an extra is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from mer_agent.errors import InputError, MerError, MissingExtraError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

# A table must not lose letters only because it goes into a file.
_WIDTH = None if sys.stdout.isatty() else 200

out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
"""Results: standard output."""
err = Console(stderr=True, highlight=False, soft_wrap=True)
"""Everything else: standard error."""


def say(text: str) -> None:
    """Tells the user something that is not a result."""
    err.print(text, style="dim", markup=False)


def report(error: BaseException) -> int:
    """Says what went wrong, in one line without a traceback; gives the exit code."""
    while isinstance(error, BaseExceptionGroup):
        # The error that started it comes first; the others are its echoes in tasks that ran beside it.
        error = error.exceptions[0]
    if isinstance(error, MerError):
        err.print(f"mer-agent: {error}", markup=False)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        err.print(f"mer-agent: {error.filename or 'output'}: {error.strerror}", markup=False)
        return 1
    err.print(f"mer-agent: a bug, {type(error).__name__}; run with --debug to see where", markup=False)
    return 1


def leave() -> NoReturn:
    """Ends the process after Ctrl-C, when all files are closed and all is said.

    Not by sys.exit, which would wait for threads that are still loading models, and for torch to be taken apart.
    """
    out.file.flush()
    os._exit(INTERRUPTED)


@contextmanager
def agent_extra(extra: str = "agent") -> Iterator[None]:
    """Turns an import that fails inside the block into the command that installs what is missing.

    Raises:
        MissingExtraError: a package of the extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("mer_agent"):
            raise  # one of our own modules: a bug, not a missing extra
        raise MissingExtraError(f"{error.name} is not installed; run: pip install 'mer-agent[{extra}]'") from error


def spare(recording: Path, output: Path) -> None:
    """Makes sure that the output doesn't take the place of what is to be read.

    Raises:
        MediaError: the recording can't be read, so nothing may be written.
        InputError: the output is the recording, or a part of it.
    """
    from mer_agent.streams.replay import open_media

    tracks = open_media(recording)
    parts = {track.file.path.resolve() for track in (*tracks.audio, *tracks.video)}
    if output.resolve() in parts:
        raise InputError(f"--output {output}: that is the recording itself; choose another file")
