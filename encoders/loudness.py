"""How loud a sound is over time, in decibels re 20 micropascal, taking full scale as one pascal (Praat's intensity).

    I(t) = 10 log10( sum_i w_i (x_i - mean)^2 / sum_i w_i / (2e-5)^2 )
    w_i = I0((2 pi^2 + 1/2) sqrt(1 - (i / half)^2))

w is a Kaiser window of 6.4 periods of the lowest pitch: long enough to see no single pulse of the voice.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from mer_agent.encoders.framing import Frames, Reals, cut, frames
from mer_agent.streams.types import SAMPLE_RATE_HZ

_REFERENCE = 2e-5
SILENCE_DB = -300.0
"""What digital silence is said to have."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """Intensity in dB at each frame."""

    frames: Frames
    intensity_db: Reals


def loudness(sound: Reals, lowest_hz: float = 100.0) -> Loudness:
    """Gives the intensity of `sound` (float64 [n], 16 kHz) every 0.8 periods of `lowest_hz`; no frames if too short."""
    grid = frames(len(sound), SAMPLE_RATE_HZ, 6.4 / lowest_hz, 0.8 / lowest_hz)
    if grid.count == 0:
        return Loudness(grid, np.zeros(0))
    half = int(3.2 / lowest_hz * SAMPLE_RATE_HZ)
    centre = np.floor(grid.times_s * SAMPLE_RATE_HZ + 1e-9).astype(np.int64)  # the nearest sample
    window = _kaiser(half)
    x = cut(sound, centre - half, 2 * half + 1)  # at the very edge one sample is missing, whose weight is nothing
    mean = x.mean(axis=1)
    power = np.maximum((x * x) @ window - 2 * mean * (x @ window) + mean**2, 0) / _REFERENCE**2
    return Loudness(grid, np.where(power > 1e-30, 10 * np.log10(np.maximum(power, 1e-30)), SILENCE_DB))


@functools.cache
def _kaiser(half: int) -> Reals:
    """Gives the window, [2 half + 1], whose sum is 1."""
    x = np.arange(-half, half + 1) / half
    window = np.i0((2 * np.pi**2 + 0.5) * np.sqrt(np.maximum(0, 1 - x**2)))
    return np.asarray(window / window.sum())
