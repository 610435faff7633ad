"""A sound card without hardware: PulseAudio with a null sink, whose monitor is the default microphone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from support import needs

_ALSA = """</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
"""


class Pulse:
    """A PulseAudio daemon of this test's own; what is played into it is heard from the device `default`.

    At 44.1 kHz, the rate at which ALSA's plugin offers it, nobody resamples what is captured; at 16 kHz nobody
    resamples what is played either, if it has that rate and the agent asks for it.
    """

    def __init__(self, folder: Path, rate_hz: int = 44_100) -> None:
        self._rate_hz = rate_hz
        for program in ("pulseaudio", "pactl", "paplay"):
            needs.program(program)
        self._players: list[subprocess.Popen[bytes]] = []
        run = folder / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        (folder / "alsa.conf").write_text(_ALSA)
        self.environment = {
            "XDG_RUNTIME_DIR": str(run),
            "PULSE_RUNTIME_PATH": str(run / "pulse"),
            "PULSE_STATE_PATH": str(folder / "state"),
            "PULSE_COOKIE": str(folder / "cookie"),
            "ALSA_CONFIG_PATH": str(folder / "alsa.conf"),
        }

    def start(self) -> None:
        """Starts the daemon, with the null sink `fake`."""
        sink = f"module-null-sink sink_name=fake rate={self._rate_hz} channels=1 format=float32le"
        options = ["--exit-idle-time=-1", "--daemonize=no", "--log-level=error", "-n"]
        options += ["-L", "module-native-protocol-unix", "-L", sink]
        self._daemon = subprocess.Popen(
            ["pulseaudio", *options], env=self._env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            if self._run("pactl", "set-default-source", "fake.monitor").returncode == 0:
                return
            time.sleep(0.05)
        needs._missing("PulseAudio doesn't start here")

    def hang(self) -> None:
        """Stops the daemon in the middle: it is there, and never answers again."""
        self._daemon.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """Ends the daemon without a word."""
        for process in (self._daemon, *self._players):
            process.kill()
            process.wait()

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Plays a file into the microphone, in the background."""
        player = subprocess.Popen(["paplay", "--device=fake", str(path)], env=self._env())
        self._players.append(player)
        return player

    def _run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, env=self._env(), capture_output=True, check=False)

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


@contextlib.contextmanager
def pulse_audio(folder: Path, rate_hz: int = 44_100) -> Iterator[Pulse]:
    """A daemon that runs, and is killed at the end."""
    daemon = Pulse(folder, rate_hz)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.kill()
