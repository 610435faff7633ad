"""Other clients and other brokers: whoever speaks MQTT reads the same, and many can."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from support import needs, npm
from support.messages import message
from support.mosquitto import Mosquitto, mosquitto

from mer_agent.client import EmotionStream
from mer_agent.client.testing import FakeAgent, emotion
from mer_agent.wire import mqtt
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import Topics

pytestmark = pytest.mark.broker

FINALS = "mer/v1/+/+/emotion/+/final"
SUBSCRIBERS = 1000


async def told(agent: FakeAgent, lines: asyncio.StreamReader) -> str:
    """The first line of a program that listens: it is told until it has heard, since its start is its own secret."""
    async with asyncio.timeout(30):
        line = asyncio.create_task(lines.readline())
        while not line.done():
            await agent.say(emotion("sad"))
            await asyncio.wait({line}, timeout=0.05)
        return line.result().decode()


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
async def test_mosquitto_sub_shows_what_the_docs_promise(version: str, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        command = [needs.program("mosquitto_sub"), "-V", version, "-p", str(broker.port), "-v", "-q", "1", "-t", FINALS]
        async with FakeAgent(broker.url) as agent:
            program = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            assert program.stdout is not None
            topic, _, payload = (await told(agent, program.stdout)).partition(" ")
            program.kill()
            await program.wait()
    assert topic == "mer/v1/desk/test/emotion/speaker-0/final"
    assert json.loads(payload)["label"] == "sad"


@pytest.mark.node
@pytest.mark.parametrize("version", [4, 5])
async def test_mqtt_js_reads_and_commands(version: int, tmp_path: Path) -> None:
    script = f"""
        import mqtt from "mqtt";
        const client = mqtt.connect(process.argv.at(-1), {{ protocolVersion: {version} }});
        const root = "mer/v1/desk/test";
        const wanted = [root + "/emotion/+/final", root + "/answer/js"];
        client.on("connect", () => client.subscribe(wanted, {{ qos: 1 }}, () =>
            client.publish(root + "/command", JSON.stringify(
                {{ schema: "mer/v1", command: "pause", id: "c1", answer_to: root + "/answer/js" }}), {{ qos: 1 }})));
        const heard = {{}};
        client.on("message", (topic, payload) => {{
            const message = JSON.parse(payload);
            heard[topic.endsWith("js") ? "answer" : "label"] = message.label ?? message.ok;
            if ("answer" in heard && "label" in heard) {{ console.log(JSON.stringify(heard)); process.exit(0); }}
        }});
    """
    await asyncio.to_thread(npm.folder)
    with mosquitto(tmp_path) as broker:
        async with FakeAgent(broker.url) as agent:
            running = asyncio.create_task(asyncio.to_thread(npm.run, script, broker.url))
            while not running.done():
                await agent.say(emotion("angry"))
                await asyncio.wait({running}, timeout=0.05)
            assert json.loads(running.result()) == {"answer": True, "label": "angry"}
            assert [command.command for command in agent.commands] == ["pause"]


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
async def test_plain_paho_reads(version: Any, tmp_path: Path) -> None:
    got: list[dict[str, Any]] = []
    with mosquitto(tmp_path) as broker:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=version)
        client.on_connect = lambda client, *what: client.subscribe(FINALS, qos=1)
        client.on_message = lambda client, data, delivery: got.append(json.loads(delivery.payload))
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        try:
            async with asyncio.timeout(20), FakeAgent(broker.url) as agent:
                while not got:
                    await agent.say(emotion("excited"))
                    await asyncio.sleep(0.05)
        finally:
            client.disconnect()
            client.loop_stop()
    assert got[0]["label"] == "excited"


def _string(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


class Listener:
    """A subscriber in a few bytes (MQTT 3.1.1, QoS 0): a thousand of the real ones would be the test, not the agent."""

    @classmethod
    async def connect(cls, broker: Mosquitto, number: int) -> Listener:
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", broker.port)
        hello = _string("MQTT") + bytes([4, 2, 0, 60]) + _string(f"listener-{number}")
        self.writer.write(_packet(0x10, hello) + _packet(0x82, b"\0\1" + _string(FINALS) + b"\0"))
        assert await self.reader.readexactly(4) == b"\x20\2\0\0"
        assert await self.reader.readexactly(5) == b"\x90\3\0\1\0"
        return self

    async def seq(self) -> int:
        """The number of the next emotion."""
        assert (await self.reader.readexactly(1))[0] >> 4 == 3
        length = shift = 0
        while (byte := (await self.reader.readexactly(1))[0]) & 0x80:
            length, shift = length | (byte & 0x7F) << shift, shift + 7
        body = await self.reader.readexactly(length | byte << shift)
        return int(json.loads(body[2 + int.from_bytes(body[:2], "big") :])["seq"])


async def test_a_thousand_subscribers_all_hear_everything_in_order(tmp_path: Path) -> None:
    with mosquitto(tmp_path, "allow_anonymous true\nmax_connections -1") as broker:
        async with asyncio.timeout(60), FakeAgent(broker.url) as agent:
            listeners: list[Listener] = []
            for begun in range(0, SUBSCRIBERS, 100):  # a listening socket has a queue of some hundred
                many = (Listener.connect(broker, number) for number in range(begun, begun + 100))
                listeners += await asyncio.gather(*many)
            for _ in range(5):
                await agent.say(emotion("happy"))
            heard = await asyncio.gather(*(_first(listener, 5) for listener in listeners))
            for listener in listeners:
                listener.writer.close()
    assert heard == [list(range(5))] * SUBSCRIBERS


async def _first(listener: Listener, count: int) -> list[int]:
    return [await listener.seq() for _ in range(count)]


@contextlib.asynccontextmanager
async def publishing(broker: Mosquitto) -> AsyncIterator[Publisher]:
    publisher = Publisher(Endpoint("127.0.0.1", broker.port), Topics("desk", "s1"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run())
        await publisher.wait_connected()
        yield publisher
        await publisher.drain()


async def test_a_reader_that_is_slow_holds_up_nobody_and_gets_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "INBOX", 10)
    with mosquitto(tmp_path) as broker:
        async with asyncio.timeout(30), publishing(broker) as publisher, EmotionStream(broker.url) as slow:
            async with EmotionStream(broker.url) as quick:
                for number in range(300):  # nobody takes them out of the slow one's inbox
                    await publisher.publish_wait(message(number))
                    while (await anext(aiter(quick))).seq != number:
                        pass
            await asyncio.sleep(0.1)
            got = [await anext(aiter(slow)) for _ in range(10)]
        assert [one.seq for one in got] == list(range(290, 300))
        assert slow.overflowed >= 290
        assert publisher.counts.lost == 0


async def test_a_reader_that_reads_nothing_from_its_socket_holds_up_nobody(tmp_path: Path) -> None:
    settings = "allow_anonymous true\nmax_queued_messages 50"
    with mosquitto(tmp_path, settings) as broker, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", broker.port))
        hello = _string("MQTT") + bytes([4, 2, 0, 60]) + _string("stuck")
        stuck.sendall(_packet(0x10, hello) + _packet(0x82, b"\0\1" + _string(FINALS) + b"\1"))
        async with asyncio.timeout(30), publishing(broker) as publisher, EmotionStream(broker.url) as reader:
            for number in range(500):
                await publisher.publish_wait(message(number))
            seen = [(await anext(aiter(reader))).seq for _ in range(500)]
        assert seen == list(range(500))
        assert publisher.counts.lost == 0


async def test_a_wall_clock_that_jumps_changes_no_mood_and_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mosquitto(tmp_path) as broker:
        async with asyncio.timeout(20), FakeAgent(broker.url) as agent, EmotionStream(broker.url) as stream:
            for jump_s in (0, 86_400, -86_400, 1e9):
                now_s = time.time() + jump_s
                monkeypatch.setattr(time, "time", lambda now_s=now_s: now_s)
                await agent.say(emotion("sad"))
                await anext(aiter(stream))
                await stream.send_turn("hello")
            mood = stream.mood("speaker-0", 10)
            assert mood is not None
            assert mood.utterances == 4
            assert len(agent.turns) == 4
