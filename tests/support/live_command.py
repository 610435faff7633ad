"""The command line in a process of its own, whose words can be waited for; what it hears, and what it publishes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from mer_agent.wire.schema import EmotionMessage

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
HEARD_S = 9.6
"""How much of the session is played."""


def beginning(folder: Path, rate_hz: int = 44_100) -> Path:
    """The beginning of the session as a sound file that players take."""
    part = folder / "part.wav"
    cut = ["ffmpeg", "-v", "error", "-i", SESSION / "audio-0.flac", "-t", HEARD_S, "-ar", rate_hz, part]
    subprocess.run([*map(str, cut)], check=True)
    return part


def replay(path: Path, output: Path, *options: str) -> None:
    """Replays a recording at full speed."""
    command = [sys.executable, "-m", "mer_agent.cli", "--set", "mqtt.port=0", "--speed", "max", "-q", *options]
    subprocess.run([*command, "--replay", str(path), "--output", str(output)], check=True, timeout=240)


def messages(path: Path) -> list[EmotionMessage]:
    """What `--output` wrote."""
    return [EmotionMessage.from_json(line) for line in path.read_text().splitlines()]


def until_quiet(path: Path, quiet_s: float) -> None:
    """Waits until a file has not grown for so long."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < quiet_s:
        if path.stat().st_size != size:
            size, since = path.stat().st_size, time.monotonic()
        time.sleep(0.1)


def last_words(said: Iterable[EmotionMessage]) -> dict[str, EmotionMessage]:
    """Utterance -> its last revision, in order of the first ones."""
    return {message.utterance: message for message in said if message.kind != "partial"}


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
