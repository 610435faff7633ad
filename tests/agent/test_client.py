from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from support.fake_broker import FakeBroker
from support.messages import message
from support.mosquitto import free_port
from support.virtual_time import run_virtual

from mer_agent.client import EmotionMessage, EmotionStream, StatusMessage
from mer_agent.errors import BrokerError, ConfigError
from mer_agent.wire.broker import EmbeddedBroker
from mer_agent.wire.connection import Backoff
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import Topics

TOPIC = "mer/v1/desk/s1/emotion/speaker-0/final"
ROOT = Path(__file__).parents[2]


def stream_from(broker: FakeBroker, **options: Any) -> EmotionStream:
    return EmotionStream("mqtt://broker", connect=broker.connect, backoff=Backoff(random=lambda: 1.0), **options)


async def first(stream: EmotionStream, count: int) -> list[EmotionMessage]:
    found = []
    async with asyncio.timeout(10):
        async for emotion in stream:
            found.append(emotion)
            if len(found) == count:
                break
    return found


def test_emotions_arrive_as_typed_messages_in_order() -> None:
    async def main() -> None:
        broker = FakeBroker()
        for number in range(3):
            broker.deliver(TOPIC, message(number).to_json())
        assert await first(stream_from(broker), 3) == [message(number) for number in range(3)]

    run_virtual(main())


def test_it_subscribes_to_what_was_asked_for_and_no_more() -> None:
    async def main() -> None:
        broker = FakeBroker()
        broker.deliver("mer/v1/desk/s1/emotion/speaker-1/final", message(speaker=1).to_json())
        stream = stream_from(broker, agent="desk", session="s1", speaker="speaker-1")
        await first(stream, 1)
        assert broker.filters == ["mer/v1/desk/status", "mer/v1/desk/s1/emotion/speaker-1/final"]

    run_virtual(main())


def test_partial_predictions_come_on_demand() -> None:
    async def main() -> None:
        broker = FakeBroker()
        broker.deliver(TOPIC.replace("final", "partial"), message(kind="partial").to_json())
        assert [emotion.kind for emotion in await first(stream_from(broker, partial=True), 1)] == ["partial"]

    run_virtual(main())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b'{"schema": "mer/v1"',
        message().to_json().replace("mer/v1", "mer/v9").encode(),
        message().to_json().replace("0.7", "NaN").encode(),
        b"[" * 100_000,
        json.dumps(json.loads(message().to_json()) | {"text": "x" * 70_000}).encode(),
    ],
    ids=range(10),
)
def test_what_can_t_be_read_is_skipped_and_counted(payload: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        broker = FakeBroker()
        stream = stream_from(broker)
        broker.deliver(TOPIC, payload)
        broker.deliver(TOPIC, message(1).to_json())
        assert await first(stream, 1) == [message(1)]
        assert stream.malformed == 1

    run_virtual(main())
    assert f"Skipped {len(payload)} bytes on {TOPIC}" in caplog.text


def test_the_log_holds_no_words(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        broker = FakeBroker()
        broker.deliver(TOPIC, message(text="the secret word").to_json().replace("0.7", "0.1"))
        broker.deliver(TOPIC, message(1).to_json())
        await first(stream_from(broker), 1)

    with caplog.at_level(logging.DEBUG):
        run_virtual(main())
    assert "Skipped" in caplog.text
    assert "secret" not in caplog.text


def test_unknown_topics_are_ignored_and_counted() -> None:
    async def main() -> None:
        broker = FakeBroker()
        stream = stream_from(broker)
        broker.deliver("mer/v1/desk/s1/weather", "rain")
        broker.deliver("somebody/else", message(0).to_json())
        broker.deliver(TOPIC, message(1).to_json())
        assert await first(stream, 1) == [message(1)]
        assert (stream.unknown, stream.malformed) == (2, 0)

    run_virtual(main())


def test_unknown_fields_are_ignored() -> None:
    async def main() -> None:
        broker = FakeBroker()
        broker.deliver(TOPIC, json.dumps(json.loads(message().to_json()) | {"gaze": [1, 2]}))
        assert await first(stream_from(broker), 1) == [message()]

    run_virtual(main())


def test_what_was_sent_twice_is_given_once() -> None:
    async def main() -> None:
        broker = FakeBroker()
        stream = stream_from(broker)
        for number in (0, 0, 1, 0):
            broker.deliver(TOPIC, message(number).to_json())
        revised = message(0, kind="revision", revision=1)
        broker.deliver(TOPIC, revised.to_json())
        assert await first(stream, 3) == [message(0), message(1), revised]
        assert stream.duplicates == 2

    run_virtual(main())


def test_statuses_come_with_the_events_and_are_remembered() -> None:
    async def main() -> None:
        broker = FakeBroker()
        status = StatusMessage(agent="desk", state="ready", version="0.1.0")
        broker.deliver("mer/v1/desk/status", status.to_json())
        broker.deliver(TOPIC, message().to_json())
        stream = stream_from(broker)
        async with aclosing(stream.events()) as events:
            assert [await anext(events), await anext(events)] == [status, message()]
        assert stream.statuses == {"desk": status}

    run_virtual(main())


def test_the_first_connection_must_succeed() -> None:
    async def main() -> None:
        broker = FakeBroker()
        broker.break_down()
        with pytest.raises(BrokerError, match="refused"):
            await first(stream_from(broker), 1)

    run_virtual(main())


def test_it_comes_back_after_a_lost_connection() -> None:
    async def main() -> None:
        broker = FakeBroker()
        stream = stream_from(broker)
        waiting = asyncio.create_task(first(stream, 2))
        await stream.subscribed.wait()
        broker.deliver(TOPIC, message(0).to_json())
        await asyncio.sleep(1)
        broker.break_down()
        await asyncio.sleep(5)
        assert not stream.subscribed.is_set()
        broker.come_back()
        await stream.subscribed.wait()
        broker.deliver(TOPIC, message(1).to_json())
        assert [emotion.seq for emotion in await waiting] == [0, 1]

    run_virtual(main())


def test_patience_is_bounded_if_that_is_wanted() -> None:
    async def main() -> None:
        broker = FakeBroker()
        stream = stream_from(broker, patience_s=5.0)
        waiting = asyncio.create_task(first(stream, 1))
        await stream.subscribed.wait()
        broker.break_down()
        lost_s = asyncio.get_running_loop().time()
        with pytest.raises(BrokerError):
            await waiting
        assert 5 <= asyncio.get_running_loop().time() - lost_s < 10

    run_virtual(main())


def test_a_bad_url_is_refused_at_once() -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="mqtt://HOST:PORT"):
            EmotionStream("localhost")

    run_virtual(main())


async def test_nobody_listens() -> None:
    with pytest.raises(BrokerError, match="connection refused"):
        await first(EmotionStream(f"mqtt://127.0.0.1:{free_port()}"), 1)


async def test_a_slow_reader_gets_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer_agent.wire.mqtt.INBOX", 10)
    async with EmbeddedBroker(0) as broker, asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        publisher = Publisher(Endpoint.parse(broker.url), Topics("desk", "s1"))
        tasks.create_task(publisher.run())
        await publisher.wait_connected()
        stream = EmotionStream(broker.url)
        async with aclosing(stream.events()) as events:
            status = await anext(events)
            assert isinstance(status, StatusMessage)
            for number in range(50):
                await publisher.publish_wait(message(number))
            await publisher.drain()
            await asyncio.sleep(0.2)  # the reader sleeps
            got = [await anext(events) for _ in range(10)]
        numbers = [event.seq for event in got if isinstance(event, EmotionMessage)]
        assert numbers == list(range(numbers[0], 50))
        assert stream.overflowed > 30


def test_the_client_needs_no_model() -> None:
    code = (
        "import sys, mer_agent.client\n"
        "heavy = {'torch', 'transformers', 'cv2', 'numpy', 'amqtt', 'rich', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("document", ["README.md", "docs/mqtt.md"])
async def test_the_example_in_the_docs_runs_as_printed(document: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    (example,) = [block for block in blocks if "EmotionStream(" in block]
    assert len(example.strip().splitlines()) <= 10
    async with EmbeddedBroker(0) as broker, asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        publisher = Publisher(Endpoint.parse(broker.url), Topics("desk", "s1"), publish_text=True)
        tasks.create_task(publisher.run())
        assert "mqtt://127.0.0.1:1883" in example
        chatbot = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-c", example.replace("1883", str(broker.port)), stdout=subprocess.PIPE
        )
        assert chatbot.stdout is not None
        # When it has subscribed is its own secret, so it is told until it has heard.
        hearing = asyncio.create_task(chatbot.stdout.readline())
        for number in range(200):
            publisher.publish(message(number))
            await asyncio.wait({hearing}, timeout=0.05)
            if hearing.done():
                break
        chatbot.kill()
        await chatbot.wait()
        assert (await hearing).decode().split()[:2] == ["speaker-0", "happy"]
        await publisher.drain()
