"""Other people's programs that a bench compares us with, each in a virtual environment of its own.

They need other versions of what we need (RealtimeSTT another `websockets` than amqtt), so they never share ours.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from platformdirs import user_cache_path

from mer_agent.errors import FaultError

PEERS: Mapping[str, Sequence[Sequence[str]]] = {
    "realtimestt": (
        (
            "torch>=2.6,<3",
            "webrtcvad-wheels==2.0.14",
            "halo==0.0.31",
            "colorama==0.4.6",
            "scipy>=1.15,<2",
            "websockets==16.0",
            "websocket-client==1.9.0",
            "soundfile==0.13.1",
            "faster-whisper==1.2.1",
            "onnxruntime>=1.20,<2",
        ),
        # Without what these ask for besides: PyAudio needs a compiler, and nothing is heard from a microphone here.
        ("--no-deps", "RealtimeSTT==1.1.2", "silero-vad==6.2.3"),
    ),
    "whisperstreaming": (
        (
            "faster-whisper==1.1.1",
            "requests>=2.32,<3",  # faster-whisper of this version forgets to ask for it
            "onnxruntime>=1.20,<2",
            "opus-fast-mosestokenizer==0.0.8.11",
        ),
        # Without what it asks for besides: an ALSA binding that needs a compiler, and a reader of files.
        ("--no-deps", "whisper-streaming==0.1.0"),
    ),
}
"""Name -> what pip installs for it, call by call."""


def script(name: str) -> Path:
    """The file that such a Python runs."""
    return Path(__file__).with_name(f"peer_{name}.py")


def python(name: str, say: Callable[[str], None] = lambda text: None) -> Path:
    """The Python of a peer's environment, which is made when it isn't there yet.

    Raises:
        FaultError: something can't be installed.
    """
    folder = user_cache_path("mer-agent") / "peers" / name
    interpreter = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    made = folder / "installed"
    if made.is_file():
        return interpreter
    say(f"Making an environment for {name} in {folder} (about 1 GB, once) ...")
    venv.create(folder, with_pip=True, clear=True)
    for packages in PEERS[name]:
        done = subprocess.run(  # noqa: S603  # a fixed list
            [interpreter, "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:]
            raise FaultError(f"{name} can't be installed into {folder}: {' '.join(reason)}; --no-peer does without")
    made.touch()
    return interpreter
