"""Sound and pictures to record, and what a replay of a recording gives."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mer_agent.streams.clock import VirtualClock
from mer_agent.streams.mailbox import Mailbox
from mer_agent.streams.replay import ReplaySource
from mer_agent.streams.types import AudioChunk, VideoFrame

CHUNK_NS = 32_000_000
_RANDOM = np.random.default_rng(3)


def chunk(sequence: int, start_ns: int, *, discontinuity: bool = False, source: str = "audio-0") -> AudioChunk:
    """32 ms of noise."""
    samples = _RANDOM.uniform(-1, 1, 512).astype(np.float32)
    return AudioChunk(samples, start_ns, sequence, discontinuity=discontinuity, source=source)


def gone(at_ns: int) -> AudioChunk:
    """What says that the microphone has gone."""
    return AudioChunk(np.zeros(0, np.float32), at_ns, -1, discontinuity=True)


def picture(sequence: int, captured_ns: int) -> VideoFrame:
    """A bar that grows with the number."""
    image = np.full((90, 122, 3), 40, np.uint8)
    image[:, : sequence * 3 % 122] = (200, 60, 20)
    return VideoFrame(image, captured_ns, sequence)


def replayed(folder: Path, rate_hz: float | None = 10.0) -> list[AudioChunk | VideoFrame]:
    """All that a replay gives."""

    async def play() -> list[AudioChunk | VideoFrame]:
        mailbox = Mailbox[AudioChunk | VideoFrame](100_000, "block")
        await ReplaySource(folder, clock=VirtualClock(), speed=math.inf, video_rate_hz=rate_hz).run(mailbox, mailbox)
        return [item async for item in mailbox]

    return asyncio.run(play())


def sound(items: Iterable[AudioChunk | VideoFrame], source: str = "audio-0") -> list[AudioChunk]:
    """The chunks of one microphone."""
    return [item for item in items if isinstance(item, AudioChunk) and item.source == source]
