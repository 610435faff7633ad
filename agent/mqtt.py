"""One connection to an MQTT broker: where it is, how it is opened, and what to say when that fails.

The only file that knows aiomqtt. Publisher and client see a `Connection`, which tests fake in a few lines, and one
error: `BrokerError`, whose message is a line for the user.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

import aiomqtt

from mer_agent.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from mer_agent.config.settings import MqttSettings

log = logging.getLogger(__name__)

MqttVersion = Literal["3.1.1", "5"]

CONNECT_S = 3.0
"""To reach the broker's machine. The thread that tries can't be stopped, so this also bounds our shutdown."""
ANSWER_S = 4.0
"""For the broker's first answer, and for saying goodbye."""
ACK_S = 5.0
"""For the acknowledgement of a message: beyond that the connection is taken for half-open, and given up."""
KEEPALIVE_S = 15
"""A silent connection is probed this often; after 1.5 times this the broker sends our last will."""
INBOX = 1000
"""Messages that wait for a slow reader; then the oldest goes."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is, and as whom we go there."""

    host: str
    port: int = 1883
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    version: MqttVersion = "3.1.1"

    @property
    def url(self) -> str:
        """The address without any credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    @classmethod
    def parse(cls, url: str, *, username: str = "", password: str = "", version: MqttVersion = "3.1.1") -> Endpoint:
        """Reads `mqtt[s]://[USER@]HOST[:PORT]`.

        Raises:
            ConfigError: it is something else, or has the password in it, where `ps` and logs would show it.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
            parts = urlsplit("")
        if parts.password is not None:
            raise ConfigError("the broker's password can't stand in its URL; use MER_MQTT_PASSWORD or a password file")
        if not host or parts.scheme not in _PORTS or parts.path.strip("/") or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} is no broker; write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS")
        user = username or parts.username or ""
        return cls(host, port or _PORTS[parts.scheme], parts.scheme == "mqtts", user, password, version)

    @classmethod
    def from_settings(cls, settings: MqttSettings) -> Endpoint:
        """The broker of the settings, with the password from the environment or its file.

        Raises:
            ConfigError: the URL or the password file can't be read.
        """
        password = settings.password.get_secret_value()
        if not password and settings.password_file:
            password = _first_line(settings.password_file)
        return cls.parse(settings.url, username=settings.username, password=password)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it arrived; `retained` if it was kept by the broker since before we subscribed."""

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us, retained, when we vanish."""

    topic: str
    payload: str


class Connection(Protocol):
    """An open connection. Every method raises BrokerError when it is lost."""

    async def publish(self, topic: str, payload: str, *, qos: int, retain: bool = False) -> None:
        """Returns when the broker has acknowledged it (QoS 1), or at once (QoS 0)."""
        ...

    async def subscribe(self, *filters: str) -> None:
        """Asks for all topics that match, at QoS 1."""
        ...

    def deliveries(self) -> AsyncIterator[Delivery]:
        """What arrives, for ever; waiting here is also how the loss of an idle connection is noticed."""
        ...


class Connect(Protocol):
    """Opens a connection for the length of a `with` block, and says goodbye after it."""

    def __call__(
        self, endpoint: Endpoint, *, will: Will | None = None, overflow: Callable[[], None] | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Raises BrokerError when the broker can't be had; `overflow` is called for each message without room."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: doubling, bounded, and random, so that not all come back at once."""

    first_s: float = 0.25
    longest_s: float = 15.0
    random: Callable[[], float] = random.random

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, the first being number 0."""
        return float(min(self.longest_s, self.first_s * 2 ** min(failures, 16)) * (0.5 + 0.5 * self.random()))


@contextlib.asynccontextmanager
async def connect(
    endpoint: Endpoint, *, will: Will | None = None, overflow: Callable[[], None] | None = None
) -> AsyncIterator[Connection]:
    """Opens a connection to a real broker; see `Connect`.

    Raises:
        BrokerError: refused, unreachable, not authorised, or no broker at all.
    """
    client = _Client(
        endpoint.host,
        endpoint.port,
        username=endpoint.username or None,
        password=endpoint.password or None,
        logger=log,
        protocol=_VERSIONS[endpoint.version],
        will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True) if will else None,
        timeout=ANSWER_S,
        keepalive=KEEPALIVE_S,
        queue_type=_keep_newest(overflow or (lambda: None)),
        max_queued_incoming_messages=INBOX,
        tls_context=ssl.create_default_context() if endpoint.tls else None,
        # An utterance is one small packet: it must not wait for a second one.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    client._client.connect_timeout = CONNECT_S  # aiomqtt has no setting for it
    await _open(client, endpoint)
    try:
        yield _Connection(client, endpoint)
    finally:
        try:
            await client.__aexit__(None, None, None)
        except aiomqtt.MqttError:
            _abandon(client)
        _read_future(client._disconnected)


class _Client(aiomqtt.Client):
    """aiomqtt, except that it no longer waits to write to a socket that is closed.

    aiomqtt 2.5 asks the event loop for that a moment too late: when the broker dies in between, the loop logs a
    traceback, or watches somebody else's socket that got the same number.
    """

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)


class _Connection:
    """`Connection` over aiomqtt."""

    def __init__(self, client: aiomqtt.Client, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    async def publish(self, topic: str, payload: str, *, qos: int, retain: bool = False) -> None:
        with self._explained():
            await self._client.publish(topic, payload, qos=qos, retain=retain, timeout=ACK_S)

    async def subscribe(self, *filters: str) -> None:
        with self._explained():
            for pattern in filters:
                (granted,) = await self._client.subscribe(pattern, qos=1)
                if getattr(granted, "value", granted) >= 0x80:
                    raise BrokerError(f"the broker at {self._endpoint.url} doesn't let us read {pattern}")

    async def deliveries(self) -> AsyncIterator[Delivery]:
        with self._explained():
            async for message in self._client.messages:
                yield Delivery(message.topic.value, bytes(message.payload), bool(message.retain))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except aiomqtt.MqttError as error:
            raise BrokerError(f"lost the broker at {self._endpoint.url} ({error})") from error


async def _open(client: aiomqtt.Client, endpoint: Endpoint) -> None:
    opening = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(opening)
    except aiomqtt.MqttError as error:
        _abandon(client)
        raise _explain(error, endpoint) from error
    except asyncio.CancelledError:
        # The thread that connects can't be interrupted, and the socket that it opens must not outlive us. After that
        # only the broker's answer is missing, for which we needn't stay.
        while client._client.socket() is None and not opening.done():
            await asyncio.wait({opening}, timeout=0.05)
        await asyncio.wait({opening}, timeout=0.05)
        opening.cancel()
        await asyncio.wait({opening})
        client._connected = asyncio.Future()  # as aiomqtt does after a failure, but not after a cancellation
        _abandon(client)
        raise


def _abandon(client: aiomqtt.Client) -> None:
    """Closes the socket that aiomqtt leaves open when its own opening or closing fails."""
    client._client.disconnect()
    _read_future(client._disconnected)


def _read_future(future: asyncio.Future[None]) -> None:
    if future.done() and not future.cancelled():
        future.exception()  # otherwise asyncio complains that nobody looked


def _explain(error: aiomqtt.MqttError, endpoint: Endpoint) -> BrokerError:
    """One line that says what is wrong and what to do about it."""
    where = endpoint.url
    if isinstance(error, aiomqtt.MqttCodeError):
        return BrokerError(_refusal(error, endpoint))
    # aiomqtt keeps the text of the original error only, but Python keeps the error itself.
    match error.__context__:
        case ssl.SSLError() as cause:
            return BrokerError(f"{where}: TLS failed ({cause.reason or cause}); check the certificate and the port")
        case socket.gaierror():
            return BrokerError(f"{where}: no such host; check the name, or the network")
        case ConnectionRefusedError():
            return BrokerError(f"{where}: connection refused; is the broker running, and is the port right?")
        case TimeoutError() if "Operation" in str(error):
            return BrokerError(f"{where}: no MQTT {endpoint.version} broker answers there; is the port right?")
        case OSError() as cause:
            return BrokerError(f"{where}: unreachable ({cause.strerror or cause}); check host, port and firewall")
    return BrokerError(f"{where}: {error}")


def _refusal(error: aiomqtt.MqttCodeError, endpoint: Endpoint) -> str:
    # MQTT 3.1.1 has codes 4 and 5, MQTT 5 has 134 and 135, and paho translates the old ones into the new.
    code = getattr(error.rc, "value", error.rc)
    if code in (4, 5, 134, 135):
        who = f"user {endpoint.username!r}" if endpoint.username else "a client without user name"
        return (
            f"{endpoint.url}: not authorised as {who}; set MER_MQTT_USERNAME and MER_MQTT_PASSWORD, or ask for access"
        )
    return f"{endpoint.url}: the broker refused us ({error})"


def _keep_newest(overflow: Callable[[], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    """A queue that drops its oldest entry when it is full: to a slow reader the newest emotion matters most."""

    class KeepNewest(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            if self.full():
                self.get_nowait()
                overflow()
            super().put_nowait(item)

    return KeepNewest


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the password file can't be read ({error})") from error
