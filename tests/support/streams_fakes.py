"""Fakes for streams, scripted by data: detectors and a transcriber without models, sound without microphones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mer_agent.errors import DeviceError
from mer_agent.streams.supervise import Patience, Pulse
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk, Segment, Transcript, Word

T = TypeVar("T")


class LoopClock:
    """Session time that is the event loop's, so that on a virtual loop it is virtual too."""

    started_at = datetime.fromtimestamp(0, UTC)

    def __init__(self) -> None:
        self._begun_s = asyncio.get_running_loop().time()

    def now_ns(self) -> int:
        return round((asyncio.get_running_loop().time() - self._begun_s) * NS_PER_S)

    async def sleep_until(self, ns: int) -> None:
        await asyncio.sleep(max(0, ns - self.now_ns()) / NS_PER_S)


async def inline(call: Callable[[], T], limit_s: float, late: object = None) -> T:
    """Runs a device's calls at once, on the event loop."""
    return call()


Step = tuple[float, Literal["new", "same", "nothing", "fault", "end"]]
"""For so many seconds the device gives something new (or the same) 31 times a second, or nothing; or it fails."""


class ScriptedDevice:
    """A device whose faults are data: what it does each time it is opened; a text is why it can't be.

    It gives the numbers 0, 1, 2 ... The last script repeats.
    """

    def __init__(
        self,
        clock: LoopClock,
        *scripts: Sequence[Step] | str,
        source: str = "audio-0",
        stale: Literal["frozen", "silent"] = "frozen",
    ) -> None:
        self.source, self.stale, self.patience = source, stale, Patience()
        self.tried_s: list[float] = []
        self.opened = self.closed = 0
        self._clock = clock
        self._scripts = scripts
        self._given = 0

    def open(self, deliver: Callable[[int], None]) -> ScriptedCapture:
        script = self._scripts[min(len(self.tried_s), len(self._scripts) - 1)]
        self.tried_s.append(self._clock.now_ns() / NS_PER_S)
        if isinstance(script, str):
            raise DeviceError(script)
        self.opened += 1
        return ScriptedCapture(self, script, self._clock, deliver)

    def next(self) -> int:
        self._given += 1
        return self._given - 1


class ScriptedCapture:
    """A `ScriptedDevice` that is open."""

    def __init__(
        self, device: ScriptedDevice, script: Sequence[Step], clock: LoopClock, deliver: Callable[[int], None]
    ) -> None:
        self.pulse = Pulse(clock.now_ns(), clock.now_ns())
        self._device, self._clock, self._deliver = device, clock, deliver
        self._playing = asyncio.ensure_future(self._play(script))

    def close(self) -> None:
        self._playing.cancel()
        self._device.closed += 1

    async def _play(self, script: Sequence[Step]) -> None:
        for seconds, what in script:
            until_ns = self._clock.now_ns() + round(seconds * NS_PER_S)
            while what in ("new", "same") and self._clock.now_ns() < until_ns:
                self.pulse.beat(self._clock.now_ns(), fresh=what == "new")
                if what == "new":
                    self._deliver(self._device.next())
                await asyncio.sleep(0.032)
            await self._clock.sleep_until(until_ns)
            if what == "fault":
                self.pulse.fault = "somebody pulled the plug"
            if what == "end":
                self.pulse.ended = True


class ScriptedVad:
    """Gives the probabilities of a list, one for each frame, then the last one for ever."""

    late_samples = 0

    def __init__(self, probabilities: Sequence[float]) -> None:
        self._probabilities = list(probabilities)
        self.heard = 0
        self.resets = 0

    def probability(self, samples: NDArray[np.float32]) -> float:
        self.heard += 1
        return self._probabilities[min(self.heard, len(self._probabilities)) - 1]

    def reset(self) -> None:
        self.resets += 1


class LoudnessVad:
    """Takes what is loud for speech: an answer that depends on the sound alone."""

    late_samples = 0

    def probability(self, samples: NDArray[np.float32]) -> float:
        return min(1.0, float(np.abs(samples).mean()) * 4)

    def reset(self) -> None:
        pass


class ScriptedTranscriber:
    """Gives a text for each segment by the second in which its speech starts; words evenly spread over the segment.

    Seconds that the script doesn't know give an empty transcript.
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._texts = dict(texts)
        self.segments: list[Segment] = []

    async def warm_up(self) -> None:
        pass

    async def transcribe(self, segment: Segment) -> Transcript:
        self.segments.append(segment)
        text = self._texts.get(segment.start_ns // NS_PER_S, "")
        pieces = text.split()
        step_ns = (segment.end_ns - segment.start_ns) // max(1, len(pieces))
        words = tuple(
            Word(piece, segment.start_ns + at * step_ns, segment.start_ns + (at + 1) * step_ns, 0.9)
            for at, piece in enumerate(pieces)
        )
        return Transcript(text, words, confidence=0.9 if words else 0.0)

    def close(self) -> None:
        pass


def bursts(pattern: Iterable[tuple[float, bool]], seed: int = 0) -> NDArray[np.float32]:
    """Sound made of stretches of (seconds, loud or silent); loud is noise that `LoudnessVad` takes for speech."""
    noise = np.random.default_rng(seed)
    parts = [
        noise.uniform(-1.0, 1.0, round(seconds * SAMPLE_RATE_HZ)) * (1.0 if loud else 0.001)
        for seconds, loud in pattern
    ]
    return np.concatenate(parts).astype(np.float32)


def chunked(sound: NDArray[np.float32], sizes: Iterable[int], source: str = "audio-0") -> list[AudioChunk]:
    """The sound in chunks of the given sizes, what is left over in a last one; stamped from 0 on."""
    chunks: list[AudioChunk] = []
    at = 0
    for size in [*sizes, len(sound)]:
        part = sound[at : at + size]
        if len(part):
            chunks.append(AudioChunk(part, at * NS_PER_S // SAMPLE_RATE_HZ, len(chunks), source=source))
        at += len(part)
    return chunks


def a_segment(start_s: float, audio: NDArray[np.float32], source: str = "audio-0") -> Segment:
    """A segment without padding."""
    start_ns = round(start_s * NS_PER_S)
    end_ns = start_ns + len(audio) * NS_PER_S // SAMPLE_RATE_HZ
    return Segment(start_ns, end_ns, audio, start_ns, "pause", end_ns + 320_000_000, source)
