"""What publisher and client see of an MQTT connection: a protocol that tests fake in a few lines.

`mer_agent.wire.mqtt` has the real one.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mer_agent.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Details:
    """What MQTT 5 says beside a payload. MQTT 3.1.1 has no place for it, so nothing may depend on it."""

    content_type: str = ""
    expiry_s: int | None = None
    """After so many seconds the broker needn't deliver it any more."""
    user: tuple[tuple[str, str], ...] = ()
    """User properties."""
    response_topic: str = ""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it arrived; `retained` if it was kept by the broker since before we subscribed."""

    topic: str
    payload: bytes
    retained: bool = False
    details: Details = Details()


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us, retained, when we vanish."""

    topic: str
    payload: str
    details: Details = Details()


class Connection(Protocol):
    """An open connection. Every method raises BrokerError when it is lost."""

    async def publish(
        self, topic: str, payload: str, *, qos: int, retain: bool = False, details: Details = Details()
    ) -> None:
        """Returns when the broker has acknowledged it (QoS 1), or at once (QoS 0).

        Raises:
            RefusedError: the broker doesn't let us write there (only MQTT 5 tells).
        """
        ...

    async def subscribe(self, *filters: str) -> None:
        """Asks for all topics that match, at QoS 1."""
        ...

    def deliveries(self) -> AsyncIterator[Delivery]:
        """What arrives, for ever; waiting here is also how the loss of an idle connection is noticed."""
        ...


class Connect(Protocol):
    """Opens a connection for the length of a `with` block, and says goodbye after it."""

    def __call__(
        self, endpoint: Endpoint, *, will: Will | None = None, overflow: Callable[[], None] | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Raises BrokerError when the broker can't be had; `overflow` is called for each message without room."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: doubling, bounded, and random, so that not all come back at once."""

    first_s: float = 0.25
    longest_s: float = 15.0
    random: Callable[[], float] = random.random

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, the first being number 0."""
        return float(min(self.longest_s, self.first_s * 2 ** min(failures, 16)) * (0.5 + 0.5 * self.random()))
