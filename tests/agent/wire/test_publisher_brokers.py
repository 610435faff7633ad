"""The publisher against real brokers: the embedded one and Mosquitto, which are killed, muted and denied here."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from support.messages import message
from support.mosquitto import mosquitto
from support.proxy import Proxy

from mer_agent.client import EmotionMessage, EmotionStream, StatusMessage
from mer_agent.errors import BrokerError
from mer_agent.wire import mqtt
from mer_agent.wire.broker import EmbeddedBroker
from mer_agent.wire.connection import Backoff, Connection
from mer_agent.wire.endpoint import Endpoint, MqttVersion
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import Topics

TOPICS = Topics("desk", "s1")
QUICK = Backoff(first_s=0.05, longest_s=0.05)

pytestmark = pytest.mark.broker


@contextlib.asynccontextmanager
async def running(kind: str, folder: Path) -> AsyncIterator[Endpoint]:
    """A broker of the kind, and how to reach it."""
    if kind == "embedded":
        async with EmbeddedBroker(0) as embedded:
            yield Endpoint("127.0.0.1", embedded.port)
    else:
        version: MqttVersion = "5" if kind == "mosquitto, MQTT 5" else "3.1.1"
        with mosquitto(folder) as real:
            yield Endpoint("127.0.0.1", real.port, version=version)


every_broker = pytest.mark.parametrize("kind", ["embedded", "mosquitto, MQTT 3.1.1", "mosquitto, MQTT 5"])


class Reader:
    """Collects in the background what an `EmotionStream` gives."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.stream = EmotionStream(endpoint, backoff=QUICK)
        self.numbers: list[int] = []
        self.states: list[str] = []
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        async with aclosing(self.stream.events()) as events:
            async for event in events:
                if isinstance(event, EmotionMessage):
                    self.numbers.append(event.seq)
                    self._arrived.set()
                else:
                    self.states.append(event.state)

    async def until(self, count: int) -> None:
        """Returns when `count` emotions have arrived."""
        async with asyncio.timeout(10):
            while len(self.numbers) < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def until_number(self, number: int) -> None:
        """Returns when the emotion of this number has arrived."""
        while number not in self.numbers:
            await self.until(len(self.numbers) + 1)


@contextlib.asynccontextmanager
async def publisher_and_reader(
    publishing: Endpoint, reading: Endpoint | None = None, **options: Any
) -> AsyncIterator[tuple[Publisher, Reader]]:
    """Both are connected; the publisher comes back after the reader, since a broker keeps nothing for the absent."""
    reader = Reader(reading or publishing)

    @contextlib.asynccontextmanager
    async def connect_after_the_reader(endpoint: Endpoint, **details: Any) -> AsyncIterator[Connection]:
        await reader.stream.subscribed.wait()
        async with mqtt.connect(endpoint, **details) as connection:
            yield connection

    publisher = Publisher(publishing, TOPICS, backoff=QUICK, connect=connect_after_the_reader, **options)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        background = tasks.create_task(reader.run())
        await reader.stream.subscribed.wait()
        tasks.create_task(publisher.run())
        await publisher.wait_connected()
        yield publisher, reader
        await publisher.drain()
        background.cancel()


@every_broker
async def test_everything_arrives_once_and_in_order(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path) as endpoint, publisher_and_reader(endpoint) as (publisher, reader):
        publisher.set_status("ready")
        for number in range(200):
            await publisher.publish_wait(message(number, speaker=number % 3))
        await reader.until(200)
        assert reader.numbers == list(range(200))
        assert reader.states[-1] == "ready"
        assert publisher.counts.lost == 0


@every_broker
async def test_the_status_is_kept_for_those_who_come_later(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path) as endpoint, asyncio.timeout(10):
        for state in ("ready", "offline"):
            async with publisher_and_reader(endpoint) as (publisher, _):
                publisher.set_status("ready", {"audio-0": "ok"})
                if state == "offline":
                    await publisher.drain()
                await asyncio.sleep(0.05)
                async with aclosing(EmotionStream(endpoint).events()) as events:
                    late = await anext(events)
                assert isinstance(late, StatusMessage)
                assert late.state == state


@every_broker
async def test_the_broker_says_offline_for_an_agent_that_was_killed(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path) as endpoint, asyncio.timeout(10):
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-c",
            "import asyncio\n"
            "from mer_agent.wire.endpoint import Endpoint\n"
            "from mer_agent.wire.publisher import Publisher\n"
            "from mer_agent.wire.schema import Topics\n"
            "async def main():\n"
            f"    endpoint = Endpoint('127.0.0.1', {endpoint.port}, version={endpoint.version!r})\n"
            "    publisher = Publisher(endpoint, Topics('desk', 's1'))\n"
            "    publisher.set_status('ready')\n"
            "    await publisher.run()\n"
            "asyncio.run(main())\n",
        )  # fmt: skip
        async with aclosing(EmotionStream(endpoint).events()) as events:
            status = await anext(events)
            assert isinstance(status, StatusMessage)
            assert status.state == "ready"
            agent.send_signal(signal.SIGKILL)
            status = await anext(events)
            assert isinstance(status, StatusMessage)
            assert (status.state, status.since) == ("offline", None)
        await agent.wait()
        async with aclosing(EmotionStream(endpoint).events()) as events:
            late = await anext(events)
            assert isinstance(late, StatusMessage)
            assert late.state == "offline"


async def test_a_broker_that_is_killed_and_started_again_costs_nothing_within_the_age_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mosquitto(tmp_path) as broker:
        async with publisher_and_reader(Endpoint("127.0.0.1", broker.port)) as (publisher, reader):
            for outage in (1, 2):
                for number in range(40 * outage - 40, 40 * outage):
                    if number % 40 == 20:
                        broker.kill()
                    publisher.publish(message(number))
                    await asyncio.sleep(0.005)
                await asyncio.to_thread(broker.start)
                await reader.until(40 * outage)
            assert reader.numbers == list(range(80))
            assert publisher.counts.reconnects == 2
            assert publisher.counts.lost == 0
    assert "Traceback" not in caplog.text


async def test_an_outage_beyond_the_age_limit_costs_what_is_too_old_and_that_is_counted(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        endpoint = Endpoint("127.0.0.1", broker.port)
        async with publisher_and_reader(endpoint, outbox_age_s=0.5) as (publisher, reader):
            publisher.publish(message(0))
            await reader.until(1)
            broker.kill()
            for number in range(1, 41):
                publisher.publish(message(number))
                await asyncio.sleep(0.03)
            await asyncio.to_thread(broker.start)
            await asyncio.sleep(0.1)
            publisher.publish(message(41))
            await reader.until_number(41)
            lost = publisher.counts.dropped_aged
            assert 10 < lost <= 40
            assert reader.numbers == [0, *range(1 + lost, 42)]


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_half_open_connection_is_noticed_and_nothing_is_lost_or_doubled(
    direction: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "ACK_S", 0.3)
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.3)
    with mosquitto(tmp_path) as broker:
        direct = Endpoint("127.0.0.1", broker.port)
        async with (
            Proxy(broker.port) as wire,
            publisher_and_reader(Endpoint("127.0.0.1", wire.port), direct) as (publisher, reader),
        ):
            publisher.publish(message(0))
            await reader.until(1)
            setattr(wire, direction, False)
            for number in range(1, 4):
                publisher.publish(message(number))
            await asyncio.sleep(0.5)
            assert not publisher.connected
            setattr(wire, direction, True)
            await reader.until(4)
            assert reader.numbers == [0, 1, 2, 3]
            assert publisher.counts.lost == 0
            # "down" loses only the acknowledgement, so the broker got one message twice.
            assert reader.stream.duplicates == (1 if direction == "down" else 0)


async def test_a_broker_that_lets_nobody_in_ends_the_run_with_one_line(tmp_path: Path) -> None:
    with mosquitto(tmp_path, "allow_anonymous false") as broker:
        before_s = time.monotonic()
        with pytest.raises(BrokerError, match="not authorised"):
            await Publisher(Endpoint("127.0.0.1", broker.port), TOPICS).run()
        assert time.monotonic() - before_s < 5


async def test_mqtt_5_says_beside_the_payload_what_it_is_and_how_long_it_counts(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        endpoint = Endpoint("127.0.0.1", broker.port)  # which finds out by itself that the broker has MQTT 5
        async with mqtt.connect(endpoint) as reader, publisher_and_reader(endpoint) as (publisher, _):
            await reader.subscribe(TOPICS.emotion())
            publisher.publish(message(0))
            delivery = await anext(reader.deliveries())
    assert delivery.details.content_type == "application/json"
    assert delivery.details.expiry_s in (29, 30)
    properties = dict(delivery.details.user)
    assert properties["schema"] == "mer/v1"
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", properties["traceparent"])


@every_broker
async def test_cloud_events_are_read_like_plain_messages(kind: str, tmp_path: Path) -> None:
    async with (
        running(kind, tmp_path) as endpoint,
        publisher_and_reader(endpoint, envelope="cloudevents") as (publisher, reader),
    ):
        publisher.publish(message(0))
        await reader.until(1)
        assert reader.numbers == [0]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_reader_that_keeps_its_session_misses_nothing_while_it_starts_again(
    version: MqttVersion, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as broker:
        publishing = Endpoint("127.0.0.1", broker.port)
        keeping = Endpoint("127.0.0.1", broker.port, version=version, client_id="bot", keep_s=60)
        async with publisher_and_reader(publishing) as (publisher, other):
            numbers: list[int] = []
            for round_ in range(3):
                bot = Reader(keeping)
                reading = asyncio.create_task(bot.run())
                await bot.stream.subscribed.wait()
                publisher.publish(message(20 * round_))
                await bot.until_number(20 * round_)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                for number in range(20 * round_ + 1, 20 * round_ + 20):  # while it is away
                    publisher.publish(message(number))
                await other.until(20 * round_ + 20)
                numbers += bot.numbers
            last = Reader(keeping)
            reading = asyncio.create_task(last.run())
            await last.until_number(59)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert numbers + last.numbers == list(range(60))


async def test_what_a_reader_that_was_away_too_long_would_get_has_expired(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        publishing = Endpoint("127.0.0.1", broker.port)
        keeping = Endpoint("127.0.0.1", broker.port, version="5", client_id="bot", keep_s=60)
        async with mqtt.connect(keeping) as connection:
            await connection.subscribe(TOPICS.emotion())
        async with publisher_and_reader(publishing, outbox_age_s=0.5) as (publisher, reader):
            publisher.publish(message(0))
            await reader.until(1)
            await asyncio.sleep(2.1)  # an expiry is a whole number of seconds
            publisher.publish(message(1))
            await reader.until(2)
            async with mqtt.connect(keeping) as connection:
                first = await anext(connection.deliveries())
    assert EmotionMessage.from_json(first.payload).seq == 1


async def test_a_clock_that_jumps_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mosquitto(tmp_path) as broker:
        async with publisher_and_reader(Endpoint("127.0.0.1", broker.port), outbox_age_s=5) as (publisher, reader):
            broker.kill()
            for number, jump_s in enumerate((0, 86_400, -86_400, 1e9)):
                now_s = time.time() + jump_s
                monkeypatch.setattr(time, "time", lambda now_s=now_s: now_s)
                publisher.publish(message(number))
            await asyncio.to_thread(broker.start)
            await reader.until(4)
            assert reader.numbers == [0, 1, 2, 3]
            assert publisher.counts.lost == 0


async def test_the_status_says_stopping_before_offline(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        endpoint = Endpoint("127.0.0.1", broker.port)
        reader = Reader(endpoint)
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            background = tasks.create_task(reader.run())
            await reader.stream.subscribed.wait()
            publisher = Publisher(endpoint, TOPICS)
            tasks.create_task(publisher.run())
            await publisher.wait_connected()
            publisher.set_status("ready")
            publisher.publish(message(0))
            await reader.until(1)
            await publisher.drain()
            while "offline" not in reader.states:
                await asyncio.sleep(0.01)
            background.cancel()
        assert reader.states[-2:] == ["stopping", "offline"]
