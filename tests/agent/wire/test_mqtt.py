from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import needs
from support.mosquitto import free_port, mosquitto

from mer_agent.config.settings import MqttSettings
from mer_agent.errors import BrokerError, ConfigError
from mer_agent.wire import mqtt
from mer_agent.wire.endpoint import Endpoint, MqttVersion


@contextlib.asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """A server that is no broker: it answers something and hangs up, or, with None, never says anything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1)
            if answer is not None:
                writer.write(answer)
            else:
                await reader.read()
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.sleep(0.01)  # for the connections to notice that their clients are gone


async def complaint(endpoint: Endpoint) -> str:
    before_s = time.monotonic()
    with pytest.raises(BrokerError) as caught:
        async with mqtt.connect(endpoint):
            pass
    assert time.monotonic() - before_s < 10
    assert "\n" not in str(caught.value)
    await asyncio.sleep(0.02)
    assert [task for task in asyncio.all_tasks() if "aiomqtt" in repr(task)] == []
    return str(caught.value)


def secrets(folder: Path, user: str, password: str) -> Path:
    """A password file for Mosquitto."""
    file = folder / "secrets"
    subprocess.run([needs.program("mosquitto_passwd"), "-b", "-c", str(file), user, password], check=True)
    return file


def test_urls() -> None:
    assert Endpoint.parse("mqtt://broker") == Endpoint("broker", 1883)
    assert Endpoint.parse("mqtts://ada@broker:9000") == Endpoint("broker", 9000, tls=True, username="ada")
    assert Endpoint.parse("mqtts://broker").url == "mqtts://broker:8883"
    assert Endpoint.parse("mqtt://[::1]:1884").url == "mqtt://[::1]:1884"


@pytest.mark.parametrize(
    "url", ["", "localhost:1883", "http://broker", "mqtt://", "mqtt://broker:port", "mqtt://a/b", "mqtt://[broken"]
)
def test_what_is_no_broker_s_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="mqtt://HOST:PORT"):
        Endpoint.parse(url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="MER_MQTT_PASSWORD") as caught:
        Endpoint.parse("mqtt://ada:geheim@broker")
    assert "geheim" not in str(caught.value)


def test_credentials_come_from_the_settings_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("geheim\nsecond line\n")
    settings = MqttSettings(url="mqtt://broker", username="ada", password_file=file)
    endpoint = Endpoint.from_settings(settings)
    assert (endpoint.username, endpoint.password) == ("ada", "geheim")
    assert "geheim" not in repr(endpoint) + endpoint.url
    with pytest.raises(ConfigError, match="can't be read"):
        Endpoint.from_settings(settings.model_copy(update={"password_file": tmp_path / "nowhere"}))


async def test_nobody_listens() -> None:
    port = free_port()
    assert await complaint(Endpoint("127.0.0.1", port)) == (
        f"mqtt://127.0.0.1:{port}: connection refused; is the broker running, and is the port right?"
    )


async def test_no_such_host() -> None:
    assert "no such host" in await complaint(Endpoint("nowhere.invalid"))


async def test_an_unreachable_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "CONNECT_S", 0.2)
    # A listener whose queue is full leaves further connections hanging, as a firewall that drops packets does.
    with socket.socket() as listener, contextlib.ExitStack() as others:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        assert "unreachable" in await complaint(Endpoint("127.0.0.1", listener.getsockname()[1]))


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00", b""])
@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_no_mqtt_broker(answer: bytes | None, version: MqttVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.2)
    async with server(answer) as port:
        assert "broker answers there" in await complaint(Endpoint("127.0.0.1", port, version=version))


# paho leaves the socket of a failed TLS handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_no_tls() -> None:
    async with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "TLS failed" in await complaint(Endpoint("127.0.0.1", port, tls=True))
    gc.collect()


@pytest.mark.parametrize("code", [1, 2, 3])
async def test_a_broker_that_refuses(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.2)
    async with server(bytes([0x20, 2, 0, code])) as port:
        assert f"mqtt://127.0.0.1:{port}: " in await complaint(Endpoint("127.0.0.1", port))


async def test_a_topic_that_we_may_not_read() -> None:
    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(14)  # CONNECT without a client id
        writer.write(b"\x20\x02\x00\x00")
        subscribe = await reader.readexactly(4)
        writer.write(b"\x90\x03" + subscribe[2:4] + b"\x80")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(deny, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with mqtt.connect(Endpoint("127.0.0.1", port, version="3.1.1")) as connection:
            with pytest.raises(BrokerError, match="doesn't let us read secret/#"):
                await connection.subscribe("secret/#")
        await asyncio.sleep(0.01)


async def test_giving_up_while_connecting_is_quick_and_leaves_nothing_behind() -> None:
    async with server(None) as port:
        before_s = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), mqtt.connect(Endpoint("127.0.0.1", port)):
                pass
        assert time.monotonic() - before_s < 1
        await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.broker
@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_mosquitto_lets_nobody_in_without_the_password(tmp_path: Path, version: MqttVersion) -> None:
    right, wrong = "geheim", "falsch"
    with mosquitto(tmp_path, f"allow_anonymous false\npassword_file {secrets(tmp_path, 'ada', right)}") as broker:
        async with mqtt.connect(Endpoint("127.0.0.1", broker.port, username="ada", password=right, version=version)):
            pass
        endpoint = Endpoint("127.0.0.1", broker.port, version=version)
        message = await complaint(endpoint)
        assert "not authorised as a client without user name" in message
        assert "MER_MQTT_PASSWORD" in message
        endpoint = Endpoint("127.0.0.1", broker.port, username="ada", password=wrong, version=version)
        message = await complaint(endpoint)
        assert "not authorised as user 'ada'" in message
        assert wrong not in message


@pytest.mark.broker
@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_mosquitto_delivers_both_ways(tmp_path: Path, version: MqttVersion) -> None:
    with mosquitto(tmp_path) as broker:
        async with asyncio.timeout(5), mqtt.connect(Endpoint("127.0.0.1", broker.port, version=version)) as connection:
            await connection.publish("kept", "before", qos=1, retain=True)
            await connection.subscribe("+")
            await connection.publish("now", "after", qos=1)
            found = []
            async for delivery in connection.deliveries():
                found.append((delivery.topic, delivery.payload, delivery.retained))
                if len(found) == 2:
                    break
            assert sorted(found) == [("kept", b"before", True), ("now", b"after", False)]
