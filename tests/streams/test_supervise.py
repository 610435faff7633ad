"""Device faults, scripted as data on a virtual clock: noticed within a second, told, and mended with patience."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest
from support.streams_fakes import LoopClock, ScriptedDevice, Step, inline
from support.virtual_time import run_virtual

from mer_agent.errors import DeviceError
from mer_agent.streams.supervise import LONGEST_PAUSE_NS, State, Supervisor, on_daemon_thread
from mer_agent.streams.types import NS_PER_S

WELL: Sequence[Step] = [(1e6, "new")]


def story(
    seconds: float, *scripts: Sequence[Step] | str, stale: str = "frozen"
) -> tuple[list[tuple[float, State]], ScriptedDevice, list[int]]:
    """Runs a scripted device for so many virtual seconds; gives its states with times, itself, and what it gave."""

    async def play() -> tuple[list[tuple[float, State]], ScriptedDevice, list[int]]:
        clock = LoopClock()
        device = ScriptedDevice(clock, *scripts, stale=stale)  # type: ignore[arg-type]
        states: list[tuple[float, State]] = []
        given: list[int] = []

        def report(source: str, state: State) -> None:
            states.append((clock.now_ns() / NS_PER_S, state))

        running = asyncio.create_task(Supervisor(device, given.append, report, clock, inline).run())
        await asyncio.wait([running], timeout=seconds)
        running.cancel()
        await asyncio.wait([running])
        assert device.closed == device.opened, "every device that was opened is given back"
        return states, device, given

    return run_virtual(play())


def test_a_device_that_is_well_is_opened_once_and_left_alone() -> None:
    states, device, given = story(3600.0, WELL)
    assert [state for _, state in states] == ["opening", "capturing"]
    assert len(device.tried_s) == 1
    assert given[:3] == [0, 1, 2]
    assert len(given) > 3600 * 30


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ([(10.0, "new"), (0.0, "fault")], "lost"),
        ([(10.0, "new"), (1e6, "nothing")], "stalled"),
        ([(10.0, "new"), (1e6, "same")], "frozen"),
    ],
)
def test_a_fault_is_noticed_within_a_second_and_the_device_opened_again(fault: list[Step], state: State) -> None:
    states, device, given = story(30.0, fault, WELL)
    assert [told for _, told in states] == ["opening", "capturing", state, "capturing"]
    assert states[2][0] - 10.0 <= 1.0
    assert device.tried_s[1] - states[2][0] == pytest.approx(0.25, abs=0.01)
    assert states[3][0] - device.tried_s[1] <= 0.2
    assert given == list(range(len(given)))


def test_the_pauses_grow_to_a_limit_and_are_short_again_after_a_good_time() -> None:
    busy = ["it is busy"] * 8
    states, device, _ = story(200.0, *busy, [(60.0, "new"), (0.0, "fault")], WELL)
    pauses = [later - sooner for sooner, later in zip(device.tried_s, device.tried_s[1:9], strict=False)]
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, *[LONGEST_PAUSE_NS / NS_PER_S] * 3], abs=0.01)
    assert [state for _, state in states] == ["opening", "lost", "capturing", "lost", "capturing"]
    assert device.tried_s[9] - states[3][0] == pytest.approx(0.25, abs=0.01)


def test_a_camera_that_stays_frozen_is_not_called_well_in_between() -> None:
    states, device, _ = story(20.0, [(5.0, "new"), (1e6, "same")], [(1e6, "same")])
    assert [state for _, state in states] == ["opening", "capturing", "frozen"]
    assert len(device.tried_s) > 3


def test_a_silent_microphone_is_told_and_left_open() -> None:
    states, device, _ = story(30.0, [(2.0, "new"), (8.0, "same"), (1e6, "new")], stale="silent")
    assert [state for _, state in states] == ["opening", "capturing", "silent", "capturing"]
    assert len(device.tried_s) == 1


def test_a_device_that_never_gives_anything_is_opened_again() -> None:
    states, device, _ = story(30.0, [(1e6, "nothing")], WELL)
    assert [state for _, state in states] == ["opening", "stalled", "capturing"]
    assert 5.0 <= states[1][0] <= 5.3  # cameras need some time at first
    assert len(device.tried_s) == 2


def test_what_ends_in_good_order_is_not_opened_again() -> None:
    states, device, _ = story(30.0, [(2.0, "new"), (0.0, "end")])
    assert [state for _, state in states] == ["opening", "capturing", "ended"]
    assert len(device.tried_s) == 1


def test_a_fault_is_logged_once_and_the_return_too(caplog: pytest.LogCaptureFixture) -> None:
    story(60.0, [(5.0, "new"), (0.0, "fault")], *["it is busy"] * 5, WELL)
    assert [record.getMessage() for record in caplog.records] == [
        "audio-0: somebody pulled the plug; trying again",
        "audio-0: it is busy; trying again",
        "audio-0: is back",
    ]


async def test_a_call_that_never_returns_is_left_behind_and_what_comes_late_is_given_away() -> None:
    late: list[str] = []
    go = threading.Event()

    def slow() -> str:
        go.wait(5.0)
        return "opened"

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await on_daemon_thread(slow, 0.1, late.append)
    assert time.monotonic() - begun < 1.0
    go.set()
    while not late:
        await asyncio.sleep(0.01)
    assert late == ["opened"]


async def test_what_a_call_raises_is_raised_here() -> None:
    def fail() -> None:
        raise DeviceError("no")

    with pytest.raises(DeviceError, match="no"):
        await on_daemon_thread(fail, 1.0)
    assert await on_daemon_thread(lambda: 7, 1.0) == 7
