"""An MQTT broker inside the agent, so that a first try needs nothing else: amqtt, MQTT 3.1.1, on loopback only.

It asks nobody who they are, so it never listens on another address. For anything beyond one machine use a real broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shlex
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from mer_agent.errors import BrokerError, ConfigError, MissingExtraError

try:
    from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
    from amqtt.broker import Broker
except ImportError as error:
    raise MissingExtraError("the embedded broker needs amqtt; run: pip install 'mer-agent[agent]'") from error

HOST = "127.0.0.1"
USUAL_PORT = 1883
STOP_S = 2.0
"""To hand out what waits, and again to close: beyond that the broker is dropped as it is."""

_LISTENER = "default"
_UNSUPPORTED = b"\x20\x03\x00\x84\x00"
"""MQTT 5's way to say that we don't speak it. amqtt 0.12.1 would misread the greeting and wait for the rest of it."""
_CONFIG = {
    # "External" means that we own the server socket: we can bind it ourselves, and close it ourselves.
    "listeners": {_LISTENER: {"type": "external"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


class _Broker(Broker):  # type: ignore[misc]
    """amqtt without its leak of retained messages."""

    async def _publish_retained_messages_for_subscription(self, subscription: tuple[str, int], session: Any) -> None:
        """Sends retained messages to a session for a filter that it subscribed to itself.

        amqtt 0.12.1 calls this for each new client with *everybody's* filters, so that a client gets retained
        messages that it never asked for (and loses its connection if somebody subscribes at the same moment).
        """
        holders = self._subscriptions.get(subscription[0], ())
        if any(holder.client_id == session.client_id for holder, _ in holders):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class _Begun(StreamReaderAdapter):  # type: ignore[misc]
    """A connection of which some bytes have been read already."""

    def __init__(self, begun: bytes, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._begun = begun

    async def read(self, n: int = -1) -> bytes:
        if not self._begun:
            return bytes(await super().read(n))
        part = self._begun if n == -1 else self._begun[:n]
        self._begun = self._begun[len(part) :]
        return part if n in (-1, len(part)) else part + await super().read(n - len(part))


class EmbeddedBroker:
    """`async with EmbeddedBroker() as broker:` runs a broker at `broker.url` until the block ends.

    Args:
        port: the port to listen on; None: 1883 if that is free, else any free one; 0: any free one.

    Raises:
        ConfigError: the port that was asked for is taken, or needs more rights.
        BrokerError: the broker doesn't start.
    """

    def __init__(self, port: int | None = None) -> None:
        self._wanted = port
        self.port = port or 0
        # amqtt writes payloads into its debug log, and tracebacks for every client that breaks off.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.WARNING)
        self._broker: _Broker
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        listener = _listen(self._wanted)
        self.port = listener.getsockname()[1]
        self._broker = _Broker(_CONFIG)
        try:
            await self._broker.start()
            self._server = await asyncio.start_server(self._serve, sock=listener)
        except Exception as error:
            listener.close()
            raise BrokerError(f"the embedded broker didn't start ({error}); give one with --mqtt URL") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._hand_out()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._broker.shutdown()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            # amqtt stumbles over clients that are gone before it has closed their connection.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                begun = await _greeting(reader)
                if begun[-1] == 5:
                    writer.write(_UNSUPPORTED)
                    await writer.drain()
                    return
                await self._broker.external_connected(_Begun(begun, reader), StreamWriterAdapter(writer), _LISTENER)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _hand_out(self) -> None:
        # The last messages of a session (the end, `offline`) are acknowledged before subscribers have them. From there
        # to the delivery it is a few steps of the event loop, and then a task for each subscriber.
        for _ in range(20):
            await asyncio.sleep(0)
        while pending := [task for task in self._broker._tasks_queue if not task.done()]:
            await asyncio.wait(pending)


async def _greeting(reader: asyncio.StreamReader) -> bytes:
    """The beginning of a connection, up to the byte that holds the version: length, `MQTT`, 4 or 5."""
    begun = await reader.readexactly(2)
    while begun[-1] & 0x80 and len(begun) < 5:  # a length of several bytes
        begun += await reader.readexactly(1)
    return begun + await reader.readexactly(7)


def subscribe_command(host: str, port: int, topics: Sequence[str]) -> str:
    """The whole command with which Mosquitto's own client listens to these topics, ready to be pasted."""
    wanted = " ".join(f"-t {shlex.quote(topic)}" for topic in topics)
    return f"mosquitto_sub -h {shlex.quote(host)} -p {port} -v -q 1 {wanted}"


def _listen(wanted: int | None) -> socket.socket:
    for port in (USUAL_PORT, 0) if wanted is None else (wanted,):
        try:
            return socket.create_server((HOST, port))
        except OSError as error:
            if wanted is None and port:
                continue
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"port {port} is taken; choose another with --mqtt-port, or leave it out") from error
            raise ConfigError(f"can't listen on port {port} ({error.strerror}); choose another one") from error
    raise AssertionError("the loop ends by returning or raising")
