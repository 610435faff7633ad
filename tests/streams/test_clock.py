import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from mer_agent.streams.clock import RealClock, SessionClock, VirtualClock, wall_time

MS = 1_000_000


def test_both_clocks_are_session_clocks() -> None:
    assert isinstance(RealClock(), SessionClock)
    assert isinstance(VirtualClock(), SessionClock)


async def test_the_real_clock_starts_at_zero_and_keeps_real_time() -> None:
    before = time.monotonic_ns()
    clock = RealClock()
    assert 0 <= clock.now_ns() < 1000 * MS
    due = clock.now_ns() + 30 * MS
    await clock.sleep_until(due)
    assert due <= clock.now_ns() <= time.monotonic_ns() - before


async def test_the_real_clock_returns_at_once_for_the_past_but_lets_others_run() -> None:
    clock = RealClock()
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    await clock.sleep_until(clock.now_ns() - 5000 * MS)
    assert ran


def test_the_wall_clock_is_read_once() -> None:
    clock = RealClock()
    assert abs(datetime.now(UTC) - clock.started_at) < timedelta(seconds=5)
    assert wall_time(clock.started_at, 1_500_000_000) - clock.started_at == timedelta(seconds=1.5)


async def test_virtual_time_moves_only_when_told_and_never_back() -> None:
    clock = VirtualClock()
    sleeper = asyncio.create_task(clock.sleep_until(10 * MS))
    await asyncio.sleep(0)
    clock.advance_to(9 * MS)
    await asyncio.sleep(0)
    assert not sleeper.done()
    assert clock.next_due_ns == 10 * MS
    clock.advance_to(10 * MS)
    await asyncio.wait_for(sleeper, 1)
    clock.advance_to(3 * MS)
    assert clock.now_ns() == 10 * MS


async def test_sleepers_wake_in_order_of_time_then_of_arrival() -> None:
    clock = VirtualClock()
    woken: list[str] = []

    async def sleep(name: str, ns: int) -> None:
        await clock.sleep_until(ns)
        woken.append(name)

    async with asyncio.TaskGroup() as tasks:
        for name, ns in (("late", 30), ("first", 10), ("second", 10), ("never asked again", 20)):
            tasks.create_task(sleep(name, ns))
        await asyncio.sleep(0)
        clock.advance_to(100)
    assert woken == ["first", "second", "never asked again", "late"]


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = VirtualClock()
    sleeper = asyncio.create_task(clock.sleep_until(10))
    await asyncio.sleep(0)
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert clock.next_due_ns is None
    clock.advance_to(20)


async def test_virtual_sleep_in_the_past_lets_others_run() -> None:
    clock = VirtualClock(now_ns=5)
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    await clock.sleep_until(5)
    assert ran
