"""Parts of the agent that know the truth: each takes the place of one that has to find it out.

With them the agent runs as it does live, but for one stage or several, so that what a stage costs can be told. The
others remember what they found in a recording: run again beside another stage, they need not find it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mer_agent.encoders.base import Encoder, hears_recogniser, languages
from mer_agent.judging.truth import Truth
from mer_agent.perception import Words
from mer_agent.segmenter import Cutter, Speech
from mer_agent.streams.types import (
    NS_PER_S,
    SAMPLE_RATE_HZ,
    AudioChunk,
    Segment,
    Transcript,
    Turn,
    Utterance,
    VideoFrame,
    Word,
)

if TYPE_CHECKING:
    from torch import Tensor

Span = tuple[int, int]
"""Begin and end of an utterance, in nanoseconds."""


class GivenCuts:
    """Cuts the sound where the truth says, in place of a segmenter; utterances may overlap.

    Args:
        truth: the utterances, in order of their ends.
        padding_ms: sound that is kept before and after each.
    """

    def __init__(self, truth: Sequence[Truth], padding_ms: int) -> None:
        self._left = list(truth)
        self._padding_ns = padding_ms * 1_000_000
        self._chunks: list[AudioChunk] = []

    def follow(self, chunk: AudioChunk) -> Iterator[Speech]:
        """Gives the utterances whose sound is complete, padding included."""
        if len(chunk.samples):
            self._chunks.append(chunk)
        while self._left and self._left[0].until_ns + self._padding_ns <= chunk.end_ns:
            yield Speech("closed", self._segment(self._left.pop(0)))
        if self._left:
            needed_ns = min(one.start_ns for one in self._left) - self._padding_ns
            self._chunks = [kept for kept in self._chunks if kept.end_ns > needed_ns]

    def over(self, source: str) -> None:
        """Nothing ends sooner than it does."""

    def finish(self) -> list[Segment]:
        """Gives the rest; what would begin after the end of the sound is left out."""
        end_ns = self._chunks[-1].end_ns if self._chunks else 0
        rest = [self._segment(one) for one in self._left if one.start_ns < end_ns]
        self._left = []
        return rest

    def _segment(self, truth: Truth) -> Segment:
        samples = np.concatenate([chunk.samples for chunk in self._chunks])
        begun_ns = self._chunks[0].start_ns
        first, last = (
            int(np.clip((at_ns - begun_ns) * SAMPLE_RATE_HZ // NS_PER_S, 0, len(samples)))
            for at_ns in (truth.start_ns - self._padding_ns, truth.until_ns + self._padding_ns)
        )
        return Segment(
            start_ns=truth.start_ns,
            end_ns=truth.until_ns,
            audio=samples[first:last],
            audio_start_ns=begun_ns + first * NS_PER_S // SAMPLE_RATE_HZ,
            closed_by="pause",
            declared_ns=truth.until_ns + self._padding_ns,
            source=self._chunks[0].source,
        )


class Seated:
    """Gives each segment the source that is its true speaker's, as if everybody had a microphone of his own.

    Args:
        cutter: what cuts.
        truth: who speaks when.
    """

    def __init__(self, cutter: Cutter, truth: Sequence[Truth]) -> None:
        self._cutter, self._truth = cutter, truth

    def follow(self, chunk: AudioChunk) -> Iterator[Speech]:
        """Gives the closed utterances alone: it takes a whole one to say whose it mostly is."""
        for speech in self._cutter.follow(chunk):
            if speech.stage == "closed":
                yield Speech("closed", self._seated(speech.segment))

    def over(self, source: str) -> None:
        """Nobody asks, since no pause is told."""

    def finish(self) -> list[Segment]:
        """Gives the utterances that were still open."""
        return [self._seated(segment) for segment in self._cutter.finish()]

    def _seated(self, segment: Segment) -> Segment:
        span = segment.start_ns, segment.end_ns
        most = max(self._truth, key=lambda one: overlap_ns(span, (one.start_ns, one.until_ns)))
        if not overlap_ns(span, (most.start_ns, most.until_ns)) or most.speaker is None:
            return segment
        return replace(segment, source=most.speaker)


class GivenWords:
    """Knows what was said: the words whose middle lies in a segment.

    Args:
        truth: the utterances.
        recogniser: is asked all the same, for what it hears beside the words.
    """

    def __init__(self, truth: Sequence[Truth], recogniser: Words | None = None) -> None:
        self._words = [(one, word) for one in truth for word in one.timed()]
        self._recogniser = recogniser

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words of a segment; where it is a true utterance, those of that utterance alone."""
        said = [(one, w) for one, w in self._words if segment.start_ns <= (w.start_ns + w.end_ns) // 2 < segment.end_ns]
        own = [(one, w) for one, w in said if (one.start_ns, one.until_ns) == (segment.start_ns, segment.end_ns)]
        words: tuple[Word, ...] = tuple(word for _, word in own or said)
        heard = None if self._recogniser is None else await self._recogniser.transcribe(segment)
        known = {one.language for one, _ in own or said}
        return Transcript(
            " ".join(word.text for word in words),
            words,
            language=known.pop() if len(known) == 1 else None,
            hearing=heard.hearing if heard else None,
        )


class RememberedWords:
    """A recogniser that is asked once for each segment of a recording."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._found: dict[tuple[int, int, int], Transcript] = {}

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words of a segment."""
        key = segment.start_ns, segment.end_ns, len(segment.audio)
        if key not in self._found:
            self._found[key] = await self._words.transcribe(segment)
        return self._found[key]


class RememberedFaces:
    """Looks for faces once in each picture of a recording."""

    def __init__(self, look: Callable[[VideoFrame], VideoFrame]) -> None:
        self._look = look
        self._found: dict[tuple[str, int], VideoFrame] = {}

    def see(self, frame: VideoFrame) -> VideoFrame:
        """Gives the frame with its faces."""
        key = frame.source, frame.captured_ns
        if key not in self._found:
            self._found[key] = self._look(frame)
        return self._found[key]


class RememberedEncoder:
    """An encoder that is asked once for each stretch of a recording, or for the same words after the same turns.

    Args:
        encoder: what makes the feature.
        given: stretches whose feature is known already.
    """

    def __init__(self, encoder: Encoder, given: Mapping[Span, Tensor | None] | None = None) -> None:
        self.feature, self.modality, self.dimension = encoder.feature, encoder.modality, encoder.dimension
        self.hears_recogniser = hears_recogniser(encoder)
        self.languages = languages(encoder)
        self._encoder = encoder
        self._given = dict(given or {})
        self._found: dict[object, Tensor | None] = {}

    def knowing(self, given: Mapping[Span, Tensor | None]) -> RememberedEncoder:
        """Gives the same encoder, with the same memory, for which these stretches are known."""
        knows = RememberedEncoder(self._encoder, given)
        knows._found = self._found
        return knows

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives the feature of each utterance."""
        rows = []
        for at, one in enumerate(utterances):
            past = tuple(past_turns[at]) if past_turns else ()
            span = one.start_ns, one.end_ns
            if self.modality != "text" and span in self._given:
                rows.append(self._given[span])
                continue
            heard = 0 if one.audio is None else len(one.audio)
            key = (one.speaker, one.text, past) if self.modality == "text" else (*span, heard, one.hearing is None)
            if key not in self._found:
                (self._found[key],) = self._encoder.encode([one], [past])
            rows.append(self._found[key])
        return rows


def overlap_ns(one: Span, other: Span) -> int:
    """Gives for how long both last."""
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))
