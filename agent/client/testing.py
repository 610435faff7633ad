"""For the tests of a chatbot: an agent without ears and models, that says what it is told to say.

    async with FakeAgent("mqtt://127.0.0.1:1883") as agent:
        await agent.say(emotion("sad", speaker="speaker-0"))
        await agent.replay(recorded(Path("session.jsonl")))
        assert agent.turns[0].text == "I am sorry to hear that."

What goes out is made by the real agent's publisher, so a chatbot can't tell the difference. It needs a broker.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from mer_agent.errors import InputError
from mer_agent.wire.connection import Delivery, Details
from mer_agent.wire.contract import AnswerMessage, CommandMessage, TurnMessage
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import SCHEMA, EmotionMessage, Topics

__all__ = ["FakeAgent", "emotion", "recorded"]

NS_PER_S = 1_000_000_000
MADE_UP = "made-up"
"""The model of emotions that no model gave."""


def emotion(
    label: str = "happy", *, confidence: float = 0.8, speaker: str = "speaker-0", text: str | None = None
) -> EmotionMessage:
    """An emotion that somebody could have shown just now, for two seconds."""
    now = datetime.now(UTC)
    rest = "neutral" if label != "neutral" else "sad"
    return EmotionMessage(
        agent="desk",
        kind="final",
        seq=0,
        session="test",
        utterance="u000000",
        revision=0,
        speaker=speaker,
        speaker_confidence=1.0,
        started_at=now - timedelta(seconds=2),
        ended_at=now,
        start_ns=0,
        end_ns=2 * NS_PER_S,
        text=text,
        label_set="iemocap6",
        label=label,
        distribution={label: confidence, rest: 1.0 - confidence},
        confidence=confidence,
        modalities_used=("text",),
        modalities_missing=("audio", "visual"),
        context_length=0,
        model=MADE_UP,
        delay_ms=0.0,
        closed_by="pause",
    )


def recorded(path: Path) -> list[EmotionMessage]:
    """The predictions of a file that `mer-agent --output` or `mer-agent listen --json` wrote.

    Raises:
        InputError: it can't be read, or a line is no prediction.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error})") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(EmotionMessage.from_json(line))
            except ValueError:
                # What stands there may be somebody's words.
                raise InputError(f"{path}, line {number}: no prediction; write such a file with --output") from None
    return found


class FakeAgent:
    """Is `ready` inside the block, and `offline` after it; takes turns and commands, and says yes to all.

    Args:
        url: the broker, or an `Endpoint`.
        agent: its name in the topics.
        session: id of its session.
        publish_text: send the words along, as with `--publish-text`.
        judge: gives the emotion of a user's turn, which is then published as the user's; None: there is none.
        refuse: the reason why every turn and command is refused; None: none is.
        prefix: the first part of the topics.

    Raises:
        BrokerError: the broker can't be reached.
    """

    def __init__(
        self,
        url: str | Endpoint,
        *,
        agent: str = "desk",
        session: str = "test",
        publish_text: bool = False,
        judge: Callable[[TurnMessage], EmotionMessage | None] = lambda turn: None,
        refuse: str | None = None,
        prefix: str = SCHEMA,
    ) -> None:
        endpoint = Endpoint.parse(url) if isinstance(url, str) else url
        self._topics = Topics(agent, session, prefix)
        self._publisher = Publisher(endpoint, self._topics, publish_text=publish_text, receive=self._receive)
        self._numbers = itertools.count()
        self._judge = judge
        self._known: deque[TurnMessage | CommandMessage] = deque(maxlen=256)
        self.refuse = refuse
        self.turns: list[TurnMessage] = []
        """The turns that have arrived; one that is sent again because it has ended stands here twice."""
        self.commands: list[CommandMessage] = []
        """The commands that have arrived."""

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._publisher.run(), name="fake agent")
        up = asyncio.create_task(self._publisher.wait_connected())
        await asyncio.wait({up, self._running}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._running.done():
            self._running.result()
        self._publisher.set_status("ready")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._publisher.drain()
        await self._running

    async def say(self, message: EmotionMessage) -> EmotionMessage:
        """Publishes an emotion as one of this session that ends now; gives it as it went out."""
        sent = self._as_of_now(message)
        await self._publisher.publish_wait(sent)
        return sent

    async def replay(
        self,
        messages: Iterable[EmotionMessage],
        *,
        speed: float = math.inf,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> int:
        """Publishes recorded emotions in their order, at `speed` times the pace of the recording; gives their number.

        Args:
            messages: what was recorded.
            speed: 1 is real time.
            sleep: waits so many seconds.
        """
        count, before_ns = 0, 0
        for message in messages:
            wait_s = max(0, message.end_ns - before_ns) / NS_PER_S / speed
            before_ns = max(before_ns, message.end_ns)
            if wait_s:
                await sleep(wait_s)
            await self.say(message)
            count += 1
        return count

    def _as_of_now(self, message: EmotionMessage) -> EmotionMessage:
        number = next(self._numbers)
        ended = datetime.now(UTC) - timedelta(milliseconds=message.delay_ms or 0.0)
        return message.model_copy(
            update={
                "agent": self._topics.agent,
                "session": self._topics.session,
                "seq": number,
                # What `emotion` makes up is each time another utterance; a recording has ids of its own.
                "utterance": f"u{number:06d}" if message.model == MADE_UP else message.utterance,
                "started_at": ended - (message.ended_at - message.started_at),
                "ended_at": ended,
            }
        )

    def _receive(self, delivery: Delivery) -> None:
        try:
            message: TurnMessage | CommandMessage
            if delivery.topic == self._topics.turn:
                message = TurnMessage.from_json(delivery.payload)
            else:
                message = CommandMessage.from_json(delivery.payload)
        except ValueError:
            self._answer(delivery, None, "not readable")
            return
        # A chatbot that got no answer sends the same again.
        plain = message.model_copy(update={"sent_at": None}) if isinstance(message, TurnMessage) else message
        again = message.id is not None and plain in self._known
        self._known.append(plain)
        if self.refuse is None and not again:
            if isinstance(message, CommandMessage):
                self.commands.append(message)
            else:
                self.turns.append(message)
                if message.role == "user" and (judged := self._judge(message)) is not None:
                    # As the agent names it.
                    named = {"speaker": message.speaker or "user", "utterance": f"turn-{message.id}", "model": "judge"}
                    self._publisher.publish(self._as_of_now(judged.model_copy(update=named)))
        self._answer(delivery, message, self.refuse)

    def _answer(self, delivery: Delivery, message: TurnMessage | CommandMessage | None, reason: str | None) -> None:
        topic = self._topics.answer()
        wanted = (message.answer_to if isinstance(message, CommandMessage) else None) or delivery.details.response_topic
        if wanted.startswith(f"{topic}/"):
            topic = wanted
        answer = AnswerMessage(
            agent=self._topics.agent,
            session=self._topics.session,
            id=message.id if message else None,
            command="turn" if isinstance(message, TurnMessage) else message.command if message else None,
            ok=reason is None,
            reason=reason,
        )
        self._publisher.tell(answer, topic, Details(correlation=delivery.details.correlation))
