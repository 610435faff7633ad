"""Turns, commands and memory of the client; that it reads what arrives is in test_client.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.fake_broker import FakeBroker
from support.messages import message
from support.mosquitto import mosquitto
from support.virtual_time import run_virtual

from mer_agent.client import AnswerError, AnswerMessage, EmotionStream, StatusMessage
from mer_agent.client.testing import FakeAgent, emotion
from mer_agent.errors import BrokerError, ConfigError
from mer_agent.wire.broker import EmbeddedBroker
from mer_agent.wire.connection import Backoff
from mer_agent.wire.endpoint import Endpoint

QUICK = Backoff(first_s=0.05, longest_s=0.05)
READY = StatusMessage(agent="desk", state="ready", session="s1", version="0.1.0")


@asynccontextmanager
async def broker(kind: str, folder: Path) -> AsyncIterator[Endpoint]:
    if kind == "embedded":
        async with EmbeddedBroker(0) as embedded:
            yield Endpoint("127.0.0.1", embedded.port)
    else:
        with mosquitto(folder) as real:
            yield Endpoint("127.0.0.1", real.port, version="5" if kind.endswith(" 5") else "3.1.1")


every_broker = pytest.mark.parametrize(
    "kind",
    [
        "embedded",
        pytest.param("mosquitto, MQTT 3.1.1", marks=pytest.mark.broker),
        pytest.param("mosquitto, MQTT 5", marks=pytest.mark.broker),
    ],
)


@every_broker
async def test_a_chatbot_hears_says_and_asks(kind: str, tmp_path: Path) -> None:
    async with (
        broker(kind, tmp_path) as endpoint,
        asyncio.timeout(20),
        FakeAgent(endpoint) as agent,
        EmotionStream(endpoint) as stream,
    ):
        await agent.say(emotion("sad"))
        heard = await anext(aiter(stream))
        assert (heard.speaker, heard.label) == ("speaker-0", "sad")
        assert stream.latest("speaker-0") == heard
        mood = stream.mood("speaker-0", 30)
        assert mood is not None
        assert mood.label == "sad"

        turn = await stream.send_turn("I am sorry.", started_at=datetime.now(UTC))
        assert await stream.send_turn("I am sorry.", turn=turn, started_at=heard.started_at) == turn
        assert [(one.id, one.role, one.text) for one in agent.turns] == [(turn, "system", "I am sorry.")] * 2
        assert all(one.sent_at is not None for one in agent.turns)
        answer = await stream.command("rename", speaker="speaker-0", name="Ben")
        assert (answer.ok, answer.command) == (True, "rename")
        assert agent.commands[0].name == "Ben"
        await stream.command("forget", speaker="speaker-0")
        assert stream.latest("speaker-0") is None

        agent.refuse = "no such speaker"
        with pytest.raises(AnswerError, match="refused: no such speaker"):
            await stream.command("forget", speaker="speaker-9")


async def test_inside_an_iteration_turns_are_answered_too() -> None:
    async with EmbeddedBroker(0) as embedded, asyncio.timeout(20), FakeAgent(embedded.url) as agent:
        stream = EmotionStream(embedded.url)
        speaking = asyncio.create_task(_say_when_heard(stream, agent))
        async for heard in stream:
            await stream.send_turn(f"You are {heard.label}.")
            break
        await speaking
        assert agent.turns[0].text == "You are happy."


async def _say_when_heard(stream: EmotionStream, agent: FakeAgent) -> None:
    await stream.subscribed.wait()
    await agent.say(emotion("happy"))


def test_a_turn_waits_for_an_agent_that_is_starting() -> None:
    async def main() -> None:
        fake = FakeBroker()
        fake.deliver("mer/v1/desk/status", READY.model_copy(update={"state": "starting"}).to_json())
        async with EmotionStream("mqtt://broker", connect=fake.connect) as stream:
            sending = asyncio.create_task(stream.send_turn("hello"))
            await asyncio.sleep(1)
            assert not fake.received
            fake.deliver("mer/v1/desk/status", READY.to_json())
            await asyncio.sleep(0.1)
            topic, payload, qos, retain = fake.received[0]
            assert (topic, qos, retain) == ("mer/v1/desk/s1/turn", 1, False)
            fake.deliver("mer/v1/desk/s1/answer", _answer(payload))
            assert await sending == json.loads(payload)["id"]

    run_virtual(main())


def test_what_is_not_answered_is_sent_again_with_the_same_id_and_then_given_up() -> None:
    async def main() -> None:
        fake = FakeBroker()
        fake.deliver("mer/v1/desk/status", READY.to_json())
        async with EmotionStream("mqtt://broker", connect=fake.connect) as stream:
            with pytest.raises(AnswerError, match="no answer within 5 s"):
                await stream.command("pause")
        payloads = [payload for _, payload, _, _ in fake.received]
        assert len(payloads) == 4  # at 0, 0.5, 1.5 and 3.5 s
        assert len(set(payloads)) == 1

    run_virtual(main())


def test_a_command_outlives_a_lost_connection() -> None:
    async def main() -> None:
        fake = FakeBroker()
        fake.deliver("mer/v1/desk/status", READY.to_json())
        async with EmotionStream("mqtt://broker", connect=fake.connect, backoff=QUICK) as stream:
            asking = asyncio.create_task(stream.command("pause"))
            await asyncio.sleep(0.2)
            fake.break_down()
            await asyncio.sleep(0.2)
            fake.come_back()
            await asyncio.sleep(1)
            assert len(fake.received) >= 2
            fake.deliver("mer/v1/desk/s1/answer", _answer(fake.received[-1][1]))
            assert (await asking).ok

    run_virtual(main())


def test_of_several_agents_one_must_be_named() -> None:
    async def main() -> None:
        fake = FakeBroker()
        fake.deliver("mer/v1/desk/status", READY.to_json())
        fake.deliver("mer/v1/door/status", READY.model_copy(update={"agent": "door"}).to_json())
        async with EmotionStream("mqtt://broker", connect=fake.connect) as stream:
            await asyncio.sleep(0.1)
            with pytest.raises(ConfigError, match="desk, door"):
                await stream.send_turn("hello")

    run_virtual(main())


def test_nobody_is_there_to_ask() -> None:
    async def main() -> None:
        async with EmotionStream("mqtt://broker", connect=FakeBroker().connect) as stream:
            with pytest.raises(AnswerError, match="no agent is ready"):
                await stream.send_turn("hello")

    run_virtual(main())


def test_what_no_agent_would_take_is_not_sent() -> None:
    async def main() -> None:
        fake = FakeBroker()
        async with EmotionStream("mqtt://broker", connect=fake.connect) as stream:
            for bad in (stream.send_turn(""), stream.send_turn("x" * 5000), stream.command("rename")):
                with pytest.raises(ValidationError):
                    await bad
        assert not fake.received

    run_virtual(main())


def test_entering_without_a_broker_fails_at_once() -> None:
    async def main() -> None:
        fake = FakeBroker()
        fake.break_down()
        stream = EmotionStream("mqtt://broker", connect=fake.connect)
        with pytest.raises(BrokerError, match="refused"):
            async with stream:
                pass
        fake.come_back()
        async with stream:
            assert stream.subscribed.is_set()

    run_virtual(main())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted(json.loads(message().to_json()))


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """Noise, JSON of any shape, or a good message that one field, or one byte, was changed of."""
    good = json.loads(message().to_json())
    match draw(st.integers(0, 3)):
        case 0:
            return draw(st.binary(max_size=200))
        case 1:
            return json.dumps(draw(JSON)).encode()
        case 2:
            good[draw(st.sampled_from(FIELDS))] = draw(JSON)
            return json.dumps(good).encode()
    payload = bytearray(message().to_json().encode())
    payload[draw(st.integers(0, len(payload) - 1))] = draw(st.integers(0, 255))
    return bytes(payload)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["emotion", "status", "answer"]), hostile()), min_size=50, max_size=100))
def test_hostile_payloads_cost_nothing_but_themselves(payloads: list[tuple[str, bytes]]) -> None:
    async def main() -> None:
        fake = FakeBroker()
        topics = {
            "emotion": "mer/v1/desk/s1/emotion/speaker-0/final",
            "status": "mer/v1/desk/status",
            "answer": "mer/v1/desk/s1/answer",
        }
        async with EmotionStream("mqtt://broker", connect=fake.connect) as stream, asyncio.timeout(60):
            fake.deliver(topics["status"], READY.to_json())
            asking = asyncio.create_task(stream.command("pause"))
            await asyncio.sleep(0.1)
            for kind, payload in payloads:
                fake.deliver(topics[kind], payload)
            last = message(999, speaker=8)
            fake.deliver("mer/v1/desk/s1/emotion/speaker-8/final", last.to_json())
            async for heard in stream:
                if heard == last:
                    break
            assert stream.latest("speaker-8") == last
            mood = stream.mood("speaker-0", 60)
            assert mood is None or abs(mood.pleasantness) <= 1.001
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    run_virtual(main())


def _answer(question: str) -> str:
    return AnswerMessage(agent="desk", session="s1", id=json.loads(question)["id"], ok=True).to_json()
