"""Where an utterance is cut: a pure state machine from speech probabilities to segments.

    silence --(voiced for onset_ms)--> speech --(unvoiced for hangover_ms)--> silence, and a Segment is given

A frame is voiced when its probability reaches `threshold`, or `exit_threshold` while the frame before was voiced
(hysteresis, so that a soft syllable doesn't end a word), and unless it is much softer than what was said of late
(`foreground`). Speech that grows longer than `longest_ms` is cut where speech was least likely in its last third. A
segment's sound gets up to `padding_ms` around the speech, but no sample is ever in two segments; up to 40 ms less at
either end, so that the same words give the same sound when they are heard again (`_laid_by_itself`). Times are rounded
up to whole frames, `longest_ms` down. No asyncio, no model and no clock in here: the same frames always give the same
segments.

While an utterance is open there is news of it: it has begun, it goes on, it pauses, it is resumed. A pause is told
when its silence fills the padding and has lasted `pause_ms`. The segment's sound can't change any more then unless
speech goes on, so whatever is computed of it in advance is exactly what will be needed. With `least_hangover_ms` it is
told as soon as the padding is full: whoever knows by then that the sentence is plainly over says so (`over`), and the
silence need last no longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from mer_agent.config.settings import SegmenterSettings
from mer_agent.foreground import Foreground
from mer_agent.streams.transcriber import out_of_step
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk, ClosedBy, Segment
from mer_agent.streams.vad import HOP_SAMPLES, Reblocker, VadStream

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEAR_MS = 64
"""Time on either side that says with a frame how likely speech is there: one quiet frame is a consonant, more a gap."""

_STEP = SAMPLE_RATE_HZ // 25
"""40 ms, in which frames of 10 and of 20 ms fit."""

Stage = Literal["begun", "open", "paused", "resumed", "closed"]
"""What became of an utterance: every one that will be closed has begun first, and keeps its `start_ns`."""


@dataclass(frozen=True, slots=True)
class Speech:
    """News of an utterance, with all of it that was heard so far; only `closed` is its end."""

    stage: Stage
    segment: Segment


@dataclass(frozen=True, slots=True)
class _Heard:
    """One frame that is still needed."""

    samples: NDArray[np.float32]
    start_ns: int
    probability: float
    voiced: bool

    @property
    def end_ns(self) -> int:
        return self.start_ns + len(self.samples) * NS_PER_S // SAMPLE_RATE_HZ


class Segmenter:
    """Cuts one stream of sound into utterances, frame by frame; its memory is bounded by `longest_ms`.

    Args:
        settings: when speech begins and ends.
        source: where the sound comes from.
        frame_samples: how long a frame is, in samples.
        late_samples: how long after a sound the detector says so.
    """

    def __init__(
        self,
        settings: SegmenterSettings | None = None,
        source: str = "audio-0",
        frame_samples: int = HOP_SAMPLES,
        late_samples: int = 0,
    ) -> None:
        def frames(ms: int) -> int:
            return -(-ms * SAMPLE_RATE_HZ // (1000 * frame_samples))

        self.settings = settings = settings or SegmenterSettings()
        self.source = source
        self._frame_s = frame_samples / SAMPLE_RATE_HZ
        self._late = late_samples // frame_samples
        self._onset = max(1, frames(settings.onset_ms))
        self._hangover = max(1, frames(settings.hangover_ms))
        self._padding = frames(settings.padding_ms)
        self._least = max(1, frames(settings.min_speech_ms))
        self._longest = settings.longest_ms * SAMPLE_RATE_HZ // (1000 * frame_samples)
        self._least_hangover = max(1, frames(settings.least_hangover_ms)) if settings.least_hangover_ms else None
        patience = 0 if settings.least_hangover_ms else frames(settings.pause_ms)
        self._pause = max(1, self._padding - self._late, patience)
        self._every = frames(settings.news_ms)
        self._near = frames(_NEAR_MS)
        self._foreground = Foreground()
        self._heard: list[_Heard] = []  # frames that are in no segment yet and may still get into one
        self._first: int | None = None  # index in `_heard` of the first frame of the utterance, None in silence
        self._last = 0  # index of its last voiced frame
        self._continues = False  # the utterance goes on from one that was cut for its length
        self._begun = self._paused = self._over = False
        self._told = 0  # how many frames the utterance had when it was last told to be open

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._first is not None

    def over(self) -> None:
        """Says that the pause which was just told is the end of a sentence, so that less silence will do."""
        self._over = self._paused

    def news(self) -> Speech | None:
        """What the last frame changed about the open utterance; to be asked once after each frame."""
        if self._first is None:
            return None
        first, quiet = self._first, len(self._heard) - 1 - self._last
        length = self._last - first + 1
        stage: Stage | None = None
        if not self._begun:
            if self._continues or sum(frame.voiced for frame in self._heard[first:]) >= self._least:
                self._begun, self._told, stage = True, 0, "begun"
        elif quiet == 0 and self._paused:
            self._paused, self._over, stage = False, False, "resumed"
        elif quiet == self._pause:
            self._paused, stage = True, "paused"
        elif quiet == 0 and self._every and length - self._told >= self._every:
            self._told, stage = length, "open"
        if stage is None:
            return None
        return Speech(stage, self._segment(first, *self._ends(first), "pause"))

    def push(
        self, probability: float, samples: NDArray[np.float32], start_ns: int, discontinuity: bool = False
    ) -> list[Segment]:
        """Takes one frame and gives the utterances that it completes: mostly none.

        Args:
            probability: how likely the frame is speech, 0..1.
            samples: float32 [n], a whole frame except where the stream breaks or ends.
            start_ns: capture time of the first sample.
            discontinuity: the frame doesn't follow on from the last one, so an open utterance ends there.
        """
        segments = self.finish() if discontinuity else []
        near = self._foreground.holds(probability, samples, self._frame_s)
        floor = self.settings.exit_threshold if self._heard and self._heard[-1].voiced else self.settings.threshold
        self._heard.append(_Heard(samples, start_ns, probability, near and probability >= floor))
        if self._first is None:
            self._listen()
        if self._first is not None:
            segments += self._follow(self._first)
        return segments

    def finish(self) -> list[Segment]:
        """Ends the stream, or this unbroken part of it; gives the utterance that was open, if it is long enough."""
        segments = [] if self._first is None else self._close(self._first, "end")
        self._heard.clear()
        return segments

    def _listen(self) -> None:
        """In silence: begins an utterance once enough voiced frames follow each other, else forgets old frames."""
        run = 0
        while run < len(self._heard) and self._heard[-1 - run].voiced:
            run += 1
        if run >= self._onset:
            self._first = len(self._heard) - run
        else:
            del self._heard[: max(0, len(self._heard) - run - self._padding - self._late)]

    def _follow(self, first: int) -> list[Segment]:
        """In speech: ends the utterance when it has been quiet, cuts it when it has been long."""
        now = len(self._heard) - 1
        if self._heard[now].voiced:
            self._last = now
            return [self._cut(first)] if now - first + 1 > self._longest else []
        enough = self._least_hangover if self._over and self._least_hangover else self._hangover
        return self._close(first, "pause") if now - self._last >= enough else []

    def _close(self, first: int, closed_by: ClosedBy) -> list[Segment]:
        """Gives the open utterance and goes back to silence; what lies behind its padding is kept for the next."""
        voiced = sum(frame.voiced for frame in self._heard[first : self._last + 1])
        last, end = self._ends(first)
        segments = []
        if self._continues or voiced >= self._least:
            segments.append(self._segment(first, last, end, closed_by))
        self._first, self._continues, self._begun = None, False, False
        self._paused = self._over = False
        del self._heard[: max(end, len(self._heard) - self._padding - self._late)]
        return segments

    def _ends(self, first: int) -> tuple[int, int]:
        """Index of the last frame of speech since `first`, and of the first one that is no part of its sound.

        As long as the detector hears speech, there is no telling how much of that is over.
        """
        last = max(first, self._last - min(self._late, len(self._heard) - 1 - self._last))
        return last, min(len(self._heard), last + 1 + self._padding)

    def _cut(self, first: int) -> Segment:
        """Cuts the open utterance where it is least likely speech (the latest of equals) and goes on with the rest."""
        now = len(self._heard) - 1
        candidates = range(max(first, now - max(1, self._longest // 3)), now)
        at = max(first, min(reversed(candidates), key=self._around) - self._late)
        last = next(index for index in range(at, first - 1, -1) if self._heard[index].voiced)
        segment = self._segment(first, last, at + 1, "longest")
        del self._heard[: at + 1]
        self._first = next(index for index, frame in enumerate(self._heard) if frame.voiced)
        self._last = len(self._heard) - 1
        self._continues, self._begun = True, False
        return segment

    def _around(self, index: int) -> tuple[float, float]:
        """Probability of a frame with its neighbours, and its own."""
        near = self._heard[max(0, index - self._near) : index + self._near + 1]
        mean = sum(frame.probability for frame in near) / len(near)
        return round(mean, 6), self._heard[index].probability

    def _segment(self, first: int, last: int, end: int, closed_by: ClosedBy) -> Segment:
        """The utterance from frame `first` to frame `last`, with the sound up to (not including) frame `end`."""
        if not self._continues:
            first = max(0, first - self._late)
        begin = 0 if self._continues else max(0, first - self._padding)
        parts = [frame.samples for frame in self._heard[begin:end]]
        before, after = (
            sum(len(part) for part in some) for some in (parts[: first - begin], parts[last + 1 - begin :])
        )
        if closed_by == "longest":
            after = 0  # what is left out would be in neither part
        audio, skipped = _laid_by_itself(np.concatenate(parts), before, after)
        return Segment(
            start_ns=self._heard[first].start_ns,
            end_ns=self._heard[last].end_ns,
            audio=audio,
            audio_start_ns=self._heard[begin].start_ns + skipped * NS_PER_S // SAMPLE_RATE_HZ,
            closed_by=closed_by,
            declared_ns=self._heard[-1].end_ns,
            source=self.source,
        )


def _laid_by_itself(audio: NDArray[np.float32], before: int, after: int) -> tuple[NDArray[np.float32], int]:
    """Lays the ends of an utterance's sound by the sound itself: whole steps of `_STEP` from its loudest sample.

    When the same words are heard again, or replayed, their edges are found some milliseconds earlier or later. Then
    they still get the very same samples, or a whole step more or less, unless that would take away of the speech. Of
    77 utterances that were cut twice, 6 ms apart, whisper-base wrote 68 alike where only their frames lay by the sound,
    and all with both ends laid by it; 13 ms apart, 68 and 78 of 78 (with steps of 80 ms; 76 and 77 with steps of 20).

    Args:
        audio: float32 [n], 16 kHz.
        before: how many samples may be left out at its beginning.
        after: how many at its end.

    Returns:
        the sound, and how many samples were left out before it.
    """
    skipped = out_of_step(audio, _STEP)
    skipped = skipped if skipped <= before else 0
    left = (len(audio) - skipped) % _STEP
    return audio[skipped : len(audio) - (left if left <= after else 0)], skipped


class Cutter(Protocol):
    """Chunks in, news of utterances out."""

    def follow(self, chunk: AudioChunk) -> Iterator[Speech]:
        """Gives the news that `chunk` brings."""
        ...

    def over(self, source: str) -> None:
        """Says that the pause which was just told of this source is the end of a sentence."""
        ...

    def finish(self) -> list[Segment]:
        """Ends all streams; gives the utterances that were still open."""
        ...


class SpeechCutter:
    """Chunks in, segments out: reblocker, voice activity and segmenter of every source of sound that turns up.

    Args:
        new_stream: makes a voice activity detector for a new source, such as `SileroVad().stream`.
        settings: when speech begins and ends.
    """

    def __init__(self, new_stream: Callable[[], VadStream], settings: SegmenterSettings | None = None) -> None:
        self._new_stream = new_stream
        self._settings = settings or SegmenterSettings()
        self._sources: dict[str, tuple[Reblocker, VadStream, Segmenter]] = {}

    def push(self, chunk: AudioChunk) -> list[Segment]:
        """Gives the utterances that `chunk` completes."""
        return [speech.segment for speech in self.follow(chunk) if speech.stage == "closed"]

    def follow(self, chunk: AudioChunk) -> Iterator[Speech]:
        """Gives the news that `chunk` brings, frame by frame: `over` said of a pause counts from the next frame on."""
        if chunk.source not in self._sources:
            stream = self._new_stream()
            segmenter = Segmenter(self._settings, chunk.source, late_samples=stream.late_samples)
            self._sources[chunk.source] = (Reblocker(), stream, segmenter)
        return self._hear(chunk.source, chunk)

    def over(self, source: str) -> None:
        """Says that the pause which was just told of this source is the end of a sentence."""
        self._sources[source][2].over()

    def finish(self) -> list[Segment]:
        """Ends all streams; gives the utterances that were still open, in order of their ends."""
        segments = [
            speech.segment
            for source in self._sources
            for speech in self._hear(source, None)
            if speech.stage == "closed"
        ]
        return sorted(segments, key=lambda segment: (segment.end_ns, segment.source))

    def _hear(self, source: str, chunk: AudioChunk | None) -> Iterator[Speech]:
        """Gives the news in `chunk`, or in what is left when None; no samples: nothing will follow soon."""
        blocks, detector, segmenter = self._sources[source]
        for frame in blocks.finish() if chunk is None else blocks.push(chunk):
            if frame.discontinuity:
                detector.reset()
            probability = detector.probability(frame.samples)
            for segment in segmenter.push(probability, frame.samples, frame.start_ns, frame.discontinuity):
                yield Speech("closed", segment)
            if news := segmenter.news():
                yield news
        if chunk is None or not len(chunk.samples):
            for segment in segmenter.finish():
                yield Speech("closed", segment)
