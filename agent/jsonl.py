"""Writes every prediction as one line of JSON, for `--output`."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Self

from mer_agent.errors import FaultError, InputError
from mer_agent.wire.schema import EmotionMessage

log = logging.getLogger(__name__)


class JsonLines:
    """An output file; call it with each message. Words are in it, since whoever asks for a file wants them.

    What the file held before stays until the first line is written, or until `close` when there was none: a session
    that fails at its start destroys nothing.

    A disk that is full stops the file, not the session: emotions are still published, and `close` then raises.

    Raises:
        InputError: the file can't be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed: OSError | None = None
        self._unwritten = 0
        self._begun = False
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--output {path}: can't be written ({error.strerror})") from error

    def __call__(self, message: EmotionMessage) -> None:
        """Appends a line and hands it to the operating system, so that a crash later doesn't lose it."""
        if self._failed is None:
            try:
                self._begin()
                self._file.write(message.to_json() + "\n")
                self._file.flush()
            except OSError as error:
                self._failed = error
                log.error("%s: can't be written (%s); predictions are still published", self._path, error.strerror)
        if self._failed is not None:
            self._unwritten += 1

    def close(self) -> None:
        """Closes the file.

        Raises:
            FaultError: some lines couldn't be written.
        """
        try:
            if self._failed is None:
                self._begin()
            self._file.close()
        except OSError as error:
            self._failed = self._failed or error
        if self._failed is not None:
            raise FaultError(f"{self._path}: {self._unwritten} lines are missing ({self._failed.strerror})")

    def _begin(self) -> None:
        """Drops what the file held before."""
        if not self._begun and self._file.seekable():
            self._file.truncate(0)
        self._begun = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()
