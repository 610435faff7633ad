"""Any number of channels at any rate becomes 16 kHz mono, piece by piece, as if it had come in one piece.

The resampler is FFmpeg's, for recordings and microphones alike, so that a voice sounds the same either way. Its phase
is kept between pieces; the first sample out stands for the first one in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mer_agent.streams.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Resampler:
    """Turns one unbroken stretch of sound of `rate_hz` into 16 kHz mono float32.

    Attributes:
        not_finite: samples so far that were no numbers and became silence.
    """

    def __init__(self, rate_hz: int) -> None:
        import av  # takes a quarter of a second, so not before it is needed

        self._frame = av.AudioFrame
        self._rate_hz = rate_hz
        self._to_16k: Any = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        self._fed = False
        self.not_finite = 0

    def push(self, channels: NDArray[Any]) -> NDArray[np.float32]:
        """Gives the samples (float32 [n] in -1..1) that are ready after `channels` (float [channel, m])."""
        finite = np.isfinite(channels)
        if not finite.all():  # here, before a filter smears them over their neighbours
            self.not_finite += int(channels.size - finite.sum())
            channels = np.where(finite, channels, np.float32(0))
        mean = np.ascontiguousarray(channels.mean(axis=0, dtype=np.float32, keepdims=True))
        if not mean.size:
            return np.zeros(0, np.float32)
        frame = self._frame.from_ndarray(mean, format="flt", layout="mono")
        frame.sample_rate = self._rate_hz
        self._fed = True
        return self._flat(self._to_16k.resample(frame))

    def finish(self) -> NDArray[np.float32]:
        """Gives what the filter still holds; nothing may be pushed after it."""
        return self._flat(self._to_16k.resample(None)) if self._fed else np.zeros(0, np.float32)

    @staticmethod
    def _flat(frames: list[Any]) -> NDArray[np.float32]:
        ready = [frame.to_ndarray().reshape(-1) for frame in frames]
        return np.concatenate([np.zeros(0, np.float32), *ready]).clip(-1.0, 1.0)
