"""A broker in 40 lines: no socket, no thread, and it fails when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mer_agent.errors import BrokerError
from mer_agent.wire.connection import Connection, Delivery, Details, Will
from mer_agent.wire.endpoint import Endpoint


class FakeBroker:
    """Give `connect` to a publisher or a client; `received` is what got here, `deliver` sends to the client."""

    def __init__(self, ack_s: float = 0.01) -> None:
        self.ack_s = ack_s
        self.up = True
        self.forget_acks = 0
        """So many of the next messages are received, but the connection breaks before they are acknowledged."""
        self.received: list[tuple[str, str, int, bool]] = []
        self.filters: list[str] = []
        self.will: Will | None = None
        self.attempts_s: list[float] = []
        self._lost = asyncio.Event()
        self._inbox: asyncio.Queue[Delivery] = asyncio.Queue()

    def break_down(self) -> None:
        self.up = False
        self._lost.set()

    def come_back(self) -> None:
        self.up = True
        self._lost = asyncio.Event()

    def deliver(self, topic: str, payload: str | bytes) -> None:
        self._inbox.put_nowait(Delivery(topic, payload.encode() if isinstance(payload, str) else payload))

    @asynccontextmanager
    async def connect(
        self, endpoint: Endpoint, *, will: Will | None = None, overflow: Callable[[], None] | None = None
    ) -> AsyncIterator[Connection]:
        self.attempts_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.ack_s)
        if not self.up:
            raise BrokerError(f"{endpoint.url}: connection refused")
        self.will = will
        yield self

    async def publish(
        self, topic: str, payload: str, *, qos: int, retain: bool = False, details: Details | None = None
    ) -> None:
        if not self.up:
            raise BrokerError("lost")
        self.received.append((topic, payload, qos, retain))
        if self.forget_acks:
            self.forget_acks -= 1
            raise BrokerError("lost before the acknowledgement")
        if qos:
            await asyncio.sleep(self.ack_s)
            if not self.up:
                raise BrokerError("lost before the acknowledgement")

    async def subscribe(self, *filters: str) -> None:
        self.filters += filters

    async def deliveries(self) -> AsyncIterator[Delivery]:
        lost = self._lost
        while not lost.is_set():
            next_one = asyncio.ensure_future(self._inbox.get())
            gone = asyncio.ensure_future(lost.wait())
            try:
                await asyncio.wait({next_one, gone}, return_when=asyncio.FIRST_COMPLETED)
                if next_one.done():
                    yield next_one.result()
            finally:
                next_one.cancel()
                gone.cancel()
        raise BrokerError("lost")
