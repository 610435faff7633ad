"""Who is let in, and who may say what: TLS and the example's access list, against a real Mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import needs
from support.certificates import Authority
from support.messages import message
from support.mosquitto import Mosquitto, mosquitto

from mer_agent.client import EmotionStream
from mer_agent.errors import BrokerError, RefusedError
from mer_agent.wire import mqtt
from mer_agent.wire.connection import Backoff, Connection, Delivery, Details
from mer_agent.wire.contract import CommandMessage
from mer_agent.wire.endpoint import Endpoint, MqttVersion
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import Topics

TOPICS = Topics("desk", "s1")
EXAMPLE = Path(__file__).parents[3] / "examples" / "mosquitto"
USERS = ("mer-agent", "mer-reader", "mer-chatbot")

pytestmark = [
    pytest.mark.broker,
    # paho leaves the socket of a failed TLS handshake to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    yield
    gc.collect()


def over_tls(broker: Mosquitto, authority: Authority, **options: object) -> Endpoint:
    return Endpoint("127.0.0.1", broker.port, tls=True, ca_file=authority.file, **options)  # type: ignore[arg-type]


async def complaint(endpoint: Endpoint) -> str:
    with pytest.raises(BrokerError) as caught:
        async with mqtt.connect(endpoint) as connection:
            await connection.publish("x", "y", qos=1)
    return str(caught.value)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_tls_with_an_authority_of_one_s_own(version: MqttVersion, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with mosquitto(tmp_path, f"{authority.server()}\nallow_anonymous true") as broker:
        async with mqtt.connect(over_tls(broker, authority, version=version)) as connection:
            await connection.subscribe("x")
            await connection.publish("x", "y", qos=1)
            assert (await anext(connection.deliveries())).payload == b"y"


async def test_an_authority_that_we_don_t_trust(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with mosquitto(tmp_path, f"{authority.server()}\nallow_anonymous true") as broker:
        (tmp_path / "other").mkdir()
        assert "certificate isn't good" in await complaint(over_tls(broker, Authority(tmp_path / "other")))


async def test_a_certificate_that_has_run_out(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with mosquitto(tmp_path, f"{authority.server(yesterday)}\nallow_anonymous true") as broker:
        said = await complaint(over_tls(broker, authority))
        assert "certificate has expired" in said
        assert "mqtt.ca_file" in said


async def test_a_certificate_that_runs_out_while_the_agent_runs_is_told_and_a_new_one_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    with mosquitto(tmp_path, f"{authority.server()}\nallow_anonymous true") as broker:
        quick = Backoff(first_s=0.05, longest_s=0.05)
        publisher = Publisher(over_tls(broker, authority), TOPICS, backoff=quick)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(publisher.run())
            await publisher.wait_connected()
            broker.kill()
            authority.server(datetime.now(UTC) - timedelta(seconds=1))
            await asyncio.to_thread(broker.start)
            while "certificate has expired" not in caplog.text:
                await asyncio.sleep(0.02)
            publisher.publish(message(0))
            broker.kill()
            authority.server()
            await asyncio.to_thread(broker.start)
            while not publisher.counts.sent:
                await asyncio.sleep(0.02)
            assert publisher.counts.lost == 0
            await publisher.drain()


async def test_a_broker_that_wants_to_see_our_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("agent")
    with mosquitto(tmp_path, f"{authority.server()}\nrequire_certificate true\nallow_anonymous true") as broker:
        async with mqtt.connect(over_tls(broker, authority, cert_file=certificate, key_file=key)) as connection:
            await connection.publish("x", "y", qos=1)
        assert "127.0.0.1" in await complaint(over_tls(broker, authority))


@contextlib.contextmanager
def example(folder: Path) -> Iterator[Mosquitto]:
    """Mosquitto with the configuration of the examples, but for its port and the places of its files."""
    authority = Authority(folder)
    certificate, key = authority.issue("server")
    for place, user in enumerate(USERS):
        command = [needs.program("mosquitto_passwd"), "-b", *(["-c"] if not place else []), str(folder / "passwd")]
        subprocess.run([*command, user, f"secret of {user}"], check=True, stderr=subprocess.DEVNULL)
    (folder / "acl").write_text((EXAMPLE / "acl").read_text())
    settings = (EXAMPLE / "mosquitto.conf").read_text().replace("listener 8883\n", "")
    for there, here in (
        ("/etc/mosquitto/certs/ca.crt", authority.file),
        ("/etc/mosquitto/certs/server.crt", certificate),
        ("/etc/mosquitto/certs/server.key", key),
        ("/etc/mosquitto/passwd", folder / "passwd"),
        ("/etc/mosquitto/acl", folder / "acl"),
    ):
        assert there in settings
        settings = settings.replace(there, str(here))
    with mosquitto(folder, settings) as broker:
        yield broker


def as_user(broker: Mosquitto, folder: Path, user: str, version: MqttVersion = "5") -> Endpoint:
    return Endpoint(
        "127.0.0.1", broker.port, True, user, f"secret of {user}", version=version, ca_file=folder / "ca.pem"
    )


@contextlib.asynccontextmanager
async def running(endpoint: Endpoint, received: list[Delivery]) -> AsyncIterator[Publisher]:
    publisher = Publisher(endpoint, TOPICS, receive=received.append)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run())
        await publisher.wait_connected()
        yield publisher
        await publisher.drain()


async def refused(connection: Connection, topic: str, payload: str) -> bool:
    try:
        await connection.publish(topic, payload, qos=1)
    except RefusedError as error:
        return "check its ACL" in str(error)
    return False


async def test_a_reader_reads_and_can_publish_nothing(tmp_path: Path) -> None:
    received: list[Delivery] = []
    with example(tmp_path) as broker:
        async with running(as_user(broker, tmp_path, "mer-agent"), received) as publisher:
            stream = EmotionStream(as_user(broker, tmp_path, "mer-reader"))
            reading = asyncio.ensure_future(anext(aiter(stream)))
            await stream.subscribed.wait()
            async with mqtt.connect(as_user(broker, tmp_path, "mer-reader")) as connection:
                assert await refused(connection, TOPICS.emotion("speaker-0"), message(0).to_json())
                assert await refused(connection, TOPICS.command, CommandMessage(command="stop").to_json())
                assert await refused(connection, TOPICS.turn, "{}")
                assert await refused(connection, TOPICS.status, "{}")
            async with mqtt.connect(as_user(broker, tmp_path, "mer-reader", "3.1.1")) as connection:
                # This version has no word for it: the message vanishes.
                assert not await refused(connection, TOPICS.emotion("speaker-0"), message(1).to_json())
                assert not await refused(connection, TOPICS.command, CommandMessage(command="stop").to_json())
            publisher.publish(message(7))
            assert (await reading).seq == 7
        assert received == []
        assert publisher.counts.lost == 0


async def test_a_chatbot_may_command_and_hear_the_answer(tmp_path: Path) -> None:
    received: list[Delivery] = []
    with example(tmp_path) as broker:
        async with (
            running(as_user(broker, tmp_path, "mer-agent"), received),
            mqtt.connect(as_user(broker, tmp_path, "mer-chatbot")) as connection,
        ):
            details = Details(response_topic=TOPICS.answer("bot"), correlation=b"7")
            await connection.publish(TOPICS.command, CommandMessage(command="pause").to_json(), qos=1, details=details)
            while not received:
                await asyncio.sleep(0.01)
            assert received[0].details.response_topic == TOPICS.answer("bot")
            assert received[0].details.correlation == b"7"
            assert await refused(connection, TOPICS.emotion("speaker-0"), message(0).to_json())


async def test_nobody_without_a_password_is_let_in(tmp_path: Path) -> None:
    with example(tmp_path) as broker:
        stranger = Endpoint("127.0.0.1", broker.port, True, ca_file=tmp_path / "ca.pem")
        assert "not authorised" in await complaint(stranger)


async def test_an_agent_that_may_not_write_ends_with_one_line(tmp_path: Path) -> None:
    with (
        example(tmp_path) as broker,
        pytest.raises(RefusedError, match="user 'mer-reader' write to mer/v1/desk/status"),
    ):
        async with asyncio.timeout(10):
            await Publisher(as_user(broker, tmp_path, "mer-reader"), TOPICS).run()
