"""What `bench latency` plays sound to, each in a process of its own: the agent, and its models without streaming.

Settings come on standard input. Lines of JSON go to standard output: `ready`, the results, `end`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from mer_agent.aligner import Aligner, FrameRing, with_words
from mer_agent.config.settings import Settings
from mer_agent.inference import ThreadInference
from mer_agent.loading import load
from mer_agent.run import replay
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.clock import RealClock
from mer_agent.streams.mailbox import Mailbox
from mer_agent.streams.replay import ReplaySource
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import NS_PER_S, AudioChunk, Segment
from mer_agent.terminal import report

SILENCE_MS = 500
"""How long the sequential pipeline waits before it begins."""


def tell(**line: object) -> None:
    """Writes a line."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def agent(settings: Settings, media: Path) -> None:
    """The agent; what it finds is delivered by its broker."""
    await replay(settings, media, real_time=True, ready=lambda: tell(ready=True))


async def sequential(settings: Settings, media: Path) -> None:
    """Waits for silence, then finds words, encodes and predicts, one after the other; sound is heard meanwhile."""
    inference = ThreadInference()
    models = await load(settings, inference)
    conversation = models.conversation(SpeakerTracker(settings.speakers))
    aligner = Aligner(FrameRing(settings.camera.rate_hz))
    rules = settings.segmenter.model_copy(update={"hangover_ms": SILENCE_MS, "least_hangover_ms": 0})
    cutter = SpeechCutter(models.vad.stream, rules)
    captured = Mailbox[AudioChunk](64, "block", "captured")
    waiting: asyncio.Queue[Segment | None] = asyncio.Queue()
    tell(ready=True)
    clock = RealClock()

    async def cut() -> None:
        async for chunk in captured:
            for segment in cutter.push(chunk):
                waiting.put_nowait(segment)
        for segment in cutter.finish():
            waiting.put_nowait(segment)
        waiting.put_nowait(None)

    async def judge() -> None:
        while (segment := await waiting.get()) is not None:
            transcript = await models.words.transcribe(segment)
            utterance = with_words(aligner.utterance(f"u{segment.start_ns}", segment), transcript)
            heard = await inference.run(conversation.hear, utterance)
            await inference.run(conversation.judge, utterance, heard)
            tell(end_s=segment.end_ns / NS_PER_S, delivered_s=clock.now_ns() / NS_PER_S)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ReplaySource(media, clock=clock).run(captured))
        tasks.create_task(cut())
        tasks.create_task(judge())
    models.close()
    inference.close()


PIPELINES: Mapping[str, Callable[[Settings, Path], Awaitable[None]]] = {"agent": agent, "sequential": sequential}


async def _run(name: str, media: Path) -> None:
    given = json.loads(sys.stdin.read())
    del given["words"]  # for programs that can't read settings
    await PIPELINES[name](Settings.model_validate(given), media)
    tell(end=True)


def _main() -> int:
    try:
        asyncio.run(_run(sys.argv[1], Path(sys.argv[2])))
    except Exception as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
