"""A wire between a client and a broker that can be cut without either side being told (half-open)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Forwards a port of loopback to another; `up` and `down` say whether bytes to and from the broker get through."""

    def __init__(self, target_port: int) -> None:
        self.up = True
        self.down = True
        self.port = 0
        self._target_port = target_port
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            # A cut wire tells neither side that the other has gone, so either end alone is enough to stop.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                async with asyncio.TaskGroup() as directions:
                    directions.create_task(self._copy(reader, broker_writer, "up"))
                    directions.create_task(self._copy(broker_reader, writer, "down"))
        except BaseExceptionGroup:
            pass
        finally:
            self._connections.discard(task)
            for end in (writer, broker_writer):
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        while data := await reader.read(4096):
            if getattr(self, direction):
                writer.write(data)
                await writer.drain()
        raise ConnectionResetError
