"""How clear a voice is: harmonics-to-noise ratio by cross-correlation (Praat's harmonicity, cc).

A stretch of one longest period is compared with what follows it. Where the best match at some lag is r,

    HNR = 10 log10( r / (1 - r) )  dB

20 dB is a clear vowel, 0 dB as much noise as voice. Frames that are nearly silent have none.

Source: Boersma 1993 (see `pitch`); the settings are Praat's standard ones.
"""

from __future__ import annotations

import numpy as np

from mer_agent.encoders.framing import Reals, cut, frames, local_means, sample_before
from mer_agent.encoders.lags import FINENESS, correlation, peaks
from mer_agent.streams.types import SAMPLE_RATE_HZ

_FLOOR_HZ = 75.0
_STEP_S = 0.01
_SILENCE = 0.1


def harmonics_to_noise_db(sound: Reals) -> Reals:
    """Gives the ratio in dB of each frame of `sound` (float64 [n], 16 kHz) that has one; maybe none has."""
    grid = frames(len(sound), SAMPLE_RATE_HZ, 2 / _FLOOR_HZ, _STEP_S)
    loudest = np.abs(sound - sound.mean()).max(initial=0.0) if grid.count else 0.0
    if loudest == 0.0:
        return np.zeros(0)
    period = int(SAMPLE_RATE_HZ / _FLOOR_HZ)
    half = period // 2 - 1
    length = 2 * half
    centre = sample_before(grid.times_s, SAMPLE_RATE_HZ)
    start = np.maximum(sample_before(grid.times_s - 1 / _FLOOR_HZ, SAMPLE_RATE_HZ), 0)
    mean = local_means(sound, centre, period)[:, None]
    x = (cut(sound, start, 2 * length) - mean).astype(np.float32)
    first = x[:, :length]
    loudness = np.minimum(np.abs(cut(sound, centre + 1 - half, length) - mean).max(axis=1) / loudest, 1.0)

    energy = np.zeros((len(x), 2 * length + 1))
    np.cumsum(np.square(x, dtype=np.float64), axis=1, out=energy[:, 1:])
    norm = np.sqrt(energy[:, length:] - energy[:, : length + 1])  # [frames, lags], of the stretch at each lag
    scale = np.where(norm > 0, norm, 1e30).astype(np.float32)
    r = correlation(first, x, length) / scale[:, :1]
    for part in range(FINENESS):  # between whole lags the norm runs straight
        before, after = (1 - part / FINENESS) * scale[:, :-1], part / FINENESS * scale[:, 1:]
        r[:, part:-1:FINENESS] /= before + after if part else before
    r[:, -1] /= scale[:, -1]
    found = peaks(r, 0.0)
    height = np.where(found.height > 1, 1 / found.height, found.height)
    best = np.zeros(grid.count)
    np.maximum.at(best, found.frame, height)
    best = best[best > np.maximum(0, 2 - loudness / _SILENCE)]
    ratio: Reals = best / np.maximum(1 - best, 1e-15)
    return 10 * np.log10(ratio)
