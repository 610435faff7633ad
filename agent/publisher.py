"""Sends predictions and the agent's status to an MQTT broker, whatever the broker does meanwhile.

    publish() -> outbox (64, nothing older than the age limit) -> one message at a time, acknowledged -> broker

One message at a time keeps the order, and makes "sent" mean that the broker has it. What was not acknowledged when the
connection broke is sent again, the same bytes with the same ids, so that a reader can tell. Nothing here waits for the
broker except `publish_wait`, which replays use. Payloads are never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mer_agent import __version__, mqtt
from mer_agent.endpoint import Endpoint
from mer_agent.errors import BrokerError
from mer_agent.mqtt import Backoff, Connect, Connection, Will
from mer_agent.outbox import Outbox
from mer_agent.schema import EmotionMessage, State, StatusMessage, Topics

log = logging.getLogger(__name__)

OUTBOX_LIMIT = 64
GOODBYE_S = 1.0
"""For a last `offline` when the agent is stopped without a drain."""


@dataclass(frozen=True, slots=True)
class PublishCounts:
    """What became of the predictions so far, and how often the broker had to be found again."""

    sent: int
    waiting: int
    dropped_full: int
    dropped_aged: int
    dropped_partial: int
    """Partial predictions while the broker was away: the final one makes up for them."""
    reconnects: int

    @property
    def lost(self) -> int:
        """Predictions that no reader will ever get."""
        return self.dropped_full + self.dropped_aged + self.dropped_partial


class Publisher:
    """Publishes for one agent and one session; `run` does the work as a task, all else only hands over.

    Args:
        endpoint: the broker.
        topics: of this agent and session.
        publish_text: send the words along; otherwise they are taken out here, at the edge.
        outbox_age_s: a prediction older than this is no longer worth sending.
        outbox_limit: how many may wait.
        backoff: how long to wait between tries to find the broker again.
        connect: opens a connection; tests give another one.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        topics: Topics,
        *,
        publish_text: bool = False,
        outbox_age_s: float = 30.0,
        outbox_limit: int = OUTBOX_LIMIT,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        connect: Connect = mqtt.connect,
    ) -> None:
        self._endpoint = endpoint
        self._topics = topics
        self._publish_text = publish_text
        self._backoff = backoff
        self._connect = connect
        self._outbox = Outbox(outbox_limit, outbox_age_s)
        self._status = self._described("starting", {})
        self._status_sent: StatusMessage | None = None
        self._sent = self._dropped_partial = self._connections = 0
        self._wake = asyncio.Event()
        self._up = asyncio.Event()
        self._was_up = asyncio.Event()
        self._draining = asyncio.Event()
        self._finished = asyncio.Event()
        self._limit: asyncio.Timeout | None = None

    @property
    def counts(self) -> PublishCounts:
        """What became of the predictions so far."""
        return PublishCounts(
            self._sent,
            len(self._outbox),
            self._outbox.dropped_full,
            self._outbox.dropped_aged,
            self._dropped_partial,
            max(0, self._connections - 1),
        )

    @property
    def connected(self) -> bool:
        """Whether the broker is there at this moment."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        """Returns when the broker was reached for the first time. If it can't be, `run` raises."""
        await self._was_up.wait()

    def publish(self, message: EmotionMessage) -> None:
        """Hands a prediction over and returns at once; if the broker is slow or away, the oldest may be dropped."""
        if message.kind == "partial" and not self.connected:
            self._dropped_partial += 1
            return
        self._outbox.put(*self._addressed(message))
        self._wake.set()

    async def publish_wait(self, message: EmotionMessage) -> None:
        """Hands a prediction over, and waits for room first: nothing is dropped but what a lost broker lets age."""
        await self._outbox.put_wait(*self._addressed(message))
        self._wake.set()

    def set_status(self, state: State, sources: Mapping[str, str] | None = None) -> None:
        """Tells readers how the agent is; only the newest status counts. Without `sources` they stay as they were."""
        self._status = self._described(state, self._status.sources if sources is None else sources)
        self._wake.set()

    async def run(self) -> None:
        """Connects, and publishes until `drain` has ended; comes back after a lost connection.

        Raises:
            BrokerError: the first connection failed. A later loss is only logged, and mended.
        """
        try:
            async with asyncio.timeout(None) as self._limit:
                await self._stay_connected()
        except TimeoutError:
            log.warning("Stopped with %d predictions unsent: the broker took too long", len(self._outbox))
        finally:
            self._up.clear()
            self._finished.set()

    async def drain(self, deadline_s: float = 5.0) -> None:
        """Says `stopping`, sends what waits, says `offline` and disconnects, within about `deadline_s`."""
        if self._finished.is_set() or self._limit is None:
            return
        self.set_status("stopping")
        self._draining.set()
        self._limit.reschedule(asyncio.get_running_loop().time() + deadline_s)
        await self._finished.wait()

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            try:
                async with self._connect(self._endpoint, will=self._will()) as connection:
                    failures = 0
                    self._went_up()
                    await self._converse(connection)
                    return
            except BrokerError as error:
                if not self._was_up.is_set():
                    raise
                if failures == 0:
                    log.warning("%s; trying again", error)
            finally:
                self._up.clear()
            await self._pause(self._backoff.delay_s(failures))
            failures += 1

    def _went_up(self) -> None:
        self._connections += 1
        if self._connections > 1:
            log.warning(
                "Found the broker again at %s; %d predictions lost so far", self._endpoint.url, self.counts.lost
            )
        self._status_sent = None
        self._up.set()
        self._was_up.set()

    async def _converse(self, connection: Connection) -> None:
        """Sends until drained; raises BrokerError when the connection is lost, even while there is nothing to send."""
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(connection))
                await self._send(connection)
                watch.cancel()
        except BaseExceptionGroup as group:
            losses, faults = group.split(BrokerError)
            if losses and not faults:
                raise losses.exceptions[0] from None  # sender and watch may both have seen it; once is enough
            await self._say_offline_quickly(connection)
            raise
        except asyncio.CancelledError:
            await self._say_offline_quickly(connection)
            raise
        await self._say_offline(connection)

    async def _send(self, connection: Connection) -> None:
        while True:
            self._wake.clear()
            if (status := self._status) is not self._status_sent:
                payload = status.model_copy(update={"messages_lost": self.counts.lost}).to_json()
                await connection.publish(self._topics.status, payload, qos=1, retain=True)
                self._status_sent = status
            elif parcel := self._outbox.take():
                try:
                    await connection.publish(parcel.topic, parcel.payload, qos=parcel.qos)
                except BaseException:
                    self._outbox.put_back(parcel)
                    raise
                self._sent += 1
            elif self._draining.is_set():
                return
            else:
                await self._wake.wait()

    async def _say_offline(self, connection: Connection) -> None:
        self._status = self._described("offline", {})
        payload = self._status.model_copy(update={"messages_lost": self.counts.lost}).to_json()
        await connection.publish(self._topics.status, payload, qos=1, retain=True)

    async def _say_offline_quickly(self, connection: Connection) -> None:
        # We are being stopped. A clean goodbye would keep the broker from sending our last will, so this must be tried.
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._say_offline(connection)

    async def _pause(self, delay_s: float) -> None:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # A task group that ends by an error swallows a cancellation that comes at the same moment.
            raise asyncio.CancelledError
        if self._draining.is_set():
            await asyncio.sleep(min(delay_s, 0.1))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._draining.wait()

    def _addressed(self, message: EmotionMessage) -> tuple[str, str, int]:
        payload = (message if self._publish_text else message.without_text()).to_json()
        return self._topics.emotion(message.speaker, message.kind), payload, 0 if message.kind == "partial" else 1

    def _described(self, state: State, sources: Mapping[str, str]) -> StatusMessage:
        return StatusMessage(
            agent=self._topics.agent,
            state=state,
            session=self._topics.session,
            sources=dict(sources),
            version=__version__,
            since=datetime.now(UTC),
        )

    def _will(self) -> Will:
        # The broker will say it, at a time that nobody knows yet.
        return Will(self._topics.status, self._described("offline", {}).model_copy(update={"since": None}).to_json())


async def _watch(connection: Connection) -> None:
    async for _ in connection.deliveries():
        pass
