"""Several devices as one source: what happens to one doesn't stop the others, and nothing grows."""

import asyncio

import pytest
from support.streams_fakes import LoopClock, ScriptedDevice, inline
from support.virtual_time import run_virtual

from mer_agent.errors import DeviceError
from mer_agent.streams.live import HEARD, LiveSource
from mer_agent.streams.mailbox import Mailbox
from mer_agent.streams.types import AudioChunk

WELL = [(1e6, "new")]
BREAKS_EACH_SECOND = [(1.0, "new"), (0.0, "fault")]


class Heard:
    """A live source on fakes, and what came out of it."""

    def __init__(self, hearing: list[object], seeing: list[object]) -> None:
        self.clock = LoopClock()
        self.microphones = [
            ScriptedDevice(self.clock, *scripts, source=f"audio-{n}", stale="silent")
            for n, scripts in enumerate(hearing)
        ]
        self.cameras = [ScriptedDevice(self.clock, *scripts, source=f"video-{n}") for n, scripts in enumerate(seeing)]
        self.states: dict[str, list[str]] = {}
        self.source = LiveSource(self.microphones, self.cameras, self.clock, self._report, inline)
        self.audio = Mailbox[int](10_000, "block", "audio")
        self.video = Mailbox[int](10_000, "block", "video")

    def _report(self, source: str, state: str) -> None:
        self.states.setdefault(source, []).append(state)

    async def run(self, seconds: float) -> None:
        running = asyncio.create_task(self.source.run(self.audio, self.video))
        await asyncio.wait([running], timeout=seconds)
        self.source.stop()
        async with asyncio.timeout(1.0):
            await running


def test_a_camera_that_comes_and_goes_costs_the_microphone_nothing() -> None:
    async def play() -> None:
        heard = Heard([[WELL]], [[BREAKS_EACH_SECOND, "unplugged", BREAKS_EACH_SECOND]])
        await heard.run(20.0)
        assert heard.states["audio-0"] == ["opening", "capturing"]
        assert heard.states["video-0"][:5] == ["opening", "capturing", "lost", "capturing", "lost"]
        chunks = [chunk async for chunk in heard.audio]
        assert chunks == list(range(len(chunks)))
        assert len(chunks) == pytest.approx(20.0 / 0.032, abs=5)
        assert heard.audio.closed
        assert heard.video.closed

    run_virtual(play())


def test_a_microphone_that_goes_costs_the_camera_nothing() -> None:
    async def play() -> None:
        heard = Heard([[BREAKS_EACH_SECOND, "unplugged"]], [[WELL]])
        await heard.run(20.0)
        assert heard.states["audio-0"] == ["opening", "capturing", "lost"]
        assert heard.states["video-0"] == ["opening", "capturing"]

    run_virtual(play())


def test_devices_that_can_t_be_opened_at_first_are_waited_for_while_another_one_can() -> None:
    async def play() -> None:
        heard = Heard([["busy", "busy", WELL]], [[WELL]])
        await heard.run(20.0)
        assert heard.states["audio-0"] == ["opening", "lost", "capturing"]

    run_virtual(play())


def test_when_no_device_at_all_can_be_opened_the_session_doesn_t_begin() -> None:
    async def play() -> None:
        heard = Heard([["the microphone is busy"]], [["the camera is gone"]])
        with pytest.raises(DeviceError, match="the microphone is busy; the camera is gone"):
            await heard.source.run(heard.audio, heard.video)
        assert heard.audio.closed

    run_virtual(play())


def test_a_slow_agent_hears_gaps_and_not_the_past() -> None:
    async def play() -> None:
        heard = Heard([[WELL]], [[WELL]])
        heard.audio = Mailbox[int](1, "block", "audio")
        running = asyncio.create_task(heard.source.run(heard.audio, heard.video))
        await asyncio.sleep(60.0)
        oldest = [await heard.audio.get() for _ in range(HEARD)][2]
        assert oldest * 0.032 > 60.0 - 2.2
        assert heard.source.lost > 1000
        running.cancel()
        await asyncio.wait([running])
        assert all(device.closed == device.opened for device in (*heard.microphones, *heard.cameras))

    run_virtual(play())


def test_without_anybody_to_look_the_cameras_are_watched_all_the_same() -> None:
    async def play() -> None:
        heard = Heard([[WELL]], [[WELL]])
        running = asyncio.create_task(heard.source.run(heard.audio, None))
        await asyncio.sleep(1.0)
        assert heard.states["video-0"] == ["opening", "capturing"]
        heard.source.stop()
        await running

    run_virtual(play())


def test_it_ends_when_the_agent_hears_no_more() -> None:
    async def play() -> None:
        heard = Heard([[WELL]], [[WELL]])
        running = asyncio.create_task(heard.source.run(heard.audio, heard.video))
        await asyncio.sleep(1.0)
        heard.audio.close()
        heard.video.close()
        async with asyncio.timeout(1.0):
            await running

    run_virtual(play())


def test_a_microphone_that_goes_says_so_in_the_stream_of_sound() -> None:
    async def play() -> None:
        heard = Heard([[BREAKS_EACH_SECOND, "unplugged"]], [])
        await heard.run(5.0)
        last = [chunk async for chunk in heard.audio][-1]
        assert isinstance(last, AudioChunk)
        assert (len(last.samples), last.discontinuity) == (0, True)

    run_virtual(play())
