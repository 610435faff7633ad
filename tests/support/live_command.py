"""The command line in a process of its own, whose words can be waited for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path


class Running:
    """The command, running; what it says can be waited for."""

    def __init__(self, folder: Path, *arguments: object, environment: dict[str, str]) -> None:
        self._path = folder / "said.txt"
        with self._path.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mer_agent.cli", *map(str, arguments)],
                stdout=subprocess.DEVNULL,
                stderr=file,
                env={**os.environ, **environment},
            )

    @property
    def said(self) -> str:
        return self._path.read_text()

    def until(self, pattern: str, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not re.search(pattern, self.said):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.said}"
            time.sleep(0.05)

    def interrupt(self) -> float:
        """Ctrl-C; gives the seconds that it took to end."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        return time.monotonic() - begun
