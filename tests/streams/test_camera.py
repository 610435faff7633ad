"""A real network camera over HTTP: pictures, their times, and what becomes of it when its plug is pulled."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.media_files import write_media
from support.mjpeg import NetworkCamera, network_camera

from mer_agent.errors import DeviceError, MissingExtraError
from mer_agent.streams.camera import LONGEST_SIDE_PX, Camera, cameras
from mer_agent.streams.clock import RealClock
from mer_agent.streams.supervise import State, Supervisor
from mer_agent.streams.types import VideoFrame


class Watched:
    """A supervised camera, what it gave and how it was."""

    def __init__(self, wanted: str, rate_hz: float = 10.0) -> None:
        self.clock = RealClock()
        self.frames: list[VideoFrame] = []
        self.states: list[tuple[State, int]] = []
        camera = Camera("video-0", wanted, self.clock, rate_hz=rate_hz)
        self.supervisor = Supervisor(camera, self.frames.append, self._report, self.clock)

    def _report(self, source: str, state: State) -> None:
        assert source == "video-0"
        self.states.append((state, self.clock.now_ns()))

    async def until(self, state: State, limit_s: float = 6.0) -> float:
        """Waits for a new state; gives the seconds that it took."""
        begun, known = time.monotonic(), len(self.states)
        async with asyncio.timeout(limit_s):
            while state not in [state for state, _ in self.states[max(0, known - 1) :]]:
                await asyncio.sleep(0.02)
        return time.monotonic() - begun

    async def run(self, story: Callable[[], object]) -> None:
        running = asyncio.create_task(self.supervisor.run())
        try:
            await story()  # type: ignore[misc]
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.device
async def test_a_network_camera_gives_pictures_stamped_when_they_came() -> None:
    with network_camera(rate_hz=40) as server:
        watched = Watched(server.url, rate_hz=10)

        async def story() -> None:
            await watched.until("capturing")
            await asyncio.sleep(1.0)

        await watched.run(story)
    frames = watched.frames
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    times_s = np.array([frame.captured_ns for frame in frames]) / 1e9
    assert len({int(at * 10) for at in times_s}) == len(frames)  # one in each tenth of a second, at most
    assert 7 <= len([at for at in times_s if at > times_s[-1] - 1.0]) <= 11
    image = frames[-1].image
    assert (image.shape, image.dtype) == ((120, 160, 3), np.uint8)
    red, _, blue = image[30:50].reshape(-1, 3)[image[30:50].reshape(-1, 3)[:, 0] > 150].mean(axis=0)
    assert red > blue + 100  # RGB, not BGR


@pytest.mark.device
async def test_unplugged_stalled_and_frozen_are_noticed_within_a_second_and_mended() -> None:
    with network_camera() as server:
        watched = Watched(server.url)

        async def story() -> None:
            await watched.until("capturing")
            server.unplug()
            assert await watched.until("lost") < 1.0
            server.plug()
            await watched.until("capturing")
            server.stalled = True
            assert await watched.until("lost") < 1.0
            server.stalled = False
            await watched.until("capturing")
            server.frozen = True
            assert await watched.until("frozen") < 1.1
            given = len(watched.frames)
            await asyncio.sleep(0.3)
            assert len(watched.frames) - given <= 1  # the same picture again is not handed on
            server.frozen = False
            await watched.until("capturing")

        await watched.run(story)
    assert server.connections >= 4
    numbers = [frame.sequence for frame in watched.frames]
    assert numbers == list(range(len(numbers)))


@pytest.mark.device
async def test_a_file_stands_for_a_camera_until_it_ends(tmp_path: Path) -> None:
    path = write_media(tmp_path / "film.mkv", pictures=15, picture_rate=10, size=(1280, 720))
    watched = Watched(str(path))

    async def story() -> None:
        assert 1.0 < await watched.until("ended") < 4.0

    await watched.run(story)
    assert 10 <= len(watched.frames) <= 15
    assert watched.frames[0].image.shape == (360, LONGEST_SIDE_PX, 3)
    assert watched.frames[-1].captured_ns - watched.frames[0].captured_ns == pytest.approx(1.4e9, abs=0.25e9)


def test_a_camera_that_can_t_be_reached_is_a_clear_error_without_the_password() -> None:
    camera = Camera("video-0", "http://ann:secret@127.0.0.1:9/stream.mjpg", RealClock())
    with pytest.raises(
        DeviceError, match=r"camera http://\*\*\*@127\.0\.0\.1:9/stream\.mjpg can't be opened"
    ) as caught:
        camera.open(lambda frame: None)
    assert "secret" not in str(caught.value)


def test_an_unknown_camera_is_a_clear_error() -> None:
    with pytest.raises(DeviceError, match="camera"):
        Camera("video-0", "no such camera", RealClock()).open(lambda frame: None)


def test_without_opencv_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"mer-agent\[live\]"):
        cameras()


def test_closing_is_quick_even_while_nothing_comes() -> None:
    server = NetworkCamera([np.zeros((48, 64, 3), np.uint8)])
    server.plug()
    capture = Camera("video-0", server.url, RealClock()).open(lambda frame: None)
    server.stalled = True
    begun = time.monotonic()
    capture.close()
    assert time.monotonic() - begun < 1.0
    server.unplug()
