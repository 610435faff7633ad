"""One connection to an MQTT broker: how it is opened, what travels on it, and what to say when that fails.

Publisher and client know nothing of aiomqtt: they see a `Connection` (`mer_agent.wire.connection`) and one error,
`BrokerError`, whose message is a line for the user.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mer_agent.errors import BrokerError, RefusedError
from mer_agent.wire.connection import Connection, Delivery, Details, Will
from mer_agent.wire.endpoint import Endpoint

T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_S = 3.0
"""To reach the broker's machine. The thread that tries can't be stopped, so this also bounds our shutdown."""
ANSWER_S = 4.0
"""For the broker's first answer, and for saying goodbye."""
ACK_S = 5.0
"""For the acknowledgement of a message: beyond that the connection is taken for half-open, and given up."""
GRACE_S = 0.5
"""For an answer that is under way when somebody is cancelled."""
KEEPALIVE_S = 15
"""A silent connection is probed this often; after 1.5 times this the broker sends our last will."""
INBOX = 1000
"""Messages that wait for a slow reader; then the oldest goes."""

_VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}
_FOR_EVER_S = 0xFFFFFFFF
_HUNG_UP = "hung up"


@contextlib.asynccontextmanager
async def connect(
    endpoint: Endpoint, *, will: Will | None = None, overflow: Callable[[], None] | None = None
) -> AsyncIterator[Connection]:
    """Opens a connection to a real broker; see `Connect`.

    Raises:
        BrokerError: refused, unreachable, not authorised, or no broker at all.
        ConfigError: a certificate can't be read.
    """
    client = await _opened(endpoint, will, overflow or (lambda: None))
    try:
        yield _Connection(client, endpoint)
    finally:
        try:
            await client.__aexit__(None, None, None)
        except aiomqtt.MqttError:
            _abandon(client)
        _read_future(client._disconnected)


async def _opened(endpoint: Endpoint, will: Will | None, overflow: Callable[[], None]) -> _Client:
    """A client that is connected, by MQTT 5 if the endpoint leaves it to us and the broker speaks it."""
    if endpoint.version == "auto":
        with contextlib.suppress(_UnsupportedError):
            return await _opened(replace(endpoint, version="5"), will, overflow)
        endpoint = replace(endpoint, version="3.1.1")
    five = endpoint.version == "5"
    client = _Client(
        endpoint.host,
        endpoint.port,
        username=endpoint.username or None,
        password=endpoint.password or None,
        logger=log,
        identifier=endpoint.client_id or None,
        protocol=_VERSIONS[endpoint.version],
        # What stays at the broker while we are away: two versions, two ways to say it.
        clean_session=None if five else not endpoint.keep_s,
        clean_start=not endpoint.keep_s if five else MQTT_CLEAN_START_FIRST_ONLY,
        properties=_session_properties(endpoint) if five else None,
        will=_will(will, five=five) if will else None,
        timeout=ANSWER_S,
        keepalive=KEEPALIVE_S,
        queue_type=_keep_newest(overflow),
        max_queued_incoming_messages=INBOX,
        tls_context=endpoint.tls_context(),
        # An utterance is one small packet: it must not wait for a second one.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    client._client.connect_timeout = CONNECT_S  # aiomqtt has no setting for it
    await _open(client, endpoint)
    return client


class _UnsupportedError(BrokerError):
    """The broker doesn't speak this version of MQTT."""


class _Client(aiomqtt.Client):
    """aiomqtt, except for four things.

    It no longer waits to write to a socket that is closed. aiomqtt 2.5 asks the event loop for that a moment too late:
    when the broker dies in between, the loop logs a traceback, or watches somebody else's socket that got the same
    number. It doesn't ask whether a socket can be written to before it tries. It notices when the broker hangs up
    instead of greeting us, and when it acknowledges a message only in order to refuse it.
    """

    refusals = 0
    """How many messages the broker has refused."""

    def __init__(self, *where: Any, **options: Any) -> None:
        super().__init__(*where, **options)
        self._thread = threading.get_ident()

    def _on_disconnect(self, *what: Any) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(_HUNG_UP))
        super()._on_disconnect(*what)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        self.refusals += getattr(reason_code, "value", 0) >= 0x80
        super()._on_publish(client, userdata, mid, reason_code, properties)

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

        def write_now() -> None:
            write()
            if client.want_write():  # the kernel takes no more
                register()

        # While it connects, paho calls from a thread. Later a message can go out at once, which spares the event loop
        # a round and the kernel four calls for each; but not from within paho's own calls of us.
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(register)
        elif client._in_callback_mutex.locked():
            self._loop.call_soon(write_now)
        else:
            write_now()


class _Connection:
    """`Connection` over aiomqtt."""

    def __init__(self, client: _Client, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    async def publish(
        self,
        topic: str,
        payload: str,
        *,
        qos: int,
        retain: bool = False,
        details: Details = Details(),  # noqa: B008 - frozen
    ) -> None:
        # Of two messages at a time the wrong one could be blamed; the publisher sends one at a time.
        refused = self._client.refusals
        properties = publish_properties(details) if self._five else None
        with self._explained():
            await self._client.publish(topic, payload, qos, retain, properties, timeout=ACK_S)
        if self._client.refusals > refused:
            who = f"user {self._endpoint.username!r}" if self._endpoint.username else "a client without user name"
            raise RefusedError(f"the broker at {self._endpoint.url} doesn't let {who} write to {topic}; check its ACL")

    async def subscribe(self, *filters: str) -> None:
        with self._explained():
            for pattern in filters:
                (granted,) = await _whole(self._client.subscribe(pattern, qos=1))
                if getattr(granted, "value", granted) >= 0x80:
                    raise RefusedError(
                        f"the broker at {self._endpoint.url} doesn't let us read {pattern}; check its ACL"
                    )

    async def deliveries(self) -> AsyncIterator[Delivery]:
        with self._explained():
            async for message in self._client.messages:
                details = _details(message.properties) if message.properties else Details()
                yield Delivery(message.topic.value, bytes(message.payload), bool(message.retain), details)

    @property
    def _five(self) -> bool:
        return self._client._client.protocol == _VERSIONS["5"].value

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except aiomqtt.MqttError as error:
            raise BrokerError(f"lost the broker at {self._endpoint.url} ({error})") from error


async def _whole(subscribing: Coroutine[Any, Any, T]) -> T:
    """Awaits a subscription to its end, even when cancelled: aiomqtt fails loudly on an answer nobody waits for."""
    task = asyncio.create_task(subscribing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            await asyncio.wait_for(task, GRACE_S)
        raise


def publish_properties(details: Details, packet: int = PacketTypes.PUBLISH) -> Any:
    """Gives what paho takes for the properties of an MQTT 5 message."""
    properties: Any = Properties(packet)  # type: ignore[no-untyped-call]
    if details.content_type:
        properties.ContentType = details.content_type
    if details.expiry_s is not None:
        properties.MessageExpiryInterval = details.expiry_s
    if details.user:
        properties.UserProperty = list(details.user)
    if details.response_topic:
        properties.ResponseTopic = details.response_topic
    if details.correlation:
        properties.CorrelationData = details.correlation
    return properties


def _details(properties: Any) -> Details:
    there = vars(properties)  # paho's own look-up searches all names of the standard for each
    return Details(
        there.get("ContentType", ""),
        there.get("MessageExpiryInterval"),
        tuple(there.get("UserProperty", ())),
        there.get("ResponseTopic", ""),
        there.get("CorrelationData", b""),
    )


def _session_properties(endpoint: Endpoint) -> Any:
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = min(endpoint.keep_s, _FOR_EVER_S)
    return properties


def _will(will: Will, *, five: bool) -> aiomqtt.Will:
    properties = publish_properties(will.details, PacketTypes.WILLMESSAGE) if five else None
    return aiomqtt.Will(will.topic, will.payload, qos=1, retain=True, properties=properties)


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
    _read_future(client._connected)
    _read_future(client._disconnected)


def _read_future(future: asyncio.Future[None]) -> None:
    if future.done() and not future.cancelled():
        future.exception()  # otherwise asyncio complains that nobody looked


def _explain(error: aiomqtt.MqttError, endpoint: Endpoint) -> BrokerError:
    """One line that says what is wrong and what to do about it."""
    where = endpoint.url
    if isinstance(error, aiomqtt.MqttCodeError):
        return _refusal(error, endpoint)
    if str(error) == _HUNG_UP:
        return _unsupported(endpoint)(f"{where}: no MQTT {endpoint.version} broker answers there; is the port right?")
    # aiomqtt keeps the text of the original error only, but Python keeps the error itself.
    match error.__context__:
        case ssl.SSLCertVerificationError() as cause:
            return BrokerError(f"{where}: its certificate isn't good ({cause.verify_message}); check mqtt.ca_file")
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


def _refusal(error: aiomqtt.MqttCodeError, endpoint: Endpoint) -> BrokerError:
    # MQTT 3.1.1 has codes 4 and 5, MQTT 5 has 134 and 135, and paho translates the old ones into the new.
    code = getattr(error.rc, "value", error.rc)
    if code in (4, 5, 134, 135):
        who = f"user {endpoint.username!r}" if endpoint.username else "a client without user name"
        return BrokerError(
            f"{endpoint.url}: not authorised as {who}; set MER_MQTT_USERNAME and MER_MQTT_PASSWORD, or ask for access"
        )
    return _unsupported(endpoint)(f"{endpoint.url}: the broker refused us ({error})")


def _unsupported(endpoint: Endpoint) -> type[BrokerError]:
    # A broker without MQTT 5 may say so (132), or hang up on a greeting that it doesn't understand.
    return _UnsupportedError if endpoint.version == "5" else BrokerError


def _keep_newest(overflow: Callable[[], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    """A queue that drops its oldest entry when it is full: to a slow reader the newest emotion matters most."""

    class KeepNewest(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            if self.full():
                self.get_nowait()
                overflow()
            super().put_nowait(item)

    return KeepNewest
