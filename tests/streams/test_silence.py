from __future__ import annotations

import asyncio

from mer_agent.streams.mailbox import Mailbox
from mer_agent.streams.silence import Silence
from mer_agent.streams.types import AudioChunk, VideoFrame


async def test_it_captures_nothing_and_ends_when_it_is_stopped() -> None:
    source, audio, video = Silence(), Mailbox[AudioChunk](1, "block"), Mailbox[VideoFrame](1, "block")
    running = asyncio.create_task(source.run(audio, video))
    await asyncio.sleep(0.01)
    assert not running.done()
    source.stop()
    await running
    assert [chunk async for chunk in audio] == []
    assert [frame async for frame in video] == []
