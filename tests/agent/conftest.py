"""A microphone and a camera without hardware, as fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live_command import SESSION
from support.mjpeg import NetworkCamera, filmed, network_camera
from support.pulse import Pulse, pulse_audio


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    with pulse_audio(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def camera() -> Iterator[NetworkCamera]:
    """Shows the session's faces."""
    with network_camera(10, filmed(SESSION / "video-0.mkv", 130)) as server:
        yield server
