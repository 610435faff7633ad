"""For chatbots: the emotions of the people who speak, as they are recognised.

    async for emotion in EmotionStream("mqtt://127.0.0.1:1883"):
        print(emotion.speaker, emotion.label, emotion.confidence)

Needs aiomqtt and pydantic, no model. It comes back after a lost connection, and a payload that it can't read, a field
or a topic that it doesn't know are no reason to stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from mer_agent import mqtt
from mer_agent.endpoint import Endpoint
from mer_agent.errors import BrokerError
from mer_agent.mqtt import Backoff, Connect, Delivery
from mer_agent.schema import SCHEMA, EmotionMessage, StatusMessage, Topics, matches

__all__ = ["EmotionMessage", "EmotionStream", "StatusMessage"]

log = logging.getLogger(__name__)

LARGEST_BYTES = 64 * 1024
"""A longer payload is none of ours."""
REMEMBERED = 512
"""Payloads by which a message that was sent twice is recognised."""


class EmotionStream:
    """Emotions as they arrive: iterate over it, or over `events()` for the agents' states too.

    Args:
        url: `mqtt://HOST:PORT`, `mqtts://HOST:PORT`, or an `Endpoint`.
        agent: which agent; `+` is any.
        session: which session; `+` is any.
        speaker: which speaker, such as `speaker-0`; `+` is any.
        username: at the broker.
        password: at the broker.
        partial: also give what may still change.
        prefix: the first part of the topics.
        patience_s: how long a lost broker is looked for; None: for ever.
        backoff: how long to wait between those tries.
        connect: opens a connection; tests give another one.
    """

    def __init__(
        self,
        url: str | Endpoint,
        *,
        agent: str = "+",
        session: str = "+",
        speaker: str = "+",
        username: str = "",
        password: str = "",
        partial: bool = False,
        prefix: str = SCHEMA,
        patience_s: float | None = None,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        connect: Connect = mqtt.connect,
    ) -> None:
        if isinstance(url, str):
            url = Endpoint.parse(url, username=username, password=password)
        self._endpoint = url
        topics = Topics(agent, session, prefix)
        self._emotions = [topics.emotion(speaker, "final")]
        if partial:
            self._emotions.append(topics.emotion(speaker, "partial"))
        self._statuses = topics.status
        self._patience_s = patience_s
        self._backoff = backoff
        self._connect = connect
        self._recent: deque[bytes] = deque(maxlen=REMEMBERED)
        self.statuses: dict[str, StatusMessage] = {}
        """The newest status of each agent."""
        self.subscribed = asyncio.Event()
        """Set while the broker is there and sends us what arrives."""
        self.malformed = 0
        """Payloads that are not schema v1."""
        self.unknown = 0
        """Messages on topics that we didn't ask for."""
        self.duplicates = 0
        """Messages that were sent a second time since the first was not acknowledged."""
        self.overflowed = 0
        """Messages that were dropped because nobody read them in time."""

    def __aiter__(self) -> AsyncIterator[EmotionMessage]:
        return self._without_statuses()

    async def events(self) -> AsyncGenerator[EmotionMessage | StatusMessage, None]:
        """Emotions and statuses in the order in which they arrive, for ever.

        Raises:
            BrokerError: the first connection failed, or a lost broker wasn't back within `patience_s`.
        """
        clock = asyncio.get_running_loop().time
        failures, lost_s, ever_up = 0, 0.0, False
        while True:
            try:
                async with self._connect(self._endpoint, overflow=self._overflow) as connection:
                    await connection.subscribe(self._statuses, *self._emotions)
                    failures, ever_up = 0, True
                    self.subscribed.set()
                    async for delivery in connection.deliveries():
                        if (message := self._read(delivery)) is not None:
                            yield message
            except BrokerError as error:
                if not ever_up:
                    raise
                if failures == 0:
                    lost_s = clock()
                    log.warning("%s; trying again", error)
                if self._patience_s is not None and clock() - lost_s >= self._patience_s:
                    raise
            finally:
                self.subscribed.clear()
            await asyncio.sleep(self._backoff.delay_s(failures))
            failures += 1

    async def _without_statuses(self) -> AsyncIterator[EmotionMessage]:
        async with aclosing(self.events()) as events:
            async for message in events:
                if isinstance(message, EmotionMessage):
                    yield message

    def _read(self, delivery: Delivery) -> EmotionMessage | StatusMessage | None:
        if matches(self._statuses, delivery.topic):
            kind: type[EmotionMessage | StatusMessage] = StatusMessage
        elif any(matches(pattern, delivery.topic) for pattern in self._emotions):
            kind = EmotionMessage
        else:
            self.unknown += 1
            return None
        try:
            if len(delivery.payload) > LARGEST_BYTES:
                raise ValueError("too long")
            message = kind.from_json(delivery.payload)
        except ValueError as error:
            self.malformed += 1
            # The payload may hold somebody's words: its topic and its size must do.
            log.warning("Skipped %d bytes on %s: %s", len(delivery.payload), delivery.topic, type(error).__name__)
            return None
        if isinstance(message, StatusMessage):
            self.statuses[message.agent] = message
            return message
        if delivery.payload in self._recent:
            self.duplicates += 1
            return None
        self._recent.append(delivery.payload)
        return message

    def _overflow(self) -> None:
        self.overflowed += 1
