"""Where sound meets pictures: joins a segment with the frames taken while it was spoken.

Pictures are remembered for a short while, at a low rate, and forgotten oldest first, whatever the camera does. Where
faces were cut out on arrival, the crops are all that is kept: minutes of them take a megabyte. No asyncio and no clock
in here: what is joined depends only on capture times.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from mer_agent.streams.types import NS_PER_S, Segment, Transcript, Utterance, VideoFrame


class FrameRing:
    """The last pictures of one or more cameras.

    Args:
        rate_hz: at most one picture of a source is kept in each 1 / rate_hz of capture time, the first.
        seconds: how much time is kept; longer than the longest utterance and its hangover.
        megabytes: how much memory the pictures may take.

    Attributes:
        forgotten: pictures that had to go, while still within `seconds`, to keep to the memory.
    """

    def __init__(self, rate_hz: float = 10.0, seconds: float = 20.0, megabytes: float = 96.0) -> None:
        self._rate_hz = rate_hz
        self._span_ns = int(seconds * NS_PER_S)
        self._room_bytes = int(megabytes * 1e6)
        self._frames: deque[VideoFrame] = deque()
        self._bytes = 0
        self._slots: dict[str, int] = {}  # source -> the last 1 / rate_hz that has its picture
        self.forgotten = 0

    def __len__(self) -> int:
        """How many pictures are kept."""
        return len(self._frames)

    def wants(self, frame: VideoFrame) -> bool:
        """Whether it is time for a picture of this source."""
        return self._slot(frame) > self._slots.get(frame.source, -1)

    def push(self, frame: VideoFrame) -> None:
        """Takes a picture, if it is time for one. Pictures of one source must come in order of capture."""
        if not self.wants(frame):
            return
        self._slots[frame.source] = self._slot(frame)
        self._frames.append(frame)
        self._bytes += _size_bytes(frame)
        while self._frames[0].captured_ns < frame.captured_ns - self._span_ns:
            self._drop()
        while self._bytes > self._room_bytes:
            self._drop()
            self.forgotten += 1

    def between(self, start_ns: int, end_ns: int) -> tuple[VideoFrame, ...]:
        """The pictures taken from `start_ns` up to, but not at, `end_ns`, in order of capture."""
        found = [frame for frame in self._frames if start_ns <= frame.captured_ns < end_ns]
        return tuple(sorted(found, key=lambda frame: (frame.captured_ns, frame.source)))

    def _slot(self, frame: VideoFrame) -> int:
        return int(frame.captured_ns * self._rate_hz // NS_PER_S)

    def _drop(self) -> None:
        self._bytes -= _size_bytes(self._frames.popleft())


class Aligner:
    """Makes utterances out of segments, pictures and, once they are known, words and speaker."""

    def __init__(self, ring: FrameRing | None = None) -> None:
        self._ring = FrameRing() if ring is None else ring  # an empty ring is false

    def wants(self, frame: VideoFrame) -> bool:
        """Whether it is time for a picture; others need not be looked at."""
        return self._ring.wants(frame)

    def see(self, frame: VideoFrame) -> None:
        """Takes a picture."""
        self._ring.push(frame)

    def utterance(self, utterance_id: str, segment: Segment) -> Utterance:
        """The segment and the pictures taken while it was spoken; nobody knows yet by whom, or what."""
        return Utterance(
            id=utterance_id,
            speaker=None,
            start_ns=segment.start_ns,
            end_ns=segment.end_ns,
            audio=segment.audio,
            audio_start_ns=segment.audio_start_ns,
            frames=self._ring.between(segment.start_ns, segment.end_ns),
            closed_by=segment.closed_by,
            speaker_confidence=0.0,
            source=segment.source,
        )


def _size_bytes(frame: VideoFrame) -> int:
    return frame.image.nbytes + sum(face.crop.nbytes for face in frame.faces or ())


def with_words(utterance: Utterance, transcript: Transcript) -> Utterance:
    """The utterance with its words, and what was heard beside them.

    An empty transcript is no text: that modality is then absent.
    """
    words = replace(transcript, hearing=None) if transcript.text else None
    return replace(utterance, transcript=words, hearing=transcript.hearing)
