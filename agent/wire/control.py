"""What dialogue systems tell the agent: their turns enter the conversation, their commands are obeyed or refused.

Nothing that comes in can do more than be refused: it is bounded in size and number, checked against the schema, and
answered with a reason. What is asked twice (the broker may deliver twice) is done once.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from mer_agent.conversation import Conversation
from mer_agent.errors import ConfigError
from mer_agent.inference import Inference
from mer_agent.own_speech import OwnSpeech
from mer_agent.roster import Roster
from mer_agent.streams.clock import SessionClock, session_ns, wall_time
from mer_agent.streams.given_words import Given, GivenWords
from mer_agent.streams.types import Prediction, Transcript, Utterance
from mer_agent.wire.connection import Delivery, Details
from mer_agent.wire.contract import (
    LARGEST_BYTES,
    AnswerMessage,
    CommandMessage,
    SessionMessage,
    SpeakerState,
    TurnMessage,
)
from mer_agent.wire.schema import Topics

WAITING = 64
"""Turns and commands that may wait; more are refused."""
REMEMBERED = 256
"""Turns and commands, the latest, that are known when they come again."""
REPEATED_S = 30.0
"""The same command with the same id counts as the same for so long; later it is meant."""


class Hearing(Protocol):
    """What can be told to hear and not to hear (`agent.Agent`)."""

    def pause(self) -> None:
        """Hears nothing until `resume`."""
        ...

    def resume(self) -> None:
        """Hears again."""
        ...


class Voice(Protocol):
    """What answers go out by (`publisher.Publisher`)."""

    def tell(self, message: SessionMessage | AnswerMessage, topic: str, details: Details = ...) -> None:
        """Sends it when it can."""
        ...


class _RefusedError(Exception):
    """What was asked can't be done; the message is the reason, and quotes nothing."""


@dataclass(slots=True)
class Counts:
    """What became of what came in."""

    turns: int = 0
    commands: int = 0
    refused: int = 0
    repeated: int = 0


class Control:
    """Reads turns and commands, does them, and answers.

    Args:
        topics: of this agent and session.
        clock: of the session.
        hearing: is paused and resumed.
        conversation: takes the turns, and forgets.
        inference: where the conversation is at home.
        roster: who takes part.
        own_speech: learns what the dialogue system says aloud.
        publish: takes the prediction of a chat user's turn.
        voice: takes the answers.
        stop: ends the session.
        given: takes what a user spoke, where somebody else finds the words; without it that is a turn of its own.
    """

    def __init__(
        self,
        topics: Topics,
        clock: SessionClock,
        hearing: Hearing,
        conversation: Conversation,
        inference: Inference,
        roster: Roster,
        own_speech: OwnSpeech,
        publish: Callable[[Prediction], Awaitable[None]],
        voice: Voice,
        stop: Callable[[], None],
        given: GivenWords | None = None,
    ) -> None:
        self._topics = topics
        self._clock = clock
        self._hearing = hearing
        self._conversation = conversation
        self._inference = inference
        self._roster = roster
        self._own_speech = own_speech
        self._publish = publish
        self._voice = voice
        self._stop = stop
        self._given = given
        self._waiting: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._turns: OrderedDict[str, str] = OrderedDict()  # id -> words
        self._answers: OrderedDict[bytes, tuple[float, AnswerMessage]] = OrderedDict()  # command -> when, what
        self.counts = Counts()

    def receive(self, delivery: Delivery) -> None:
        """Takes what has arrived; never waits."""
        if len(self._waiting) >= WAITING:
            self.counts.refused += 1  # without an answer: whoever asks too much would only get too many of those
            return
        self._waiting.append(delivery)
        self._wake.set()

    async def run(self) -> None:
        """Does what was received, one after the other, for ever."""
        while True:
            while self._waiting:
                await self._handle(self._waiting.popleft())
            self._wake.clear()
            await self._wake.wait()

    def announce(self, event: str) -> None:
        """Tells all what happens to the session: `started`, `speakers` or `ended`."""
        now_ns = max(0, self._clock.now_ns())
        message = SessionMessage(
            **self._us,
            event=event,
            started_at=wall_time(self._clock.started_at, 0),
            at=wall_time(self._clock.started_at, now_ns),
            at_ns=now_ns,
            speakers=self._roster.participants,
        )
        self._voice.tell(message, self._topics.news)

    async def _handle(self, delivery: Delivery) -> None:
        try:
            message = self._read(delivery)
        except _RefusedError as error:
            self._answer(delivery, None, AnswerMessage(**self._us, ok=False, reason=str(error)))
            return
        now_s = asyncio.get_running_loop().time()
        since_s, before = self._answers.get(delivery.payload, (-math.inf, None))
        if before is not None and now_s - since_s < REPEATED_S:
            self.counts.repeated += 1
            self._answer(delivery, message, before)
            return
        asked = message.command if isinstance(message, CommandMessage) else "turn"
        speakers: tuple[SpeakerState, ...] = ()
        reason: str | None = None
        try:
            if isinstance(message, TurnMessage):
                await self._take_turn(message)
            else:
                speakers = await self._obey(message)
        except _RefusedError as error:
            reason = str(error)
        answer = AnswerMessage(
            **self._us, id=message.id, command=asked, ok=reason is None, reason=reason, speakers=speakers
        )
        if isinstance(message, CommandMessage) and message.id is not None:
            self._answers[delivery.payload] = (now_s, answer)
            self._answers.move_to_end(delivery.payload)
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        self._answer(delivery, message, answer)

    def _read(self, delivery: Delivery) -> TurnMessage | CommandMessage:
        if len(delivery.payload) > LARGEST_BYTES:
            raise _RefusedError(f"longer than {LARGEST_BYTES} bytes")
        try:
            if delivery.topic == self._topics.turn:
                return TurnMessage.from_json(delivery.payload)
            return CommandMessage.from_json(delivery.payload)
        except ValidationError as error:
            raise _RefusedError(_reason(error)) from None
        except ValueError:
            raise _RefusedError("not JSON") from None

    def _give(self, given: GivenWords, turn: TurnMessage) -> None:
        """Takes a spoken turn for the words of the speech at that time."""
        assert turn.started_at is not None and turn.ended_at is not None  # noqa: S101, PT018  # see the caller
        start_ns = max(0, session_ns(self._clock, turn.started_at, turn.sent_at))
        end_ns = max(start_ns, session_ns(self._clock, turn.ended_at, turn.sent_at))
        given.hear(Given(text=turn.text, start_ns=start_ns, end_ns=end_ns))

    async def _take_turn(self, turn: TurnMessage) -> None:
        now_ns = self._clock.now_ns()
        if self._given is not None and turn.role == "user" and turn.speaker is None and turn.ended_at is not None:
            if turn.id not in self._turns:
                self._turns[turn.id] = turn.text
                self.counts.turns += 1
                self._give(self._given, turn)
            return
        speaker = turn.speaker or turn.role
        if speaker.startswith("speaker-") and speaker not in self._roster:
            raise _RefusedError("no such speaker has been heard")
        if self._turns.get(turn.id, turn.text) != turn.text:
            raise _RefusedError("that id is another turn's")
        newcomer = speaker not in self._roster
        number = self._roster.seat(speaker, turn.speaker_name)
        start_ns = end_ns = now_ns
        if turn.started_at is not None:
            start_ns = max(0, session_ns(self._clock, turn.started_at, turn.sent_at))
            spoken_ns = None
            if turn.ended_at is not None:
                spoken_ns = max(start_ns, session_ns(self._clock, turn.ended_at, turn.sent_at))
            end_ns = max(start_ns, now_ns if spoken_ns is None else spoken_ns)
            if turn.role == "system":
                self._own_speech.say(turn.id, number, turn.text, start_ns, spoken_ns)
        if turn.id in self._turns:
            self.counts.repeated += 1
            return
        self._turns[turn.id] = turn.text
        while len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)
        self.counts.turns += 1
        utterance = Utterance(
            f"turn-{turn.id}", number, start_ns, end_ns, transcript=Transcript(turn.text), closed_by="end"
        )
        prediction = await self._inference.run(self._conversation.add, utterance)
        if newcomer:
            self.announce("speakers")
        if turn.role == "user":
            await self._publish(prediction)

    async def _obey(self, command: CommandMessage) -> tuple[SpeakerState, ...]:
        speaker = command.speaker or ""
        if speaker and speaker not in self._roster:
            raise _RefusedError("no such speaker")
        match command.command:
            case "start":
                self._hearing.resume()
            case "pause":
                self._hearing.pause()
            case "stop":
                self._stop()
            case "reset":
                await self._inference.run(self._conversation.reset)
                self._turns.clear()
                self._roster.reset()
                self._own_speech.forget()
                self.announce("speakers")
            case "rename":
                self._roster.rename(speaker, command.name)
                self.announce("speakers")
            case "forget":
                number = self._roster.number(speaker)
                if number is None:
                    raise _RefusedError("nobody is known by that id")
                await self._inference.run(self._conversation.forget, number)
                self._roster.forget(speaker)
                self.announce("speakers")
            case "snapshot":
                self.counts.commands += 1
                return self._roster.states
        self.counts.commands += 1
        return ()

    def _answer(self, delivery: Delivery, message: TurnMessage | CommandMessage | None, answer: AnswerMessage) -> None:
        """Answers where it was asked to, within our own answer topics: nobody writes elsewhere in our name."""
        wanted = (message.answer_to if isinstance(message, CommandMessage) else None) or delivery.details.response_topic
        topic = self._topics.answer()
        if wanted and wanted != topic:
            asker = wanted.removeprefix(f"{topic}/")
            try:
                if asker in (wanted, "+"):
                    raise ConfigError("elsewhere")
                topic = self._topics.answer(asker)
            except ConfigError:
                note = f"done, but answers go to {topic} or {topic}/<asker> only"
                answer = answer.model_copy(update={"reason": note}) if answer.ok else answer
        self.counts.refused += not answer.ok
        self._voice.tell(answer, topic, Details(correlation=delivery.details.correlation))

    @property
    def _us(self) -> dict[str, str]:
        return {"agent": self._topics.agent, "session": self._topics.session}


def _reason(error: ValidationError) -> str:
    """What is wrong with a message, without a word of it."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:64]
    return f"{place}: {first['msg']}" if place else str(first["msg"])
