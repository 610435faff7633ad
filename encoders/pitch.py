"""The pitch of a voice, ten milliseconds at a time: Boersma's autocorrelation method with Praat's standard settings.

For a frame x of three periods of the lowest pitch, and a Hann window w:

    r(lag) = ac[x w](lag) / ac[w](lag),    both scaled to 1 at lag 0

Dividing by the window's own autocorrelation undoes its fading at long lags. Each local maximum of r is a candidate
pitch, "no voice" is another, and the path through the candidates is taken that is strongest as a whole:

    voiced:   r - octave_cost * log2(ceiling / f)
    unvoiced: threshold + max(0, 2 - (peak / peak of all) / (silence / (1 + threshold)))

less `octave_jump_cost * |log2(f / f')|` between voiced neighbours and `voicing_cost` where voice begins or ends.

Source: Boersma 1993, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
sampled sound". Written from the paper and checked against Praat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_agent.encoders.framing import Frames, Ints, Reals, Singles, cut, frames, local_means, sample_before
from mer_agent.encoders.lags import FINENESS, correlation, peaks
from mer_agent.streams.types import SAMPLE_RATE_HZ

_PERIODS = 3
"""Periods of the lowest pitch in a window."""


@dataclass(frozen=True, slots=True)
class PitchSettings:
    """What counts as a voice; the defaults are Praat's."""

    floor_hz: float = 75.0
    ceiling_hz: float = 600.0
    step_s: float = 0.01
    candidates: int = 15
    silence: float = 0.03
    voicing: float = 0.45
    octave_cost: float = 0.01
    octave_jump_cost: float = 0.35
    voicing_cost: float = 0.14
    fineness: int = FINENESS
    """Correlations in one sample's time; 1 is quicker and still tells voice from no voice."""


@dataclass(frozen=True, slots=True)
class PitchTrack:
    """Pitch in Hz at each frame, 0 where there is no voice."""

    frames: Frames
    pitch_hz: Reals

    @property
    def voiced_hz(self) -> Reals:
        """The pitch of the voiced frames alone."""
        return self.pitch_hz[self.pitch_hz > 0]


STANDARD = PitchSettings()


def pitch_track(sound: Reals, settings: PitchSettings = STANDARD) -> PitchTrack:
    """Gives the pitch of `sound` (float64 [n], 16 kHz); no frames if it is shorter than three longest periods."""
    window_s = _PERIODS / settings.floor_hz
    grid = frames(len(sound), SAMPLE_RATE_HZ, window_s, settings.step_s)
    loudest = np.abs(sound - sound.mean()).max(initial=0.0) if grid.count else 0.0
    if loudest == 0.0:
        return PitchTrack(grid, np.zeros(grid.count))
    centre = sample_before(grid.times_s, SAMPLE_RATE_HZ)
    half = int(window_s * SAMPLE_RATE_HZ) // 2 - 1
    period = int(SAMPLE_RATE_HZ / settings.floor_hz)
    longest = 2 * half // _PERIODS + 2
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, 2 * half + 1) / (2 * half + 1))).astype(np.float32)
    means = local_means(sound, centre, period).astype(np.float32)
    x: Singles = (cut(sound.astype(np.float32), centre + 1 - half, 2 * half) - means[:, None]) * window
    near = slice(max(0, half - (period // 2 + 1)), half + period // 2 + 1)
    loudness = np.minimum(np.abs(x[:, near]).max(axis=1) / loudest, 1.0)

    own = correlation(x, x, longest, settings.fineness)
    fading = correlation(window[None], window[None], longest, settings.fineness)[0]
    power = own[:, :1]
    r = own * (fading[0] / fading) / np.where(power > 0, power, np.inf).astype(np.float32)
    found = peaks(r, 0.5 * settings.voicing, settings.fineness)
    height = np.where(found.height > 1, 1 / found.height, found.height)
    f_hz, strength = _strongest(found.frame, SAMPLE_RATE_HZ / found.lag, height, grid.count, settings)
    return PitchTrack(grid, _best_path(f_hz, strength, loudness, settings))


def _strongest(frame: Ints, f_hz: Reals, height: Reals, count: int, settings: PitchSettings) -> tuple[Reals, Reals]:
    """Sorts the candidates into [frames, places]; keeps the strongest where there are too many. Place 0 is no voice."""
    rank = height + settings.octave_cost * np.log2(f_hz / settings.floor_hz)
    order = np.lexsort((-rank, frame))
    frame, f_hz, height = frame[order], f_hz[order], height[order]
    first = np.searchsorted(frame, np.arange(count))
    place = 1 + np.arange(len(frame)) - first[frame]
    # A pitch above the ceiling takes a place, as in Praat, but is no voice.
    kept = (place < settings.candidates) & (f_hz < settings.ceiling_hz)
    places = int(place[kept].max(initial=0)) + 1
    f_all = np.zeros((count, places))
    strength = np.full((count, places), -np.inf)
    f_all[frame[kept], place[kept]] = f_hz[kept]
    strength[frame[kept], place[kept]] = height[kept] - settings.octave_cost * np.log2(settings.ceiling_hz / f_hz[kept])
    return f_all, strength


def _best_path(f_hz: Reals, strength: Reals, loudness: Reals, settings: PitchSettings) -> Reals:
    """Gives the pitch of the strongest path through all frames (Viterbi): [frames], 0 for no voice."""
    silence = settings.silence / (1 + settings.voicing)
    strength[:, 0] = settings.voicing + np.maximum(0, 2 - loudness / silence)
    voiced = f_hz > 0
    octave = np.log2(np.where(voiced, f_hz, 1))
    correction = 0.01 / settings.step_s  # costs are meant for steps of 10 ms
    jump = settings.octave_jump_cost * correction * np.abs(octave[1:, :, None] - octave[:-1, None, :])
    cost = np.where(voiced[1:, :, None] & voiced[:-1, None, :], jump, 0)
    cost += settings.voicing_cost * correction * (voiced[1:, :, None] ^ voiced[:-1, None, :])  # [frame, to, from]
    best = strength[0]
    came_from = np.zeros(cost.shape[:2], dtype=np.int64)
    row = np.arange(f_hz.shape[1])
    for i in range(len(cost)):
        reached = best - cost[i]
        came_from[i] = reached.argmax(axis=1)
        best = reached[row, came_from[i]] + strength[i + 1]
    path = np.empty(len(f_hz), dtype=np.int64)
    path[-1] = best.argmax()
    for i in range(len(cost) - 1, -1, -1):
        path[i] = came_from[i, path[i + 1]]
    return f_hz[np.arange(len(f_hz)), path]
