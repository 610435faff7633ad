"""The sound of one media file as chunks of 16 kHz mono float32, stamped with the container's own time.

Several channels become their plain average, also where they are 5.1 surround. Time is an anchor plus the samples since,
and is anchored anew wherever the container's stamps leave that count: neither a late start nor a lost packet shifts
what follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_agent.errors import MediaError
from mer_agent.streams.media import Damage, audio_stream, decoded, opened, stamp_ns, zero_ns
from mer_agent.streams.resampler import Resampler
from mer_agent.streams.session import Anchor
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_SAMPLES = 512
"""32 ms: what the voice activity detector hears at once."""

_DRIFT_NS = 20_000_000
"""Stamps may be this far off the count of samples (containers round them) before time is anchored anew."""
_BACK_NS = 10_000_000
"""Time is set back by no more than this at each frame, which lasts longer, so that it never runs backwards."""
_JUMP_NS = 200_000_000
"""From here on it is no drift: something is missing, or the stamps start again."""


def audio_chunks(
    path: Path, *, start_ns: int = 0, source: str = "audio-0", damage: Damage | None = None
) -> Generator[AudioChunk, None, None]:
    """Gives the sound of a file as chunks of 32 ms (the last of an unbroken stretch may be shorter).

    Args:
        path: the file.
        start_ns: session time of the file's own time 0.
        source: name for the chunks.
        damage: is filled in while the sound is read.

    Raises:
        MediaError: the file can't be opened or holds no sound.
    """
    damage = damage if damage is not None else Damage()
    with opened(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"{path}: holds no sound")
        chunker = Chunker(source)
        mono = _Mono(damage)
        shift_ns = start_ns - zero_ns(container)
        seen_packets = 0
        for frame in decoded(container, stream, damage):
            after_damage, seen_packets = damage.packets > seen_packets, damage.packets
            at_ns = None if frame.pts is None else stamp_ns(frame) + shift_ns
            if at_ns is not None and chunker.anchored:
                off_ns = at_ns - mono.fed_ns - chunker.anchor_ns
                if off_ns > _JUMP_NS or (after_damage and off_ns > 0):
                    yield from chunker.push(mono.finish(), last=True)
                    chunker.restart(at_ns)
                    damage.gaps += 1
                elif off_ns < -_JUMP_NS:  # stamps that start again (files joined end to end): time goes on
                    shift_ns -= off_ns
                    damage.gaps += 1
                    chunker.broken = True
                elif abs(off_ns) > _DRIFT_NS:
                    chunker.anchor_ns += max(off_ns, -_BACK_NS)
            if not chunker.anchored:
                chunker.restart(start_ns if at_ns is None else at_ns)
            chunker.broken |= after_damage
            yield from chunker.push(mono.push(frame))
        yield from chunker.push(mono.finish(), last=True)
        if container.duration is not None and not _is_guess(container):
            short_ns = container.duration * 1000 - (chunker.now_ns - start_ns)
            damage.missing_ns = short_ns if short_ns > NS_PER_S else 0


def anchored_chunks(
    path: Path, anchors: Sequence[Anchor], *, source: str = "audio-0", damage: Damage | None = None
) -> Generator[AudioChunk, None, None]:
    """Gives the sound of a recorded microphone as it was captured: its gaps, its pace, and when it went away.

    Args:
        path: 16 kHz mono; its own time 0 is its first sample.
        anchors: where its samples lie in session time, in order.
        source: name for the chunks.
        damage: is filled in while the sound is read.

    Raises:
        MediaError: the file can't be opened or holds no sound.
    """
    chunker, end, left = Chunker(source), 0, deque(anchors)
    for chunk in audio_chunks(path, source=source, damage=damage):
        samples, at = chunk.samples, round(chunk.start_ns * SAMPLE_RATE_HZ / NS_PER_S)
        if chunk.discontinuity and chunker.anchored:  # damaged since: what is left keeps its place
            yield from chunker.push(samples[:0], last=True)
            chunker.restart(chunker.now_ns + max(0, at - end) * NS_PER_S // SAMPLE_RATE_HZ)
        end = at + len(samples)
        while left and left[0].sample < end:
            anchor = left.popleft()
            before, samples = np.split(samples, [max(0, anchor.sample - at)])
            at += len(before)
            yield from chunker.push(before, last=anchor.broken or anchor.gone)
            yield from _anchor(chunker, anchor, at)
        yield from chunker.push(samples)
    yield from chunker.push(np.zeros(0, np.float32), last=True)
    if left and left[0].gone:
        yield from _anchor(chunker, left[0], end)


def _anchor(chunker: Chunker, anchor: Anchor, at: int) -> Iterator[AudioChunk]:
    """Moves the chunker, whose next sample is `at`, to an anchor; a microphone that goes away is an empty chunk."""
    at_ns = anchor.at_ns + (at - anchor.sample) * NS_PER_S // SAMPLE_RATE_HZ
    if anchor.gone:
        yield AudioChunk(np.zeros(0, np.float32), at_ns, -1, discontinuity=True, source=chunker.source)
    elif anchor.broken or not chunker.anchored:
        chunker.restart(at_ns)
    else:
        chunker.move(at_ns)


class _Mono:
    """Turns decoded frames of any format into 16 kHz mono float32, keeping the resampler's phase between frames."""

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._setup: Any = None
        self.fed_ns = 0
        """How much sound went in since the last `finish`."""
        self._fed = Fraction(0)

    def push(self, frame: Any) -> NDArray[np.float32]:
        """Gives the samples (float32 [n]) that are ready after `frame`."""
        import av

        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        ready = [np.zeros(0, np.float32)]
        if setup != self._setup:
            ready.append(self._drain())
            self._setup = setup
            self._to_float = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
            self._to_16k = Resampler(frame.sample_rate)
        self._fed += Fraction(frame.samples, frame.sample_rate)
        self.fed_ns = int(self._fed * NS_PER_S)
        frame.pts = None  # the resampler must count samples, not fill or squeeze by stamps
        ready += [self._to_16k.push(plane.to_ndarray()) for plane in self._to_float.resample(frame)]
        return np.concatenate(ready)

    def finish(self) -> NDArray[np.float32]:
        """Gives what the resampler still holds, and starts afresh."""
        rest = self._drain()
        self._setup, self._fed, self.fed_ns = None, Fraction(0), 0
        return rest

    def _drain(self) -> NDArray[np.float32]:
        if self._setup is None:
            return np.zeros(0, np.float32)
        self._damage.not_finite += self._to_16k.not_finite
        return self._to_16k.finish()


class Chunker:
    """Cuts samples into chunks, each stamped with the anchor plus the samples since."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._left = np.zeros(0, np.float32)
        self._sequence = 0
        self._done = 0  # samples given away since the anchor
        self.anchored = False
        self.anchor_ns = 0
        self.broken = False
        """The next chunk does not follow on from the last one."""

    @property
    def now_ns(self) -> int:
        """Capture time just after the last sample given away."""
        return self.anchor_ns + self._done * NS_PER_S // SAMPLE_RATE_HZ

    def restart(self, at_ns: int) -> None:
        """Anchors the next sample at `at_ns`."""
        self.broken = self.anchored
        self.anchored, self.anchor_ns, self._done = True, at_ns, 0

    def move(self, at_ns: int) -> None:
        """Says that the next sample that comes in was captured at `at_ns`; those before it are moved along."""
        self.anchor_ns = at_ns - (self._done + len(self._left)) * NS_PER_S // SAMPLE_RATE_HZ

    def push(self, samples: NDArray[np.float32], last: bool = False) -> Iterator[AudioChunk]:
        """Gives the chunks that `samples` complete, and with `last` also what is left over."""
        samples = np.concatenate((self._left, samples))
        end = len(samples) if last else len(samples) - len(samples) % CHUNK_SAMPLES
        self._left = samples[end:]
        for at in range(0, end, CHUNK_SAMPLES):
            part = samples[at : min(end, at + CHUNK_SAMPLES)].astype(np.float32)  # a copy: nobody else writes to it
            chunk = AudioChunk(part, self.now_ns, self._sequence, discontinuity=self.broken, source=self.source)
            self._done += len(part)
            self._sequence += 1
            self.broken = False
            yield chunk


def _is_guess(container: Any) -> bool:
    """Whether the header's duration is only an estimate from the bit rate."""
    return bool(container.format.name == "mp3")
