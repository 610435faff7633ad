"""How alike sound is to itself a little later: correlations at fine lags, and where they peak.

The correlation is computed by Fourier transform, whose spectrum is extended with zeros: that gives it at every quarter
of a sample, exactly as a band-limited signal runs between its samples. A parabola through three of those finds the top.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from mer_agent.encoders.framing import Ints, Reals, Singles

FINENESS = 4
"""Values in one sample's time, where it matters how high a peak is."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """All local maxima: the frame each is in, its lag in samples, and how high it is."""

    frame: Ints
    lag: Reals
    height: Reals


def correlation(a: Singles, b: Singles, longest: int, fineness: int = FINENESS) -> Singles:
    """Gives sum_j a[j] b[j + lag] for each frame (rows of `a` and `b`) at lags 0, 1/4, 1/2 ... `longest` samples.

    Single precision halves the time, and its error (1e-6) is far below what a peak's height decides.
    """
    size = _fast_size(max(b.shape[1], a.shape[1] + longest) + 8)
    spectrum = np.fft.rfft(b, size)
    product = spectrum * (spectrum if b is a else np.fft.rfft(a, size)).conj()
    if fineness > 1:
        product[:, -1] /= 2  # in the longer spectrum it stands twice
    fine = np.fft.irfft(product, fineness * size)[:, : fineness * longest + 1]
    return (fineness * fine).astype(np.float32, copy=False)  # numpy 1 computes in double precision


def peaks(r: Singles, lowest: float, fineness: int = FINENESS, *, smallest_lag: int = 2) -> Peaks:
    """Gives the local maxima of `r` [frames, fine lags] above `lowest`.

    Whether there is one is judged on whole samples, where it is and how high on the fine ones.
    """
    whole = r[:, ::fineness]
    middle = whole[:, smallest_lag:-1]
    is_peak = (middle > lowest) & (middle > whole[:, smallest_lag - 1 : -2]) & (middle >= whole[:, smallest_lag + 1 :])
    frame, lag = np.nonzero(is_peak)
    coarse = fineness * (lag + smallest_lag)
    around = r[frame[:, None], coarse[:, None] + np.arange(-fineness, fineness + 1)].astype(np.float64)
    top = np.clip(around.argmax(axis=1), 1, 2 * fineness - 1)
    row = np.arange(len(top))
    left, centre, right = around[row, top - 1], around[row, top], around[row, top + 1]
    bend = np.minimum(left + right - 2 * centre, -1e-12)
    shift = np.clip((left - right) / (2 * bend), -1, 1)
    height = centre - bend * shift**2 / 2
    return Peaks(frame, (coarse + top - fineness + shift) / fineness, height)


@functools.cache
def _fast_size(least: int) -> int:
    """Gives the next even number whose prime factors are 2, 3 and 5, for which the transform is fast."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2
