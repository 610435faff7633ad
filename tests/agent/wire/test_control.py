"""Turns and commands, as they come off the wire: done, refused with a reason, never more."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import contract
from support.fakes import FakeEncoder, FakeStream
from support.messages import message
from support.streams_fakes import a_segment

from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.inference import InlineInference
from mer_agent.own_speech import OwnSpeech
from mer_agent.roster import BEYOND_VOICES, Roster
from mer_agent.streams.clock import VirtualClock
from mer_agent.streams.given_words import GivenWords
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import NS_PER_S, Prediction, Utterance
from mer_agent.wire import control
from mer_agent.wire.connection import Delivery, Details
from mer_agent.wire.contract import LARGEST_BYTES, AnswerMessage, SessionMessage
from mer_agent.wire.control import WAITING, Control
from mer_agent.wire.schema import Topics

TOPICS = Topics("desk", "s1")
PLAIN = Details()
STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Setup:
    """A control among fakes; everything that it says is checked against the contract."""

    def __init__(self) -> None:
        self.told: list[tuple[AnswerMessage | SessionMessage, str, Details]] = []
        self.done: list[str] = []
        self.published: list[Prediction] = []
        self.text = FakeEncoder("text/mpnet@1", "text")
        self.stream = FakeStream([[0.9, 0.1], [0.2, 0.8]])
        speakers = SpeakerTracker()
        self.conversation = Conversation(
            self.stream, [self.text, FakeEncoder(SPEAKER_FEATURE, "audio")], speakers,
            labels=("happy", "sad"), label_set="two", model="fake",
        )  # fmt: skip
        self.clock = VirtualClock(100 * NS_PER_S, STARTED)
        self.roster = Roster()
        self.own_speech = OwnSpeech(500)
        self.control = Control(
            TOPICS, self.clock, self, self.conversation, InlineInference(), self.roster, self.own_speech,
            self.publish, self, lambda: self.done.append("stop"),
        )  # fmt: skip

    def pause(self) -> None:
        self.done.append("pause")

    def resume(self) -> None:
        self.done.append("resume")

    async def publish(self, prediction: Prediction) -> None:
        self.published.append(prediction)

    def tell(self, said: AnswerMessage | SessionMessage, topic: str, details: Details = PLAIN) -> None:
        if len(self.told) < 10:  # all of thousands would take long
            contract.check(topic, said.to_json(), retain=False, qos=1)
        self.told.append((said, topic, details))

    async def handle(self, topic: str, payload: bytes, details: Details = PLAIN) -> AnswerMessage:
        self.control.receive(Delivery(topic, payload, details=details))
        running = asyncio.create_task(self.control.run())
        await asyncio.sleep(0)
        while self.control._waiting:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        answer = self.told[-1][0]
        assert isinstance(answer, AnswerMessage)
        return answer

    async def command(self, command: str, details: Details = PLAIN, **fields: Any) -> AnswerMessage:
        return await self.handle(TOPICS.command, json.dumps({"command": command, **fields}).encode(), details)

    async def turn(self, **fields: Any) -> AnswerMessage:
        return await self.handle(TOPICS.turn, json.dumps(fields).encode())

    @property
    def news(self) -> list[SessionMessage]:
        return [said for said, _, _ in self.told if isinstance(said, SessionMessage)]


def at(second: float) -> str:
    return (STARTED + timedelta(seconds=second)).isoformat()


async def test_the_system_s_turn_becomes_a_speaker_of_the_graph_and_is_not_judged_aloud() -> None:
    setup = Setup()
    answer = await setup.turn(id="t1", role="system", text="How are you?")
    assert (answer.ok, answer.id, answer.command) == (True, "t1", "turn")
    assert setup.stream.calls == [("turn-t1", BEYOND_VOICES, ("text/mpnet@1",))]
    assert setup.published == []
    assert setup.news[-1].event == "speakers"
    assert [one.speaker for one in setup.news[-1].speakers] == ["system"]


async def test_a_chat_user_s_turn_is_judged_in_the_context_of_the_others() -> None:
    setup = Setup()
    await setup.turn(id="t1", role="system", text="How are you?")
    await setup.turn(id="t2", role="user", text="Awful.", speaker="ada", speaker_name="Ada L.")
    (prediction,) = setup.published
    assert prediction.utterance.text == "Awful."
    assert setup.roster.id(prediction.utterance.speaker) == "ada"
    assert setup.roster.name("ada") == "Ada L."
    _, past = setup.text.seen[-1]
    assert [turn.text for turn in past] == ["How are you?"]


async def test_a_turn_that_comes_twice_is_taken_once_but_may_bring_its_end() -> None:
    setup = Setup()
    await setup.turn(id="t1", role="system", text="Let me explain.", started_at=at(99))
    echo = Utterance("u1", None, 150 * NS_PER_S, 151 * NS_PER_S)
    assert setup.own_speech.match(echo) is not None
    await setup.turn(id="t1", role="system", text="Let me explain.", started_at=at(99), ended_at=at(102))
    assert setup.own_speech.match(echo) is None
    assert len(setup.stream.calls) == 1
    assert setup.control.counts.turns == 1


async def test_the_sender_s_clock_may_be_wrong() -> None:
    setup = Setup()
    wrong = timedelta(days=400)
    times = {name: (STARTED + wrong + timedelta(seconds=s)).isoformat() for name, s in
             (("started_at", 98), ("ended_at", 99), ("sent_at", 100))}  # fmt: skip
    await setup.turn(id="t1", role="system", text="Let me explain.", **times)
    (said,) = setup.own_speech._said
    assert (said.start_ns, said.end_ns) == (98 * NS_PER_S, 99 * NS_PER_S)


async def test_a_writer_may_be_known_by_a_voice() -> None:
    setup = Setup()
    refused = await setup.turn(id="t1", role="user", text="It's me", speaker="speaker-0")
    assert (refused.ok, refused.reason) == (False, "no such speaker has been heard")
    setup.roster.note(message(speaker=0))
    await setup.turn(id="t2", role="user", text="It's me", speaker="speaker-0")
    assert setup.published[-1].utterance.speaker == 0


async def test_hearing_is_paused_and_started_and_the_session_stopped() -> None:
    setup = Setup()
    for command in ("pause", "start", "stop"):
        assert (await setup.command(command, id="c-" + command)).ok
    assert setup.done == ["pause", "resume", "stop"]


async def test_a_command_that_comes_twice_is_done_once_and_answered_twice() -> None:
    setup = Setup()
    first, again = await setup.command("pause", id="c1"), await setup.command("pause", id="c1")
    assert first == again
    assert setup.done == ["pause"]


async def test_an_id_that_is_used_again_much_later_is_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    await setup.command("pause", id="1")
    monkeypatch.setattr(control, "REPEATED_S", 0.0)
    await setup.command("pause", id="1")
    await setup.command("start", id="1")
    assert setup.done == ["pause", "pause", "resume"]


async def test_two_turns_of_one_id_are_a_mistake() -> None:
    setup = Setup()
    await setup.turn(id="1", role="user", text="one")
    assert (await setup.turn(id="1", role="user", text="another")).reason == "that id is another turn's"


async def test_reset_forgets_everything() -> None:
    setup = Setup()
    await setup.turn(id="t1", role="user", text="My secret")
    assert (await setup.command("reset")).ok
    assert setup.stream.calls == []
    assert setup.conversation._past == []
    assert setup.news[-1].speakers == ()


async def test_a_speaker_is_renamed_and_forgotten() -> None:
    setup = Setup()
    await setup.turn(id="t1", role="user", text="My secret")
    assert (await setup.command("rename", speaker="user", name="Ada")).ok
    assert setup.news[-1].speakers[0].name == "Ada"
    assert (await setup.command("forget", speaker="user")).ok
    assert setup.stream.forgotten == [BEYOND_VOICES]
    assert setup.conversation._past == []
    assert setup.news[-1].speakers == ()
    assert (await setup.command("forget", speaker="user")).reason == "no such speaker"


async def test_a_snapshot_tells_how_everybody_is_without_words() -> None:
    setup = Setup()
    setup.roster.note(message(3, speaker=1))
    answer = await setup.command("snapshot")
    assert [(one.speaker, one.label) for one in answer.speakers] == [("speaker-1", "happy")]
    assert "what a day" not in answer.to_json()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"nonsense", "Invalid JSON"),
        (b"[]", "object"),
        (b"{}", "command: Field required"),
        (b'{"command": "dance"}', "command: Input should be"),
        (b'{"command": "rename"}', "need a speaker"),
        (b'{"command": "pause", "speaker": "ada"}', "need a speaker"),
        (b'{"command": "rename", "speaker": "ada", "name": "\\u001b[31m"}', "name: String should match"),
        (b'{"command": "pause", "id": "' + b"x" * 65 + b'"}', "id: String should match"),
        (b" " * (LARGEST_BYTES + 1), "longer than 16384 bytes"),
        (b'{"specversion":' + b"[" * 5000, "not JSON"),
    ],
)
async def test_what_is_no_command_is_refused_with_a_reason(payload: bytes, reason: str) -> None:
    setup = Setup()
    answer = await setup.handle(TOPICS.command, payload)
    assert not answer.ok
    assert reason in (answer.reason or "")
    assert setup.done == []
    assert setup.control.counts.refused == 1


async def test_a_reason_quotes_nothing() -> None:
    answer = await Setup().handle(TOPICS.turn, b'{"id": "t1", "role": "user", "text": ["a secret"], "secret": 1}')
    assert not answer.ok
    assert "secret" not in answer.to_json()


async def test_answers_go_where_they_are_asked_to_but_nowhere_else() -> None:
    setup = Setup()
    mine = TOPICS.answer("bot-1")
    await setup.command("pause", Details(response_topic=mine, correlation=b"\x00\x01"), id="c1")
    assert (setup.told[-1][1], setup.told[-1][2].correlation) == (mine, b"\x00\x01")
    await setup.command("pause", answer_to=mine)
    assert setup.told[-1][1] == mine
    for elsewhere in (TOPICS.status, "x", f"{TOPICS.answer()}/a/b", f"{TOPICS.answer()}/+", f"{TOPICS.answer()}/#"):
        answer = await setup.command("pause", answer_to=elsewhere)
        assert setup.told[-1][1] == TOPICS.answer()
        assert answer.ok
        assert "answers go to" in (answer.reason or "")


async def test_too_much_at_once_is_dropped_and_counted() -> None:
    setup = Setup()
    for _ in range(WAITING + 10):
        setup.control.receive(Delivery(TOPICS.command, b'{"command": "pause"}'))
    assert setup.control.counts.refused == 10
    await setup.command("start")
    assert setup.done.count("pause") == WAITING


_FIELDS = st.sampled_from(
    ["schema", "command", "id", "answer_to", "speaker", "name", "role", "text", "started_at", "ended_at", "sent_at",
     "speaker_name", "specversion", "data"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    | st.sampled_from(["mer/v1", "pause", "forget", "rename", "reset", "snapshot", "user", "system", "speaker-0",
                       "2026-03-01T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", TOPICS.answer("x")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS, inner, max_size=3), max_leaves=6,
)  # fmt: skip
_HOSTILE = st.binary(max_size=200) | st.dictionaries(_FIELDS, _VALUES, max_size=8).map(lambda d: json.dumps(d).encode())


def _spoiled(payload: bytes, chance: random.Random) -> bytes:
    """The payload with something wrong in it, as a broken or hostile sender would have it."""
    place = chance.randrange(len(payload) + 1)
    rubbish = chance.choice(
        [b"\xff", b"\x00", b"[" * 3000, b'"', b"}", b"1e999", b"NaN", b"\\ud800", chance.randbytes(9)]
    )
    return chance.choice(
        [payload[:place], payload[place:], payload[:place] + rubbish + payload[place:], payload + rubbish, payload * 9]
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([TOPICS.turn, TOPICS.command]), _HOSTILE), min_size=20, max_size=20),
       st.integers(0, 2**32))  # fmt: skip
def test_ten_thousand_hostile_payloads_do_no_harm(payloads: list[tuple[str, bytes]], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - for a test
    spoiled = [(topic, _spoiled(payload, chance)) for topic, payload in payloads for _ in range(9)]

    async def main() -> None:
        setup = Setup()
        for topic, payload in payloads + spoiled:  # 200 each time
            answer = await setup.handle(topic, payload)
            assert answer.ok or answer.reason
        assert (await setup.command("snapshot", id="alive")).ok

    with asyncio.Runner() as runner:
        runner.run(main())


async def test_where_somebody_else_finds_the_words_a_spoken_turn_is_the_words_of_that_speech() -> None:
    setup, given = Setup(), GivenWords(patience_s=0.05)
    setup.control = Control(
        TOPICS, setup.clock, setup, setup.conversation, InlineInference(), setup.roster, setup.own_speech,
        setup.publish, setup, lambda: None, given=given,
    )  # fmt: skip
    begun = STARTED + timedelta(seconds=90)
    turn = {
        "schema": "mer/v1", "id": "t1", "role": "user", "text": "what a day",
        "started_at": begun.isoformat(), "ended_at": (begun + timedelta(seconds=2)).isoformat(),
    }  # fmt: skip
    for _ in range(2):  # the second one changes nothing
        setup.control.receive(Delivery(TOPICS.turn, json.dumps(turn).encode()))
    running = asyncio.create_task(setup.control.run())
    found = await given.transcribe(a_segment(90.0, np.zeros(32_000, np.float32)))
    running.cancel()
    assert found.text == "what a day"
    assert setup.published == []
    assert setup.stream.calls == []
