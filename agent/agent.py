"""The agent: sound and pictures -> segments -> utterances -> predictions, as stages of one TaskGroup.

    source --chunks, frames--> cut --utterances--> understand --percepts--> judge --predictions--> publish

Every arrow but the last is a bounded mailbox. Each stage closes the mailbox behind it when it ends, so the end of the
stream runs through the stages, and each drains before the next one ends. A bug in any stage ends them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mer_agent.aligner import Aligner, with_words
from mer_agent.conversation import Conversation, Percept
from mer_agent.inference import Inference
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.mailbox import Mailbox, Sink
from mer_agent.streams.types import AudioChunk, Prediction, Segment, Transcript, Utterance, VideoFrame

T = TypeVar("T")

CAPTURED = 64
"""How many chunks and frames may wait: two seconds of sound."""
UTTERANCES = 8
"""How many utterances may wait between two stages."""


class Source(Protocol):
    """Fills mailboxes with what it captures, and closes them at its end (`streams.replay`)."""

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        """Runs until the stream ends, or until somebody closes a mailbox."""
        ...


class Words(Protocol):
    """Finds the words of a segment (`streams.transcriber`)."""

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words; an empty transcript when there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """An utterance that has just been cut, and the segment that it was made of."""

    segment: Segment
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Perceived:
    """An utterance whose words and voice are known, on its way to the fusion model."""

    utterance: Utterance
    percept: Percept


class Agent:
    """Hears a source and publishes what it finds: the whole path from sound to emotion.

    Args:
        source: what is heard and, where an encoder reads pictures, seen.
        cutter: cuts the sound into segments of speech.
        aligner: makes an utterance of a segment, with the pictures taken while it was spoken.
        words: finds what was said.
        conversation: everything that the session remembers, and the models that judge.
        inference: where the encoders and the fusion model run.
        publish: takes each prediction, in the order in which the utterances ended.
        look: finds the faces in a picture when it arrives; without it, whole pictures are kept until they are encoded.
    """

    def __init__(
        self,
        source: Source,
        cutter: SpeechCutter,
        aligner: Aligner,
        words: Words,
        conversation: Conversation,
        inference: Inference,
        publish: Callable[[Prediction], Awaitable[None]],
        look: Callable[[VideoFrame], Awaitable[VideoFrame]] | None = None,
    ) -> None:
        self._source = source
        self._cutter = cutter
        self._aligner = aligner
        self._words = words
        self._conversation = conversation
        self._inference = inference
        self._publish = publish
        self._look = look
        self._captured = Mailbox[AudioChunk | VideoFrame](CAPTURED, "block", "captured")

    def stop(self) -> None:
        """Hears no more; what was heard already is still judged and published, then `run` returns."""
        self._captured.close()

    async def run(self) -> None:
        """Runs until the source has ended and the last prediction is handed over."""
        cuts = Mailbox[Cut](UTTERANCES, "block", "utterances")
        percepts = Mailbox[Perceived](UTTERANCES, "block", "percepts")
        # One mailbox for sound and pictures keeps them in order of capture, at any speed.
        frames = self._captured if self._conversation.sees else None
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self._source.run(self._captured, frames), name="source")
            stages.create_task(self._cut(cuts), name="cut")
            stages.create_task(self._understand(cuts, percepts), name="understand")
            stages.create_task(self._judge(percepts), name="judge")

    async def _cut(self, cuts: Mailbox[Cut]) -> None:
        """Cuts utterances out of the sound and joins them with the pictures."""
        numbers = iter(range(1, 2**63))

        def cut(segments: Iterable[Segment]) -> list[Cut]:
            return [Cut(segment, self._aligner.utterance(f"u{next(numbers):06d}", segment)) for segment in segments]

        async for captured in self._captured:
            if isinstance(captured, VideoFrame):
                if self._aligner.wants(captured):
                    self._aligner.see(await self._look(captured) if self._look else captured)
                continue
            for utterance in cut(self._cutter.push(captured)):
                await cuts.put(utterance)
        for utterance in cut(self._cutter.finish()):
            await cuts.put(utterance)
        cuts.close()

    async def _understand(self, cuts: Mailbox[Cut], percepts: Mailbox[Perceived]) -> None:
        """Finds the words and, meanwhile, encodes voice and face."""
        async for cut in cuts:
            async with asyncio.TaskGroup() as both:
                transcribing = both.create_task(_timed(self._words.transcribe(cut.segment)))
                hearing = both.create_task(self._inference.run(self._conversation.hear, cut.utterance))
            transcript, words_ms = transcribing.result()
            percept = hearing.result().after(
                endpoint=(cut.segment.declared_ns - cut.segment.end_ns) / 1e6,
                words=words_ms,
            )
            await percepts.put(Perceived(with_words(cut.utterance, transcript), percept))
        percepts.close()

    async def _judge(self, percepts: Mailbox[Perceived]) -> None:
        """Grows the graph by one node for each utterance and hands its prediction over."""
        async for perceived in percepts:
            judging = self._inference.run(self._conversation.judge, perceived.utterance, perceived.percept)
            await self._publish(await judging)


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    """What `work` gives, and how many milliseconds it took."""
    begun = time.perf_counter()
    return await work, (time.perf_counter() - begun) * 1000
