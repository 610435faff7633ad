from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from support import needs

from mer_agent.errors import BrokerError, ConfigError
from mer_agent.wire import mqtt
from mer_agent.wire.broker import EmbeddedBroker, subscribe_command
from mer_agent.wire.connection import Connection
from mer_agent.wire.endpoint import Endpoint


@contextlib.asynccontextmanager
async def connected(broker: EmbeddedBroker) -> AsyncIterator[Connection]:
    async with mqtt.connect(Endpoint.parse(broker.url)) as connection:
        yield connection


async def arrivals(connection: Connection, count: int, timeout_s: float = 5.0) -> list[tuple[str, bytes, bool]]:
    """The first `count` messages, or as many as there are within the time."""
    found = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            async for delivery in connection.deliveries():
                found.append((delivery.topic, delivery.payload, delivery.retained))
                if len(found) == count:
                    break
    return found


async def test_it_delivers_in_order() -> None:
    async with EmbeddedBroker(0) as broker, connected(broker) as reader, connected(broker) as writer:
        await reader.subscribe("mer/+/x")
        for number in range(50):
            await writer.publish("mer/a/x", str(number), qos=1)
            await writer.publish("mer/a/y", "not this", qos=1)
        assert await arrivals(reader, 50) == [("mer/a/x", str(number).encode(), False) for number in range(50)]


async def test_it_keeps_retained_messages_for_those_who_ask() -> None:
    async with EmbeddedBroker(0) as broker:
        async with connected(broker) as writer:
            await writer.publish("mer/status", "ready", qos=1, retain=True)
        async with connected(broker) as reader:
            await reader.subscribe("mer/status")
            assert await arrivals(reader, 1) == [("mer/status", b"ready", True)]


async def test_a_new_client_gets_no_retained_message_that_only_others_asked_for() -> None:
    async with EmbeddedBroker(0) as broker, connected(broker) as writer, connected(broker) as other:
        await writer.publish("private/note", "for the other", qos=1, retain=True)
        await other.subscribe("private/#")
        assert await arrivals(other, 1) == [("private/note", b"for the other", True)]
        async with connected(broker) as newcomer:
            await newcomer.subscribe("mer/#")
            await writer.publish("mer/x", "hello", qos=1)
            assert await arrivals(newcomer, 2, timeout_s=0.3) == [("mer/x", b"hello", False)]


@pytest.mark.broker
async def test_it_sends_the_last_will_of_a_client_that_vanishes() -> None:
    async with EmbeddedBroker(0) as broker, connected(broker) as reader:
        await reader.subscribe("mer/status")
        # A client in another process, since the loss of a socket can't be played in this one.
        command = [
            needs.program("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), "-t", "x",
            "--will-topic", "mer/status", "--will-payload", "offline", "--will-retain",
        ]  # fmt: skip
        with subprocess.Popen(command) as client:  # noqa: ASYNC220 - it only starts it
            await asyncio.sleep(0.3)
            client.kill()
        assert await arrivals(reader, 1) == [("mer/status", b"offline", False)]
        async with connected(broker) as newcomer:
            await newcomer.subscribe("mer/status")
            assert await arrivals(newcomer, 1) == [("mer/status", b"offline", True)]


async def test_what_was_acknowledged_is_delivered_before_it_stops() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        async with EmbeddedBroker(0) as broker:
            # A subscriber that reads nothing until the broker is told to stop: CONNECT, and SUBSCRIBE to `x` at QoS 0.
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01r" + b"\x82\x06\x00\x01\x00\x01x\x00")
            await reader.readexactly(4 + 5)  # both are acknowledged
            async with connected(broker) as publisher:
                for _ in range(300):
                    await publisher.publish("x", "." * 20_000, qos=1)
            reading = tasks.create_task(reader.read(-1))
        assert (await reading).count(b".") == 300 * 20_000
        writer.close()
        await writer.wait_closed()


async def test_it_listens_on_loopback_only() -> None:
    async with EmbeddedBroker(0) as broker:
        assert broker._server.sockets[0].getsockname() == ("127.0.0.1", broker.port)


async def test_the_usual_port_if_it_is_free_and_any_other_if_not() -> None:
    async with EmbeddedBroker() as first, EmbeddedBroker() as second:
        assert second.port != 1883
        assert first.port != second.port


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken.*--mqtt-port"):
            async with EmbeddedBroker(port):
                pass


async def test_it_starts_and_stops_quickly_even_with_clients_that_don_t_let_go() -> None:
    async with contextlib.AsyncExitStack() as outliving:
        before_s = time.monotonic()
        async with EmbeddedBroker(0) as broker:
            _, mute = await asyncio.open_connection("127.0.0.1", broker.port)
            outliving.callback(mute.close)
            reader = await outliving.enter_async_context(connected(broker))
            await reader.subscribe("#")
        assert time.monotonic() - before_s < 3


async def test_garbage_does_not_disturb_others() -> None:
    async with EmbeddedBroker(0) as broker, connected(broker) as reader:
        await reader.subscribe("x")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"\x10\xff\xff\xff\x7f", b"\x30\x02"):
            _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(garbage)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        await reader.publish("x", "still here", qos=1)
        assert await arrivals(reader, 1) == [("x", b"still here", False)]


async def test_the_log_stays_quiet_and_without_payloads(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with EmbeddedBroker(0) as broker, connected(broker) as connection:
            await connection.subscribe("x")
            await connection.publish("x", "secret", qos=1)
            await arrivals(connection, 1)
            _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.close()
            await writer.wait_closed()
    assert "secret" not in caplog.text
    assert [record.name for record in caplog.records if record.name.startswith(("amqtt", "transitions"))] == []


def test_the_command_to_listen_can_be_pasted_into_a_shell() -> None:
    command = subscribe_command("127.0.0.1", 1884, ["mer/v1/+/+/emotion/+/final", "odd topic/$x"])
    assert shlex.split(command) == [
        "mosquitto_sub", "-h", "127.0.0.1", "-p", "1884", "-v", "-q", "1",
        "-t", "mer/v1/+/+/emotion/+/final", "-t", "odd topic/$x",
    ]  # fmt: skip


@pytest.mark.broker
async def test_the_command_to_listen_works() -> None:
    async with EmbeddedBroker(0) as broker, connected(broker) as writer:
        command = subscribe_command("127.0.0.1", broker.port, ["mer/+"])
        needs.program("mosquitto_sub")
        await writer.publish("mer/a", "hello", qos=1, retain=True)
        listening = await asyncio.create_subprocess_shell(f"{command} -C 1", stdout=subprocess.PIPE)
        output, _ = await asyncio.wait_for(listening.communicate(), 5)
        assert output == b"mer/a hello\n"


async def test_it_tells_at_once_that_it_has_no_mqtt_5() -> None:
    async with EmbeddedBroker(0) as broker:
        before_s = asyncio.get_running_loop().time()
        endpoint = Endpoint("127.0.0.1", broker.port, version="5", client_id="reader", keep_s=60)
        with pytest.raises(BrokerError, match="Unsupported protocol version"):
            async with mqtt.connect(endpoint):
                pass
        assert asyncio.get_running_loop().time() - before_s < 1
        async with mqtt.connect(replace(endpoint, version="auto")) as connection:
            await connection.publish("x", "y", qos=1)


async def test_a_client_that_hangs_up_while_greeting_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with EmbeddedBroker(0) as broker:
        for greeting in (b"", b"\x10", b"\x10\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(greeting)
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        async with connected(broker) as connection:
            await connection.publish("x", "y", qos=1)
    assert "Traceback" not in caplog.text
