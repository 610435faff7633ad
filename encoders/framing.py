"""Where short-term analyses look: frames of sound, evenly spaced and centred in the recording, as Praat places them.

A sample stands for the moment in its middle: sample i (from 0) is at (i + 1/2) / rate. As many frames as fit are taken,
and what is left over is shared by both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
_Float = TypeVar("_Float", np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class Frames:
    """`count` moments, `step_s` apart; the first at `first_s`."""

    count: int
    first_s: float
    step_s: float

    @property
    def times_s(self) -> Reals:
        """The moments in seconds, [count]."""
        return self.first_s + self.step_s * np.arange(self.count, dtype=np.float64)

    def nearest(self, time_s: float) -> int:
        """Gives the number of the frame nearest to a moment; it may lie outside."""
        return int(np.floor((time_s - self.first_s) / self.step_s + 0.5))


def frames(samples: int, rate_hz: int, window_s: float, step_s: float) -> Frames:
    """Gives the frames of a sound of `samples`; none if it is shorter than a window."""
    duration_s = samples / rate_hz
    count = max(0, int(np.floor((duration_s - window_s) / step_s + 1e-9)) + 1)
    return Frames(count, (duration_s - (count - 1) * step_s) / 2, step_s)


def sample_before(times_s: Reals, rate_hz: int) -> Ints:
    """Gives the number of the last sample at or before each moment."""
    return np.floor(times_s * rate_hz - 0.5 + 1e-9).astype(np.int64)


def cut(x: NDArray[_Float], starts: Ints, length: int) -> NDArray[_Float]:
    """Gives [starts, length]: so many samples from each start on, zeros where the sound has none."""
    before = max(0, -int(starts.min(initial=0)))
    after = max(0, int(starts.max(initial=0)) + length - len(x))
    padded = np.pad(x, (before, after)) if before or after else x
    return np.lib.stride_tricks.sliding_window_view(padded, length)[starts + before]


def local_means(x: Reals, centres: Ints, reach: int) -> Reals:
    """Gives the mean of the `2 * reach` samples around the gap after each of `centres`."""
    total = np.concatenate([[0.0], np.cumsum(x)])
    low = np.clip(centres + 1 - reach, 0, len(x))
    high = np.clip(centres + 1 + reach, 0, len(x))
    means: Reals = (total[high] - total[low]) / np.maximum(high - low, 1)
    return means
