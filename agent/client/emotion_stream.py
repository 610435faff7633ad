"""A chatbot's end of the wire: emotions and statuses come in, turns and commands go out.

    broker -> one task that reads -> memory (latest, mood), answers, and an inbox that drops its oldest -> iteration

It comes back after a lost connection, and a payload that it can't read, a field or a topic that it doesn't know are no
reason to stop. Payloads are never logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Self

from mer_agent.client.asking import Asker
from mer_agent.client.mood import Memory, Mood
from mer_agent.errors import BrokerError
from mer_agent.wire import mqtt
from mer_agent.wire.connection import Backoff, Connect, Delivery
from mer_agent.wire.contract import AnswerMessage, CommandMessage, CommandName, Role, TurnMessage
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.schema import SCHEMA, EmotionMessage, StatusMessage, Topics, matches

log = logging.getLogger(__name__)

LARGEST_BYTES = 64 * 1024
"""A longer payload is none of ours."""
REMEMBERED = 512
"""Payloads by which a message that was sent twice is recognised."""
AGENTS = 256
"""Agents whose status is remembered, the latest ones."""
MOOD_S = 60.0
"""After so long an emotion counts half as much in a mood, if nothing else is said."""


class EmotionStream:
    """Emotions as they arrive: iterate over it, or over `events()` for the agents' states too.

    It is connected while somebody iterates, or inside `async with`. There, too, what arrives is remembered for `latest`
    and `mood`, whether it is iterated over or not, and turns and commands can be sent. One reader iterates at a time.

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
        answer_s: how long an answer of the agent is waited for.
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
        answer_s: float = 5.0,
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
        self._recent: OrderedDict[bytes, None] = OrderedDict()  # a set that knows its oldest
        self._inbox: deque[EmotionMessage | StatusMessage] = deque()
        self._arrived = asyncio.Event()
        self._memory = Memory()
        self._asker = Asker(topics, answer_s)
        self._reading: asyncio.Task[None] | None = None
        self._users = 0
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

    async def __aenter__(self) -> Self:
        """Connects.

        Raises:
            BrokerError: the broker can't be reached.
        """
        self._users += 1
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_on(), name="emotions")
            self._reading.add_done_callback(lambda _: self._arrived.set())
        up = asyncio.ensure_future(self.subscribed.wait())
        try:
            await asyncio.wait({up, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            if self._reading.done() and not self._inbox:
                self._reading.result()
        except BaseException:
            await self._leave()
            raise
        finally:
            up.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnects."""
        await self._leave()

    def __aiter__(self) -> AsyncIterator[EmotionMessage]:
        return self._without_statuses()

    async def events(self) -> AsyncGenerator[EmotionMessage | StatusMessage, None]:
        """Emotions and statuses in the order in which they arrive, for ever.

        Raises:
            BrokerError: the first connection failed, or a lost broker wasn't back within `patience_s`.
        """
        async with self:
            while True:
                yield await self.next_event()

    async def next_event(self) -> EmotionMessage | StatusMessage:
        """The next emotion or status; for use inside `async with`, and safe to be cancelled.

        Raises:
            BrokerError: a lost broker wasn't back within `patience_s`.
        """
        while not self._inbox:
            if self._reading is not None and self._reading.done():
                self._reading.result()
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    def latest(self, speaker: str | None = None) -> EmotionMessage | None:
        """The newest emotion of a speaker, or of whoever spoke last; None: not heard yet."""
        return self._memory.latest(speaker)

    def mood(self, speaker: str | None = None, seconds: float = MOOD_S) -> Mood | None:
        """How a speaker has been of late, or whoever spoke last; None: not heard, or too long ago.

        Args:
            speaker: as in topics, such as `speaker-0`.
            seconds: after so long an emotion counts half as much.
        """
        return self._memory.mood(speaker, seconds, asyncio.get_running_loop().time())

    async def send_turn(
        self,
        text: str,
        *,
        role: Role = "system",
        turn: str | None = None,
        speaker: str | None = None,
        speaker_name: str | None = None,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,
    ) -> str:
        """Tells the agent what the dialogue system says, or what a user wrote; gives the turn's id.

        Args:
            text: the words.
            role: `system`, or `user` for what a user wrote, which is then judged like speech.
            turn: id of a turn that was sent before and has ended now; None: a new one.
            speaker: who; None: `system` or `user`.
            speaker_name: name to show.
            started_at: when speaking began or will begin; None: it was written.
            ended_at: when speaking ended or will end.

        Raises:
            ValueError: the turn is none that the agent could take.
            AnswerError: the agent refuses it, or doesn't answer.
        """
        message = TurnMessage(
            id=turn or self._asker.new_id(),
            role=role,
            text=text,
            speaker=speaker,
            speaker_name=speaker_name,
            started_at=started_at,
            ended_at=ended_at,
        )
        async with self:
            await self._asker.ask(message, self.statuses)
        return message.id

    async def command(
        self, command: CommandName, *, speaker: str | None = None, name: str | None = None
    ) -> AnswerMessage:
        """Has the agent do something, and gives its answer; that of a `snapshot` holds the speakers.

        Args:
            command: what to do.
            speaker: whom to `rename` or `forget`.
            name: the new name; None takes it away.

        Raises:
            ValueError: a command that there isn't.
            AnswerError: the agent refuses, or doesn't answer.
        """
        message = CommandMessage(command=command, id=self._asker.new_id(), speaker=speaker, name=name)
        async with self:
            answer = await self._asker.ask(message, self.statuses)
        if command in ("forget", "reset"):
            self._memory.forget(answer.agent, answer.session, speaker)
        return answer

    async def _leave(self) -> None:
        self._users -= 1
        if self._users == 0 and (reading := self._reading) is not None:
            self._reading = None
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                reading.exception()  # whoever iterated has had it

    async def _read_on(self) -> None:
        """Reads for ever, and comes back after a lost connection."""
        clock = asyncio.get_running_loop().time
        failures, lost_s, ever_up = 0, 0.0, False
        while True:
            try:
                async with self._connect(self._endpoint, overflow=self._overflow) as connection:
                    await connection.subscribe(self._statuses, *self._emotions)
                    failures, ever_up = 0, True
                    self.subscribed.set()
                    async with self._asker.using(connection):
                        async for delivery in connection.deliveries():
                            self._take(delivery)
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

    def _take(self, delivery: Delivery) -> None:
        """Puts what arrived where it belongs."""
        match self._read(delivery):
            case AnswerMessage() as answer:
                self._asker.hear(answer)
            case StatusMessage() as status:
                self.statuses.pop(status.agent, None)
                self.statuses[status.agent] = status
                while len(self.statuses) > AGENTS:
                    del self.statuses[next(iter(self.statuses))]
                self._asker.look_again()
                self._keep(status)
            case EmotionMessage() as emotion:
                if delivery.payload in self._recent:
                    self.duplicates += 1
                    return
                self._recent[delivery.payload] = None
                if len(self._recent) > REMEMBERED:
                    self._recent.popitem(last=False)
                self._memory.note(emotion, asyncio.get_running_loop().time())
                self._keep(emotion)

    def _keep(self, message: EmotionMessage | StatusMessage) -> None:
        self._inbox.append(message)
        if len(self._inbox) > mqtt.INBOX:
            self._inbox.popleft()
            self._overflow()
        self._arrived.set()

    def _read(self, delivery: Delivery) -> EmotionMessage | StatusMessage | AnswerMessage | None:
        kind: type[EmotionMessage | StatusMessage | AnswerMessage]
        if matches(self._statuses, delivery.topic):
            kind = StatusMessage
        elif any(matches(pattern, delivery.topic) for pattern in self._emotions):
            kind = EmotionMessage
        elif self._asker.expects(delivery.topic):
            kind = AnswerMessage
        else:
            self.unknown += 1
            return None
        try:
            if len(delivery.payload) > LARGEST_BYTES:
                raise ValueError("too long")
            return kind.from_json(delivery.payload)
        except ValueError as error:
            self.malformed += 1
            # The payload may hold somebody's words: its topic and its size must do.
            log.warning("Skipped %d bytes on %s: %s", len(delivery.payload), delivery.topic, type(error).__name__)
            return None

    def _overflow(self) -> None:
        self.overflowed += 1
