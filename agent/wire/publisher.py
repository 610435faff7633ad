"""Sends what the agent has to say to an MQTT broker, whatever the broker does meanwhile, and hands over what comes in.

    publish() -> outbox (64, nothing older than the age limit) -> one message at a time, acknowledged -> broker

One message at a time keeps the order, and makes "sent" mean that the broker has it. What was not acknowledged when the
connection broke is sent again, the same bytes with the same ids, so that a reader can tell. Nothing here waits for the
broker except `publish_wait`, which replays use. Payloads are never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mer_agent import __version__
from mer_agent.errors import BrokerError, RefusedError
from mer_agent.wire import mqtt
from mer_agent.wire.connection import Backoff, Connect, Connection, Delivery, Details, Will
from mer_agent.wire.contract import AnswerMessage, CapabilitiesMessage, SessionMessage
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.envelope import Envelope, Trace, seal
from mer_agent.wire.outbox import Outbox, Parcel
from mer_agent.wire.schema import EmotionMessage, State, StatusMessage, Topics, Wire

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
    refused: int = 0
    """The broker lets us in, but doesn't let us write them."""

    @property
    def lost(self) -> int:
        """Predictions that no reader will ever get."""
        return self.dropped_full + self.dropped_aged + self.dropped_partial + self.refused


class Publisher:
    """Publishes for one agent and one session; `run` does the work as a task, all else only hands over.

    Args:
        endpoint: the broker.
        topics: of this agent and session.
        publish_text: send the words along; otherwise they are taken out here, at the edge.
        outbox_age_s: a prediction older than this is no longer worth sending.
        outbox_limit: how many may wait.
        envelope: what payloads are wrapped in.
        receive: takes each turn and command that arrives; without it none are asked for.
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
        envelope: Envelope = "plain",
        receive: Callable[[Delivery], None] | None = None,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        connect: Connect = mqtt.connect,
    ) -> None:
        self._endpoint = endpoint
        self._topics = topics
        self._publish_text = publish_text
        self._backoff = backoff
        self._connect = connect
        self._outbox = Outbox(outbox_limit, outbox_age_s)
        self._outbox_age_s = outbox_age_s
        self._envelope: Envelope = envelope
        self._receive = receive
        self._trace = Trace()
        self._capabilities: CapabilitiesMessage | None = None
        self._capabilities_sent: CapabilitiesMessage | None = None
        self._status = self._described("starting", {})
        self._status_sent: StatusMessage | None = None
        self._sent = self._dropped_partial = self._refused = self._connections = 0
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
            self._refused,
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

    def tell(self, message: SessionMessage | AnswerMessage, topic: str, details: Details = Details()) -> None:  # noqa: B008
        """Hands over what is no prediction, in one line with those.

        An answer that finds the outbox half full is dropped: whoever asks too much must not crowd out emotions.
        """
        if isinstance(message, AnswerMessage) and len(self._outbox) >= self._outbox.limit // 2:
            return
        payload, own = seal(message, topic, self._envelope, self._trace.span())
        self._outbox.put(topic, payload, 1, replace(own, correlation=details.correlation))
        self._wake.set()

    def set_capabilities(self, capabilities: CapabilitiesMessage) -> None:
        """Tells readers what the agent can do, now and after each reconnect."""
        self._capabilities = capabilities
        self._wake.set()

    def set_status(self, state: State, sources: Mapping[str, str] | None = None) -> None:
        """Tells readers how the agent is; only the newest status counts. Without `sources` they stay as they were."""
        self._status = self._described(state, self._status.sources if sources is None else sources)
        self._wake.set()

    async def run(self) -> None:
        """Connects, and publishes until `drain` has ended; comes back after a lost connection.

        Raises:
            BrokerError: the first connection failed. A later loss is only logged, and mended.
            RefusedError: the broker doesn't let us write our status.
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
        failures, trouble = 0, ""
        while True:
            try:
                async with self._connect(self._endpoint, will=self._will()) as connection:
                    failures, trouble = 0, ""
                    self._went_up()
                    await self._converse(connection)
                    return
            except RefusedError:
                raise  # we may not even say how we are: to come back wouldn't help
            except BrokerError as error:
                if not self._was_up.is_set():
                    raise
                # A broker that is back but whose certificate has run out is another trouble, and worth another line.
                if str(error) != trouble:
                    log.warning("%s; trying again", error)
                    trouble = str(error)
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
        self._capabilities_sent = None
        self._up.set()
        self._was_up.set()

    async def _converse(self, connection: Connection) -> None:
        """Sends until drained; raises BrokerError when the connection is lost, even while there is nothing to send."""
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch(connection))
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
        task = asyncio.current_task()
        while True:
            if task is not None and task.cancelling():
                # Until Python 3.12 `wait_for` swallows a cancellation that comes together with the acknowledgement.
                raise asyncio.CancelledError
            self._wake.clear()
            if (status := self._status) is not self._status_sent:
                await self._keep(connection, self._topics.status, self._counted(status))
                self._status_sent = status
            elif (capabilities := self._capabilities) is not None and capabilities is not self._capabilities_sent:
                await self._keep(connection, self._topics.capabilities, capabilities)
                self._capabilities_sent = capabilities
            elif parcel := self._outbox.take():
                try:
                    await self._post(connection, parcel)
                except RefusedError as error:
                    if not self._refused:
                        log.error("%s", error)  # once: it would be the same for all that follow
                    self._refused += 1
                except BaseException:
                    self._outbox.put_back(parcel)
                    raise
                else:
                    self._sent += 1
            elif self._draining.is_set():
                return
            else:
                await self._wake.wait()

    async def _post(self, connection: Connection, parcel: Parcel) -> None:
        # What the broker keeps for a reader that is away grows as old as what we keep for a broker that is away.
        left_s = parcel.since_s + self._outbox_age_s - asyncio.get_running_loop().time()
        details = replace(parcel.details, expiry_s=max(1, math.ceil(left_s)))
        await _transmit(connection, parcel.topic, parcel.payload, details, qos=parcel.qos)

    async def _keep(self, connection: Connection, topic: str, message: StatusMessage | CapabilitiesMessage) -> None:
        payload, details = seal(message, topic, self._envelope, self._trace.span())
        await _transmit(connection, topic, payload, details, retain=True)

    async def _watch(self, connection: Connection) -> None:
        """Hands over what arrives; ends by the loss of the connection."""
        if self._receive is not None:
            for topic in (self._topics.turn, self._topics.command):
                try:
                    await connection.subscribe(topic)
                except RefusedError as error:
                    log.warning("%s; the agent goes on without", error)
        async for delivery in connection.deliveries():
            # What was kept from another time is no word in this conversation.
            if self._receive is not None and not delivery.retained:
                self._receive(delivery)

    async def _say_offline(self, connection: Connection) -> None:
        self._status = self._described("offline", {})
        await self._keep(connection, self._topics.status, self._counted(self._status))

    def _counted(self, status: StatusMessage) -> StatusMessage:
        return status.model_copy(update={"messages_lost": self.counts.lost})

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

    def _addressed(self, message: EmotionMessage) -> tuple[str, str, int, Details]:
        topic = self._topics.emotion(message.speaker, message.kind)
        sent = message if self._publish_text else message.without_text()
        payload, details = seal(sent, topic, self._envelope, self._trace.span())
        return topic, payload, 0 if message.kind == "partial" else 1, details

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
        message: Wire = self._described("offline", {}).model_copy(update={"since": None})
        return Will(self._topics.status, *seal(message, self._topics.status, self._envelope, self._trace.span()))


async def _transmit(
    connection: Connection, topic: str, payload: str, details: Details, *, qos: int = 1, retain: bool = False
) -> None:
    """Every message of an agent goes this way."""
    await connection.publish(topic, payload, qos=qos, retain=retain, details=details)
