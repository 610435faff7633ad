"""Microphones and cameras of this moment as one source of sound and pictures.

    device (a thread) -> its own mailbox -> the agent's mailbox

A microphone's mailbox holds two seconds and drops the oldest, so that a slow agent hears gaps and not the past; a
camera's keeps the latest picture only. The devices are kept going one by one (`supervise`): what happens to one doesn't
stop the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer_agent.errors import DeviceError
from mer_agent.streams.clock import SessionClock
from mer_agent.streams.mailbox import Mailbox, MailboxClosedError, Sink
from mer_agent.streams.supervise import Blocking, Device, State, Supervisor, on_daemon_thread
from mer_agent.streams.types import AudioChunk, VideoFrame

HEARD = 64
"""Chunks that may wait for the agent: two seconds."""
_NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class _Line:
    """A device, who keeps it going, and where its chunks or pictures wait."""

    supervisor: Supervisor[Any]
    mailbox: Mailbox[Any]


class LiveSource:
    """The devices of a session.

    Args:
        microphones: what is heard; may be none.
        cameras: what is seen; may be none.
        clock: session time.
        report: takes a source and its state whenever that changes.
        blocking: runs the devices' calls.
    """

    def __init__(
        self,
        microphones: Sequence[Device[AudioChunk]],
        cameras: Sequence[Device[VideoFrame]],
        clock: SessionClock,
        report: Callable[[str, State], None],
        blocking: Blocking = on_daemon_thread,
    ) -> None:
        def line(device: Device[Any], mailbox: Mailbox[Any]) -> _Line:
            def deliver(item: Any) -> None:
                with contextlib.suppress(MailboxClosedError):  # it was on its way when we stopped
                    mailbox.put_nowait(item)

            def tell(source: str, state: State) -> None:
                report(source, state)
                if device in microphones and state in ("lost", "stalled"):
                    # Nobody should wait for the rest of a sentence until the microphone is back.
                    deliver(AudioChunk(_NOTHING, clock.now_ns(), -1, discontinuity=True, source=source))

            return _Line(Supervisor(device, deliver, tell, clock, blocking), mailbox)

        self._hearing = [line(one, Mailbox(HEARD, "drop_oldest", one.source)) for one in microphones]
        self._seeing = [line(one, Mailbox(1, "latest", one.source)) for one in cameras]

    @property
    def lost(self) -> int:
        """Chunks of sound that were dropped so far because the agent was too slow."""
        return sum(line.mailbox.lost for line in self._hearing)

    def stop(self) -> None:
        """Hears and sees no more; what was captured is still handed over, then `run` returns."""
        for line in (*self._hearing, *self._seeing):
            line.mailbox.close()

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        """Runs until `stop`, until all devices have ended, or until somebody closes a mailbox; then closes both.

        Without `video` pictures are thrown away; the cameras are watched all the same.

        Raises:
            DeviceError: no device at all could be opened. Later the agent waits for them to come back.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for line in self._hearing:
                    tasks.create_task(_run(line, audio), name=line.mailbox.name)
                for line in self._seeing:
                    tasks.create_task(_run(line, video), name=line.mailbox.name)
                await self._first_tries()
        except* DeviceError as group:
            raise group.exceptions[0] from None
        finally:
            audio.close()
            if video is not None:
                video.close()

    async def _first_tries(self) -> None:
        lines = (*self._hearing, *self._seeing)
        for line in lines:
            await line.supervisor.tried.wait()
        errors = [line.supervisor.first_error for line in lines]
        if errors and None not in errors:
            raise DeviceError("; ".join(str(error) for error in errors))


async def _run(line: _Line, sink: Sink[Any] | None) -> None:
    """Keeps one device going and hands over what it gives, until its mailbox or the sink is closed."""

    async def supervise() -> None:
        await line.supervisor.run()
        line.mailbox.close()

    async with asyncio.TaskGroup() as both:
        supervising = both.create_task(supervise(), name=f"{line.mailbox.name} supervisor")
        with contextlib.suppress(MailboxClosedError):
            async for item in line.mailbox:
                if sink is not None:
                    await sink.put(item)
        supervising.cancel()
