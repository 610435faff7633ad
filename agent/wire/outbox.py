"""What waits to be sent: a short queue in which nothing grows old.

An emotion is worth something for seconds. When the broker is away or slow, the oldest are dropped first (no room), and
whatever is older than the limit is dropped too. Both are counted; neither is ever sent late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass

from mer_agent.wire.connection import Details


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message, ready to go."""

    topic: str
    payload: str
    qos: int
    since_s: float
    """When it was handed in, on the event loop's clock."""
    details: Details = Details()  # noqa: RUF009 - frozen


class Outbox:
    """First in, first out; at most `limit` parcels of at most `age_s` seconds."""

    def __init__(self, limit: int, age_s: float) -> None:
        self.dropped_full = 0
        self.dropped_aged = 0
        self.limit = limit
        self._age_s = age_s
        self._waiting: deque[Parcel] = deque()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, topic: str, payload: str, qos: int, details: Details = Details()) -> None:  # noqa: B008 - frozen
        """Adds a parcel without ever waiting: without room the oldest one goes."""
        self._drop_aged()
        if len(self._waiting) >= self.limit:
            self._waiting.popleft()
            self.dropped_full += 1
        self._waiting.append(Parcel(topic, payload, qos, _now_s(), details))

    async def put_wait(self, topic: str, payload: str, qos: int, details: Details = Details()) -> None:  # noqa: B008
        """Adds a parcel, and waits for room if there is none: until one is taken, or grows too old."""
        self._drop_aged()
        while len(self._waiting) >= self.limit:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                # A timer may ring a moment early; the millisecond keeps this from going round in circles.
                async with asyncio.timeout_at(self._waiting[0].since_s + self._age_s + 0.001):
                    await self._room.wait()
            self._drop_aged()
        self._waiting.append(Parcel(topic, payload, qos, _now_s(), details))

    def take(self) -> Parcel | None:
        """The oldest parcel that is still worth sending; it is no longer here, so it can't be dropped meanwhile."""
        self._drop_aged()
        self._room.set()
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, parcel: Parcel) -> None:
        """Puts back what could not be sent, to be the next again."""
        self._waiting.appendleft(parcel)

    def _drop_aged(self) -> None:
        now_s = _now_s()
        while self._waiting and self._waiting[0].since_s + self._age_s <= now_s:
            self._waiting.popleft()
            self.dropped_aged += 1


def _now_s() -> float:
    return asyncio.get_running_loop().time()
