"""A source without a device: nothing is heard, since the conversation is written and comes as turns."""

from __future__ import annotations

import asyncio

from mer_agent.streams.mailbox import Sink
from mer_agent.streams.types import AudioChunk, VideoFrame


class Silence:
    """Captures nothing until `stop`."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    def stop(self) -> None:
        """Ends the stream."""
        self._over.set()

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        """Closes the mailboxes when it is stopped."""
        await self._over.wait()
        audio.close()
        if video is not None:
            video.close()
