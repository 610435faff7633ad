"""Session time: one clock for everything that is captured, in integer nanoseconds since the session began.

The agent stamps sound and pictures with this clock and measures its delays with it. It never looks at the wall clock
for that: a wall clock jumps. Where a reader outside needs a date (the MQTT edge), `started_at`, read once when the
session began, plus session time gives it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from mer_agent.streams.types import NS_PER_S


@runtime_checkable
class SessionClock(Protocol):
    """Tells session time and waits for it."""

    started_at: datetime
    """Wall-clock time (UTC) of session time 0."""

    def now_ns(self) -> int:
        """Session time now, in nanoseconds; never runs backwards."""
        ...

    async def sleep_until(self, ns: int) -> None:
        """Returns once session time `ns` has come; at once, after one turn of the loop, when it has passed."""
        ...


class RealClock:
    """Session time that runs with the machine's monotonic clock. Make one at the moment when the session starts."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)  # the only read of the wall clock
        self._anchor_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """Session time now, in nanoseconds."""
        return time.monotonic_ns() - self._anchor_ns

    async def sleep_until(self, ns: int) -> None:
        """Returns once session time `ns` has come."""
        left_ns = max(0, ns - self.now_ns())
        await asyncio.sleep(left_ns / NS_PER_S)
        while (left_ns := ns - self.now_ns()) > 0:  # noqa: ASYNC110 - a loop's timer may fire a little early
            await asyncio.sleep(left_ns / NS_PER_S)


class VirtualClock:
    """Session time that moves only when told: media time of a replay at full speed, and the time of tests."""

    def __init__(self, now_ns: int = 0, started_at: datetime = datetime.fromtimestamp(0, UTC)) -> None:  # noqa: B008 - immutable
        self.started_at = started_at
        self._now_ns = now_ns
        self._order = itertools.count()  # sleepers for the same moment wake in the order in which they came
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        """Session time now, in nanoseconds."""
        return self._now_ns

    @property
    def next_due_ns(self) -> int | None:
        """When the next sleeper wants to wake, None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():  # a cancelled sleeper
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance_to(self, ns: int) -> None:
        """Moves time forward to `ns` (never back) and wakes, in order of their times, all who waited until then."""
        self._now_ns = max(self._now_ns, ns)
        while (due_ns := self.next_due_ns) is not None and due_ns <= self._now_ns:
            heapq.heappop(self._sleepers)[2].set_result(None)

    async def sleep_until(self, ns: int) -> None:
        """Returns once somebody has advanced the clock to `ns`."""
        if ns <= self._now_ns:
            await asyncio.sleep(0)
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (ns, next(self._order), waker))
        await waker


def wall_time(started_at: datetime, ns: int) -> datetime:
    """The date and time (UTC, to the microsecond) of session time `ns`, for readers outside the agent.

    Args:
        started_at: wall time at session time 0; here and in `session_ns` alone the two clocks meet.
        ns: session time.
    """
    return started_at.astimezone(UTC) + timedelta(microseconds=ns // 1000)


def session_ns(clock: SessionClock, at: datetime, sent_at: datetime | None = None) -> int:
    """The session time of a date and time that somebody outside the agent gave.

    Args:
        clock: of the session.
        at: the moment that is wanted.
        sent_at: when the sender said so, on the same clock. With it only the difference counts, so that a clock which
            is wrong, or has jumped since the session began, does no harm.
    """
    ago = (sent_at or wall_time(clock.started_at, clock.now_ns())) - at
    return clock.now_ns() - ago // timedelta(microseconds=1) * 1000
