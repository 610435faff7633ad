"""What an utterance is made of: its words and, meanwhile, the features of voice and face; in advance where it pays.

The silence that ends an utterance is first told as a short pause. Work on it begins then: if speech goes on, the work
is thrown away, and if it doesn't, the work was done while the end was still in doubt. A segment's sound no longer
changes after that pause, so what was found in advance is what would have been found later, to the bit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from mer_agent.aligner import with_words
from mer_agent.conversation import Conversation
from mer_agent.inference import Inference
from mer_agent.overlap import by_ear
from mer_agent.percept import Percept
from mer_agent.streams.types import Segment, Transcript, Utterance

T = TypeVar("T")


class Words(Protocol):
    """Finds the words of a segment (`streams.engines`)."""

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words; an empty transcript when there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """An utterance as it was cut, and the segment that it was made of."""

    segment: Segment
    utterance: Utterance
    ahead: asyncio.Task[Perceived] | None = None
    """What is being found out about it since its last pause."""


@dataclass(frozen=True, slots=True)
class Perceived:
    """An utterance whose words and voice are known, on its way to the fusion model."""

    utterance: Utterance
    percept: Percept
    late: asyncio.Task[tuple[Transcript, float]] | None = None
    """Words that were still missing when patience had run out."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    segment: Segment
    words: asyncio.Task[tuple[Transcript, float]]
    perceived: asyncio.Task[Perceived]

    def drop(self) -> None:
        self.perceived.cancel()
        self.words.cancel()


class Perception:
    """Finds out about utterances.

    Args:
        words: finds what was said.
        conversation: has the encoders.
        inference: where they run.
        ahead: whether `begin` begins anything: "idle" does unless other words are still being looked for, so that a
            machine which is behind wastes nothing; "always" does, for who depends on `words_ahead`.
        patience_s: an utterance goes on without words that take longer, None waits for ever.

    Attributes:
        used: how often what was begun at a pause was what was needed.
        wasted: how often it was thrown away.
    """

    def __init__(
        self,
        words: Words,
        conversation: Conversation,
        inference: Inference,
        *,
        ahead: Literal["never", "idle", "always"] = "never",
        patience_s: float | None = None,
    ) -> None:
        self._words = words
        self._conversation = conversation
        self._inference = inference
        self._in_advance = ahead
        self._transcribing = 0
        self._patience_s = patience_s
        self._ahead: dict[str, _Ahead] = {}  # source -> what is going on since its last pause
        self.used = self.wasted = 0

    def begin(self, cut: Cut, start: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]) -> None:
        """Begins to find out about an utterance that has paused, in tasks of `start`."""
        self.drop(cut.segment.source)
        if self._in_advance == "always" or (self._in_advance == "idle" and not self._transcribing):
            words = start(self._transcribe(cut))
            self._ahead[cut.segment.source] = _Ahead(cut.segment, words, start(self._perceive(cut, words)))

    def drop(self, source: str) -> tuple[Segment, Transcript] | None:
        """Throws away what was begun: speech has gone on. Gives the words up to the pause, if they were found."""
        ahead = self._ahead.pop(source, None)
        if ahead is None:
            return None
        self.wasted += 1
        found = (ahead.segment, ahead.words.result()[0]) if ahead.words.done() else None
        ahead.drop()
        return found

    async def words_ahead(self, source: str) -> Transcript | None:
        """The words up to the pause, as soon as they are there; None if nothing was begun, or it takes too long."""
        ahead = self._ahead.get(source)
        if ahead is None:
            return None
        done, _ = await asyncio.wait({ahead.words}, timeout=self._patience_s)
        return ahead.words.result()[0] if done else None

    def take(self, segment: Segment) -> asyncio.Task[Perceived] | None:
        """What was begun for exactly this segment, if anything was."""
        ahead = self._ahead.get(segment.source)
        if ahead is None:
            return None
        if not _same(ahead.segment, segment):
            self.drop(segment.source)
            return None
        del self._ahead[segment.source]
        self.used += 1
        return ahead.perceived

    async def perceive(self, cut: Cut, start: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]) -> Perceived:
        """What was begun for the utterance, else what is found now."""
        perceived = await (cut.ahead or self._perceive(cut, start(self._transcribe(cut))))
        if cut.ahead is None:
            return perceived
        # The pause, not the end, was known when this began.
        endpoint_ms = (cut.segment.declared_ns - cut.segment.end_ns) / 1e6
        utterance = replace(perceived.utterance, closed_by=cut.utterance.closed_by)
        if cut.utterance.overlap is not None:
            utterance = replace(utterance, overlap=cut.utterance.overlap)
        timings_ms = {**perceived.percept.timings_ms, "endpoint": endpoint_ms}
        return Perceived(utterance, replace(perceived.percept, timings_ms=timings_ms), perceived.late)

    async def _transcribe(self, cut: Cut) -> tuple[Transcript, float]:
        self._transcribing += 1
        try:
            return await _timed(self._words.transcribe(cut.segment))
        finally:
            self._transcribing -= 1

    async def _perceive(self, cut: Cut, words: asyncio.Task[tuple[Transcript, float]]) -> Perceived:
        percept = await self._inference.run(self._conversation.hear, cut.utterance)
        utterance = by_ear(cut.utterance, percept.features)
        endpoint_ms = (cut.segment.declared_ns - cut.segment.end_ns) / 1e6
        done, _ = await asyncio.wait({words}, timeout=self._patience_s)
        if not done:
            return Perceived(utterance, percept.after(endpoint=endpoint_ms), words)
        transcript, words_ms = words.result()
        utterance = with_words(utterance, transcript)
        percept = percept.after(endpoint=endpoint_ms, words=words_ms)
        if self._in_advance != "never":
            percept = await self._inference.run(self._conversation.read, utterance, percept)
        return Perceived(utterance, percept)


def _same(one: Segment, other: Segment) -> bool:
    return (one.start_ns, one.end_ns, one.audio_start_ns) == (
        other.start_ns,
        other.end_ns,
        other.audio_start_ns,
    ) and np.array_equal(one.audio, other.audio)


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    """What `work` gives, and how many milliseconds it took."""
    begun = time.perf_counter()
    return await work, (time.perf_counter() - begun) * 1000
