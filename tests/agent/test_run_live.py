"""The live path as people use it: a real microphone and a real network camera, against the replay of the same media."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from support import needs
from support.live_command import Running
from support.mjpeg import NetworkCamera
from support.pulse import Pulse

from mer_agent.schema import EmotionMessage
from mer_agent.streams.media import video_frames

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
HEARD_S = 9.6
"""How much of the session is played."""

pytestmark = [pytest.mark.real_weights, pytest.mark.device]


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    for name in ("whisper-base", "mpnet", "ge2e"):
        needs.weights(name)


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    daemon = Pulse(tmp_path)
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture
def camera() -> Iterator[NetworkCamera]:
    """Shows the session's faces, with the noise of a sensor."""
    random = np.random.default_rng(0)
    frames = [frame.image for frame in video_frames(SESSION / "video-0.mkv")][:130]
    noisy = [np.clip(image + random.integers(-3, 4, image.shape), 0, 255).astype(np.uint8) for image in frames]
    server = NetworkCamera(noisy, rate_hz=10)
    server.plug()
    yield server
    server.unplug()


@pytest.fixture
def start(pulse: Pulse, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts the command; what still runs at the end is killed."""
    started: list[Running] = []

    def call(*arguments: object) -> Running:
        started.append(Running(tmp_path, *arguments, environment=pulse.environment))
        return started[-1]

    yield call
    for one in started:
        one.process.kill()
        one.process.wait()


def finals(path: Path) -> list[EmotionMessage]:
    messages = [EmotionMessage.from_json(line) for line in path.read_text().splitlines()]
    return [message for message in messages if message.kind == "final"]


def pairs(
    heard: Sequence[EmotionMessage], wanted: Sequence[EmotionMessage]
) -> list[tuple[EmotionMessage, EmotionMessage]]:
    """Which utterance is which, by the shift between the two clocks that makes most of them fall together."""
    shifts = [one.start_ns - other.start_ns for one in heard for other in wanted]
    return max(
        (
            [(one, other) for one in heard for other in wanted if abs(one.start_ns - other.start_ns - shift) < 150e6]
            for shift in shifts
        ),
        key=len,
        default=[],
    )


def test_live_gives_the_labels_of_the_replay_and_survives_both_devices(
    start: Callable[..., Running], pulse: Pulse, camera: NetworkCamera, tmp_path: Path
) -> None:
    part = tmp_path / "part.wav"
    cut = ["ffmpeg", "-v", "error", "-i", SESSION / "audio-0.flac", "-t", HEARD_S, "-ar", 44_100, part]
    subprocess.run([*map(str, cut)], check=True)
    live, replayed = tmp_path / "live.jsonl", tmp_path / "replayed.jsonl"
    agent = start("--set", "mqtt.port=0", "--mic", "default", "--camera", camera.url, "--output", live)
    agent.until("Ready after .* listening to default, http", 90)
    time.sleep(1.0)
    assert pulse.play(part).wait(HEARD_S + 10) == 0
    time.sleep(2.0)
    pulse.kill()
    camera.unplug()
    agent.until("audio-0: .*trying again", 3)
    agent.until("video-0: .*trying again", 3)
    pulse.start()
    camera.plug()
    agent.until("audio-0: is back", 12)  # pauses between tries grow to eight seconds
    agent.until("video-0: is back", 12)
    assert agent.interrupt() < 3.0, agent.said
    assert agent.process.returncode == 130
    assert "Traceback" not in agent.said

    again = [sys.executable, "-m", "mer_agent.cli", "--set", "mqtt.port=0", "--speed", "max", "-q"]
    subprocess.run([*again, "--replay", str(part), "--output", str(replayed)], check=True, timeout=120)
    heard, wanted = finals(live), finals(replayed)
    same = pairs(heard, wanted)
    told = f"live {[(m.label, m.text) for m in heard]}, replayed {[(m.label, m.text) for m in wanted]}"
    assert len(wanted) >= 5, told
    assert len(same) >= len(wanted) - 1, told
    assert sum(one.label == other.label for one, other in same) >= len(same) - 1, told
    assert all((message.delay_ms or 0) > 0 for message in heard)
    assert heard[0].session.startswith("live-")


def test_a_second_ctrl_c_ends_at_once(start: Callable[..., Running]) -> None:
    agent = start("--set", "mqtt.port=0", "--mic", "default")
    agent.until("Ready after", 90)
    time.sleep(0.5)
    agent.process.send_signal(signal.SIGINT)
    time.sleep(0.02)  # two at once would be one
    assert agent.interrupt() < 1.0
    assert agent.process.returncode == 130
