from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from support.messages import message
from support.mosquitto import free_port

from mer_agent.client import EmotionMessage, EmotionStream, TurnMessage
from mer_agent.client.testing import FakeAgent, emotion, recorded
from mer_agent.errors import BrokerError, InputError
from mer_agent.wire.broker import EmbeddedBroker


def test_it_is_found_where_the_client_is() -> None:
    code = (
        "import sys\n"
        "import mer_agent.client.testing\n"
        "from mer_agent.client.testing import FakeAgent\n"
        "from mer_agent.client import testing\n"
        "assert testing.FakeAgent is FakeAgent\n"
        "assert not {'torch', 'numpy', 'amqtt'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_recording_is_heard_as_if_it_happened_now(tmp_path: Path) -> None:
    file = tmp_path / "session.jsonl"
    said = [message(number, text=f"words {number}") for number in range(5)]
    file.write_text("".join(one.to_json() + "\n" for one in said) + "\n", encoding="utf-8")
    async with (
        EmbeddedBroker(0) as broker,
        asyncio.timeout(20),
        FakeAgent(broker.url, session="again") as agent,
        EmotionStream(broker.url) as stream,
    ):
        assert await agent.replay(recorded(file)) == 5
        got = [await anext(aiter(stream)) for _ in range(5)]
    assert [one.label for one in got] == [one.label for one in said]
    assert [(one.utterance, one.seq, one.session) for one in got] == [(f"u{n:06d}", n, "again") for n in range(5)]
    assert all(one.text is None for one in got)  # words stay here, as they do with the agent
    assert got[0].ended_at.year >= 2026
    assert got[0].ended_at - got[0].started_at == said[0].ended_at - said[0].started_at


async def test_the_pace_is_that_of_the_recording() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with EmbeddedBroker(0) as broker, asyncio.timeout(20), FakeAgent(broker.url) as agent:
        await agent.replay([message(0), message(1)], speed=2.0, sleep=sleep)
    assert waits == [1.0, 1.5]  # the first ends after 2 s, the second 3 s later


async def test_a_user_s_turn_is_judged_as_the_test_wants() -> None:
    def judge(turn: TurnMessage) -> EmotionMessage:
        return emotion("angry" if "!" in turn.text else "neutral")

    async with (
        EmbeddedBroker(0) as broker,
        asyncio.timeout(20),
        FakeAgent(broker.url, judge=judge) as agent,
        EmotionStream(broker.url, speaker="user") as stream,
    ):
        await stream.send_turn("Go away!", role="user")
        heard = await anext(aiter(stream))
    assert (heard.speaker, heard.label) == ("user", "angry")
    assert len(agent.turns) == 1


async def test_there_must_be_a_broker() -> None:
    with pytest.raises(BrokerError, match="refused"):
        async with FakeAgent(f"mqtt://127.0.0.1:{free_port()}"):
            pass


def test_a_broken_recording_is_refused_without_its_words(tmp_path: Path) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text(message(0).to_json() + "\n" + '{"text": "secret"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2") as error:
        recorded(file)
    assert "secret" not in str(error.value)
    with pytest.raises(InputError, match="can't be read"):
        recorded(tmp_path / "missing.jsonl")
