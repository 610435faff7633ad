"""Voice activity: how likely it is, every 4 ms, that somebody speaks, by Silero VAD (version 6, MIT licence).

The network hears 32 ms at a time. Where such frames begin is chance, and the same sound, caught a few milliseconds
later, gets other answers: a pause about as long as the hangover ends an utterance or doesn't. So eight streams of the
network listen, each 4 ms after the one before it, and the mean of what they said last is the answer
(`StaggeredStream`).

The network is a file inside the installed package faster-whisper, which is found without importing that package (the
import takes seconds). It runs inline, on one thread: a frame costs about a tenth of a millisecond, less than handing
it to another thread would.

Source: https://github.com/snakers4/silero-vad. The export takes `input` [frames, 576] (64 samples of the frame
before, then 512 new ones) and the LSTM state `h`, `c` [1, 1, 128]; it gives `speech_probs` [frames] and the new state.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mer_agent.errors import MissingExtraError
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_SAMPLES = 512
"""The network hears 32 ms at a time."""

STREAMS = 8
"""Streams of the network that listen to one stream of sound."""

HOP_SAMPLES = FRAME_SAMPLES // STREAMS
"""There is an answer every 4 ms.

Of a conversation of 200 s and the same 3, 6, 13 and 22 ms later, 64 to 66 of 66 utterances began and ended within 20
ms of each other; 55 to 59 with four streams, an answer every 8 ms, and 14 to 37 with one.
"""

_SILENCE = 0.1
"""Probability under which nobody speaks for certain."""
_REST_SAMPLES = SAMPLE_RATE_HZ // 2
"""Silence after which the network begins afresh."""
_NOTHING = 1e-7
"""Power of -70 dB of full scale: a microphone that is muted, or good and in a quiet room. No words are that soft."""

_CONTEXT_SAMPLES = 64
_MODEL_FILE = "silero_vad_v6.onnx"
_INSTALL = "install the agent's extra: pip install 'mer-agent[agent]'"


class VadStream(Protocol):
    """Listens to one stream of sound; keeps what it heard last."""

    late_samples: int
    """How long after a sound the answer is about it, beyond the hop itself."""

    def probability(self, samples: NDArray[np.float32]) -> float:
        """How likely the next `samples` (float32 [n], n <= `HOP_SAMPLES`, 16 kHz) are speech, 0..1."""
        ...

    def reset(self) -> None:
        """Forgets what was heard, because the next samples don't follow on from it."""
        ...


def model_path() -> Path:
    """Where the installed faster-whisper keeps the Silero network.

    Raises:
        MissingExtraError: faster-whisper is not installed, or is a version without this file.
    """
    found = importlib.util.find_spec("faster_whisper")  # looks, doesn't import
    if found is None or found.origin is None:
        raise MissingExtraError(f"voice activity detection needs faster-whisper; {_INSTALL}")
    path = Path(found.origin).parent / "assets" / _MODEL_FILE
    if not path.is_file():
        raise MissingExtraError(f"this faster-whisper holds no {_MODEL_FILE}; {_INSTALL}")
    return path


class SileroVad:
    """The network's weights, shared by all streams; `stream()` gives the state for one of them."""

    def __init__(self) -> None:
        path = model_path()
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(f"voice activity detection needs onnxruntime; {_INSTALL}") from error
        onnxruntime.disable_telemetry_events()  # some builds report usage to their makers; nothing here may
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self.session: Any = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def stream(self) -> StaggeredStream:
        """A listener for one stream of sound, which has heard nothing yet."""
        return StaggeredStream([SileroStream(self) for _ in range(STREAMS)])


class SileroStream:
    """Silero VAD on one stream of sound, in frames that follow on from each other.

    Input, answer and state have fixed places, which spares a fifth of the time that a frame takes.
    """

    def __init__(self, model: SileroVad) -> None:
        self._session = model.session
        self._window = np.zeros((1, _CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        self._answer = np.zeros(1, np.float32)
        self._states = [np.zeros((2, 1, 1, 128), np.float32) for _ in range(2)]  # h and c before a frame, and after it
        self._binding, self._next = (self._bound(*order) for order in (self._states, self._states[::-1]))

    def _bound(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> Any:
        """Gives where the network reads and writes."""
        binding = self._session.io_binding()
        for name, place in (("input", self._window), ("h", before[0]), ("c", before[1])):
            binding.bind_input(name, "cpu", 0, np.float32, place.shape, place.ctypes.data)
        for output, place in zip(self._session.get_outputs(), (self._answer, *after), strict=True):
            binding.bind_output(output.name, "cpu", 0, np.float32, place.shape, place.ctypes.data)
        return binding

    def reset(self) -> None:
        """Forgets what was heard."""
        for state in self._states:
            state.fill(0.0)

    def hear(self, window: NDArray[np.float32]) -> float:
        """How likely a frame is speech, 0..1; `window` is float32 [1, 576]: 64 samples before it and its 512."""
        self._window[:] = window
        self._session.run_with_iobinding(self._binding)
        self._binding, self._next = self._next, self._binding
        return float(self._answer[0])


class Detector(Protocol):
    """What `StaggeredStream` asks (`SileroStream`)."""

    def hear(self, window: NDArray[np.float32]) -> float:
        """How likely the frame at the end of `window`, float32 [1, 576], is speech, 0..1."""
        ...

    def reset(self) -> None:
        """Forgets what was heard."""
        ...


class StaggeredStream:
    """Several detectors on one stream of sound: each hears frames of 512 samples, one hop after the one before it.

    The answer is the mean of what each of them said last, so it is about the last 60 ms, late by half of that, and
    hardly depends on where the hops fall. Before the first sample there was silence. Samples that are not finite
    numbers are taken as silence: one NaN in a recurrent state would make every later answer NaN.

    After a while of silence the detectors begin afresh. What the network heard long ago makes it deaf: the first words
    after a pause ("Oh", "Ask") got 0.6 and 0.46 where it had listened for minutes, 0.27 and 0.38 where it had heard
    five seconds of nothing some time before, and 0.8 and 0.7 afresh. Noise, hum, clicks and sirens are taken for speech
    no more often; chords are at -20 dB (12 % of the time instead of 2), less at -40 dB (4 instead of 11).
    From then on they don't listen as long as there is nothing to be heard, and their answer is 0.

    Args:
        detectors: `STREAMS` of them.
    """

    late_samples = (STREAMS - 1) * HOP_SAMPLES

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = detectors
        self.reset()

    def reset(self) -> None:
        """Forgets what was heard."""
        for detector in self._detectors:
            detector.reset()
        self._window = np.zeros((1, _CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        self._said = [0.0] * len(self._detectors)
        self._next = self._silent = self._nothing = 0
        self._rests = False

    def probability(self, samples: NDArray[np.float32]) -> float:
        """How likely it is that somebody speaks in the next `samples` (float32 [n], n <= `HOP_SAMPLES`), 0..1.

        Raises:
            ValueError: more samples than a hop has.
        """
        many = len(samples)
        if many > HOP_SAMPLES:
            raise ValueError(f"at most {HOP_SAMPLES} samples at a time, not {many}")
        if not (energy := float(samples @ samples)) < np.inf:
            samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
            energy = float(samples @ samples)
        if many:
            self._window[0, :-many] = self._window[0, many:]
            self._window[0, -many:] = samples
        self._nothing = self._nothing + many if energy <= _NOTHING * many else 0
        self._rests = self._rests and self._nothing > 0
        if self._rests and self._nothing >= self._window.size:
            self._said[self._next] = 0.0
        else:
            self._said[self._next] = self._detectors[self._next].hear(self._window)
        self._next = (self._next + 1) % len(self._detectors)
        probability = sum(self._said) / len(self._said)
        self._silent = self._silent + many if probability < _SILENCE else 0
        if self._silent >= _REST_SAMPLES:
            self._silent, self._rests = 0, True
            for detector in self._detectors:
                detector.reset()
        return probability


@dataclass(frozen=True, slots=True)
class Frame:
    """What the detector hears at once: `samples` float32 [n], a hop of them except where a stream breaks or ends."""

    samples: NDArray[np.float32]
    start_ns: int
    discontinuity: bool
    """This frame does not follow on from the one before it."""


class Reblocker:
    """Cuts chunks of any length into frames of `HOP_SAMPLES`, so that nothing later depends on how the sound arrived.

    A frame's time is that of the chunk which holds its first sample, plus samples / rate. A break in the stream is a
    chunk marked `discontinuity`, or one whose sequence number does not follow (a mailbox dropped some): what was left
    over then becomes a short frame of its own.
    """

    def __init__(self) -> None:
        self._left = np.zeros(0, np.float32)
        self._left_ns = 0
        self._next_sequence: int | None = None
        self._broken = False

    def push(self, chunk: AudioChunk) -> list[Frame]:
        """Gives the frames that `chunk` completes.

        Raises:
            ValueError: the chunk's rate is not 16 kHz.
        """
        if chunk.rate_hz != SAMPLE_RATE_HZ:
            raise ValueError(f"{chunk.source}: the detector hears {SAMPLE_RATE_HZ} Hz, not {chunk.rate_hz}")
        frames: list[Frame] = []
        followed = self._next_sequence is None or chunk.sequence == self._next_sequence
        self._next_sequence = chunk.sequence + 1
        if chunk.discontinuity or not followed:
            frames += self.finish()
            self._broken = True
        carried = len(self._left)
        samples = np.concatenate((self._left, chunk.samples))
        whole = len(samples) - len(samples) % HOP_SAMPLES
        for at in range(0, whole, HOP_SAMPLES):
            start_ns = self._left_ns if at < carried else _at(chunk, at - carried)
            frames.append(self._frame(samples[at : at + HOP_SAMPLES], start_ns))
        if whole >= carried:  # what is left over now begins in this chunk
            self._left_ns = _at(chunk, whole - carried)
        self._left = samples[whole:]
        return frames

    def finish(self) -> list[Frame]:
        """Gives what is left over, as one short frame, or nothing."""
        left, self._left = self._left, self._left[:0]
        return [self._frame(left, self._left_ns)] if len(left) else []

    def _frame(self, samples: NDArray[np.float32], start_ns: int) -> Frame:
        broken, self._broken = self._broken, False
        return Frame(samples, start_ns, broken)


def _at(chunk: AudioChunk, sample: int) -> int:
    """Capture time of a sample of `chunk`."""
    return chunk.start_ns + sample * NS_PER_S // chunk.rate_hz
