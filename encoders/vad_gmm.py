"""Which 30 ms frames hold speech, as a two-Gaussian model of six frequency bands that follows the noise.

GE2E was trained on speech whose silences had been cut by this detector (the one of the WebRTC project, in its
strictest mode), and so were the embeddings that the fusion model learned from. Another detector cuts elsewhere, and
a cut that moves by some frames moves the embedding. That is why it is here and not Silero.

In each band the energy in decibels has two models, noise and speech, of two Gaussians each:

    p(x | model) = sum_k w_k / s_k * exp(-(x - m_k)^2 / (2 s_k^2))

A frame is speech when log2(p(x | speech) / p(x | noise)) is above 23 in one band, or its weighted sum over the
bands is at least 1100. Then the model that won moves a little towards x, and the noise model towards the lowest
energies of the last three seconds. All of it is integer arithmetic of small width in the original, and the rounding
decides some frames, so the same widths are kept here: `Qn` in a comment means that 2**n stands for 1.

Source: WebRTC `common_audio/vad` (Copyright 2012 The WebRTC project authors, BSD 3-Clause) for the method and its
parameters; this is a new implementation, vectorised over frames, bands and Gaussians.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAME_SAMPLES = 480
"""30 ms at 16 kHz."""

_Ints = NDArray[np.int64]

_WARM_UP = 64
"""Samples that each frame's filters run before it; their memory fades by 0.64 a sample, so next to nothing is left."""

_NOISE, _SPEECH = 0, 1
# [model, Gaussian, band]; bands: 80-250, 250-500, 500-1000, 1000-2000, 2000-3000, 3000-4000 Hz.
_WEIGHT = np.array(
    [
        [[34, 62, 72, 66, 53, 25], [94, 66, 56, 62, 75, 103]],
        [[48, 82, 45, 87, 50, 47], [80, 46, 83, 41, 78, 81]],
    ]
)  # Q7
_FIRST_MEAN = np.array(
    [
        [[6738, 4892, 7065, 6715, 6771, 3369], [7646, 3863, 7820, 7266, 5020, 4362]],
        [[8306, 10085, 10078, 11823, 11843, 6309], [9473, 9571, 10879, 7581, 8180, 7483]],
    ]
)  # Q7
_FIRST_DEVIATION = np.array(
    [
        [[378, 1064, 493, 582, 688, 593], [474, 697, 475, 688, 421, 455]],
        [[555, 505, 567, 524, 585, 1231], [509, 828, 492, 1540, 1079, 850]],
    ]
)  # Q7
_LEAST_DEVIATION = 384  # Q7
_BAND_WEIGHT = np.array([6, 8, 10, 12, 14, 16])
_BAND_OFFSET = np.array([368, 368, 272, 176, 176, 176])  # Q4, makes up for the halvings in the filters
_LEAST_DISTANCE = np.array([544, 544, 576, 576, 576, 576])  # Q5, speech model above noise model
# Each Gaussian's mean stays between floor and ceiling, and the model's mean below its highest. All Q7.
_FLOOR = np.array([[640], [768]])
_NOISE_CEILING = (72 + np.arange(2)[:, None] - np.arange(6)) << 7
_SPEECH_CEILING = np.array([13440, 12032, 12032, 12160, 12160, 12160])
_HIGHEST = np.array([[9216, 9088, 8960, 8832, 8704, 8576], [11392, 11392, 11520, 11520, 11520, 11520]])

_ONE_BAND_THRESHOLD = 94  # quarters of a bit
_ALL_BANDS_THRESHOLD = 1100
_LEAST_ENERGY = 10
_HANGOVER_SHORT, _HANGOVER_LONG, _LONG_AFTER = 2, 3, 6  # frames


def speech_frames(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Gives bool [n // 480]: whether each whole 30 ms frame of 16 kHz sound in -1..1 is speech."""
    n = len(samples) // FRAME_SAMPLES
    if n == 0:
        return np.zeros(0, dtype=np.bool_)
    pcm = np.round(np.clip(samples[: n * FRAME_SAMPLES], -1, 1) * 32767).astype(np.int64)
    features, loud_enough = _band_energies(_halve_rate(pcm))
    model = _Model()
    return np.array([model.is_speech(x, loud) for x, loud in zip(features, loud_enough, strict=True)], dtype=np.bool_)


def _with_warm_up(x: _Ints, frame: int) -> _Ints:
    """Gives each frame of `x` [n] with the samples before it: [_WARM_UP + frame, n // frame], time first."""
    padded = np.concatenate([np.zeros(_WARM_UP, dtype=np.int64), x])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WARM_UP + frame)[::frame]
    return np.ascontiguousarray(windows.T)


def _even_and_odd(x: _Ints, frame: int) -> _Ints:
    """Gives the even and odd samples of `x` [n] with warm-up: [_WARM_UP + frame / 2, 2, n // frame]."""
    return np.stack([_with_warm_up(x[0::2], frame // 2), _with_warm_up(x[1::2], frame // 2)], axis=1)


def _halve_rate(pcm: _Ints) -> _Ints:
    """Gives the sound at 8 kHz: the sum of two all-pass filters (0.64 and 0.17), one on every other sample."""
    x = _even_and_odd(pcm, FRAME_SAMPLES)
    coefficient = np.array([[5243], [1392]])  # Q13
    scaled = (coefficient * x) >> 14
    state = np.zeros_like(x[0])
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = (state >> 1) + scaled[i]
        state = x[i] - ((coefficient * out[i]) >> 12)
    halved = out[_WARM_UP:, 0] + out[_WARM_UP:, 1]
    return halved.T.ravel()


def _split(x: _Ints, frame: int) -> tuple[_Ints, _Ints]:
    """Gives the upper and the lower half of the band of `x` [n], each [n / 2], frame by frame."""
    pairs = _even_and_odd(x, frame)
    coefficient = np.array([[20972], [5571]])  # Q15: 0.64 and 0.17
    scaled = coefficient * pairs
    ahead = pairs << 15
    state = np.zeros_like(pairs[0])
    out = np.empty_like(pairs)
    for i in range(len(pairs)):
        if i == _WARM_UP:
            state = (state >> 16) << 16  # the original keeps 16 bits from frame to frame
        out[i] = (state + scaled[i]) >> 16
        state = ahead[i] - ((coefficient * out[i]) << 1)
    upper, lower = out[_WARM_UP:, 0].T.ravel(), out[_WARM_UP:, 1].T.ravel()
    return upper - lower, upper + lower


def _high_pass(x: _Ints, frame: int) -> _Ints:
    """Gives `x` [n], sampled at 500 Hz, without what is below 80 Hz (second order, zeros 0.4, poles 0.59)."""
    rows = _with_warm_up(x, frame)
    before = np.concatenate([np.zeros_like(rows[:2]), rows])
    zeros = 6631 * before[2:] - 13262 * before[1:-1] + 6631 * before[:-2]  # Q14
    out = np.zeros((len(rows) + 2, rows.shape[1]), dtype=np.int64)
    for i in range(len(rows)):
        out[i + 2] = (zeros[i] + 7756 * out[i + 1] - 5620 * out[i]) >> 14
    return out[_WARM_UP + 2 :].T.ravel()


def _band_energies(sound: _Ints) -> tuple[_Ints, NDArray[np.bool_]]:
    """Gives 10 log10 of each band's energy in each frame (Q4, [frames, 6]), and whether a frame is loud enough."""
    high, low = _split(sound, 240)  # 2000-4000, 0-2000
    b3000, b2000 = _split(high, 120)
    b1000, low = _split(low, 120)
    b500, low = _split(low, 60)
    b250, low = _split(low, 30)
    bands = [_high_pass(low, 15), b250, b500, b1000, b2000, b3000]
    n = len(sound) // 240
    energy = np.stack([(band.reshape(n, -1) ** 2).sum(axis=1) for band in bands], axis=1)
    bits = np.frexp(energy)[1].astype(np.int64)
    # log2 by its exponent and a straight line between powers of two.
    mantissa = np.where(bits > 15, energy >> np.maximum(bits - 15, 0), energy << np.maximum(15 - bits, 0))
    log2_q10 = 14336 + ((mantissa & 0x3FFF) >> 4)
    decibels = np.maximum(((24660 * log2_q10) >> 19) + (((bits - 15) * 24660) >> 9), 0)
    return np.where(energy > 0, decibels, 0) + _BAND_OFFSET, energy.sum(axis=1) > _LEAST_ENERGY


def _wrap(x: _Ints, bits: int) -> _Ints:
    """Gives `x` as it wraps around in a signed integer of `bits`."""
    half = 1 << (bits - 1)
    return ((x + half) & (2 * half - 1)) - half


def _divide(a: _Ints, b: _Ints) -> _Ints:
    """Gives a / b rounded towards zero; `b` is positive."""
    return np.sign(a) * (np.abs(a) // b)


def _density(x: _Ints, mean: _Ints, deviation: _Ints) -> tuple[_Ints, _Ints]:
    """Gives 1/s exp(-(x - m)^2 / 2s^2) (Q20) and (x - m) / s^2 (Q11) for each Gaussian, [2, 2, 6] both."""
    inverse = (131072 + (deviation >> 1)) // deviation  # Q10
    inverse_square = (inverse >> 2) ** 2 >> 2  # Q14
    distance = (x << 3) - mean  # Q7
    slope = _wrap((inverse_square * distance) >> 10, 16)
    exponent = (slope * distance) >> 9  # Q10
    power = (5909 * exponent) >> 12  # Q10, in powers of two
    # 2**-power as a straight line between powers of two, shifted by the whole part.
    value = (0x400 | (-power & 0x3FF)) >> np.minimum(np.maximum(((power - 1) >> 10) + 1, 0), 62)
    return np.where(exponent < 22005, inverse * value, 0), slope


class _Model:
    """The noise and speech models of one recording, as they stand after the frames so far."""

    def __init__(self) -> None:
        self.mean, self.deviation = _FIRST_MEAN.copy(), _FIRST_DEVIATION.copy()
        self.frames = 0
        self.hangover = 0
        self.in_a_row = 0
        self.lowest = np.full((6, 16), 10000)
        self.age = np.zeros((6, 16), dtype=np.int64)
        self.noise_level = np.full(6, 1600)

    def is_speech(self, x: _Ints, loud_enough: bool) -> bool:
        """Judges the next frame with band energies `x` (Q4, [6]) and learns from it."""
        if loud_enough and self._judge_and_learn(x):
            self.in_a_row += 1
            self.hangover = _HANGOVER_LONG if self.in_a_row > _LONG_AFTER else _HANGOVER_SHORT
            return True
        self.in_a_row = 0
        self.hangover -= 1
        return self.hangover >= 0

    def _judge_and_learn(self, x: _Ints) -> bool:
        density, slope = _density(x, self.mean, self.deviation)
        parts = _WEIGHT * density  # Q27
        total = parts.sum(axis=1)
        # Whole bits are enough; nothing at all counts as 2**-1.
        bits = np.frexp(np.maximum(total, 0.5))[1]
        ratio = bits[_SPEECH] - bits[_NOISE]
        speech = bool((4 * ratio).max() > _ONE_BAND_THRESHOLD or ratio @ _BAND_WEIGHT >= _ALL_BANDS_THRESHOLD)

        winner = _SPEECH if speech else _NOISE
        share = _share(parts[winner], total[winner], empty=0 if speech else 16384)
        step = _wrap((share * slope[winner]) >> 11, 16)
        global_noise = (self.mean[_NOISE] * _WEIGHT[_NOISE]).sum(axis=0) >> 6  # Q8
        self._learn_deviation(winner, x, share, slope[winner])
        if speech:
            learned = self.mean[_SPEECH] + ((((step * 6554) >> 21) + 1) >> 1)
            self.mean[_SPEECH] = np.minimum(np.maximum(learned, _FLOOR), _SPEECH_CEILING)
        else:
            self.mean[_NOISE] += (step * 655) >> 22
        followed = self.mean[_NOISE] + ((((self._follow_noise_level(x) << 4) - global_noise) * 154) >> 9)
        self.mean[_NOISE] = np.minimum(np.maximum(followed, _FLOOR), _NOISE_CEILING)
        self._keep_apart()
        self.frames += 1
        return speech

    def _learn_deviation(self, winner: int, x: _Ints, share: _Ints, slope: _Ints) -> None:
        """Widens the Gaussians of the model that won where `x` lies further out than they expect."""
        mean, deviation = self.mean[winner], self.deviation[winner]
        half = 4 if winner == _SPEECH else 0
        surprise = ((slope * (x - ((mean + half) >> 3))) >> 3) - 4096  # Q12
        if winner == _SPEECH:
            change = _wrap(_divide(_wrap((share >> 2) * surprise, 32) >> 4, deviation * 10), 16)
            learned = deviation + ((change + 128) >> 8)
        else:
            change = _wrap(_divide(_wrap(((share + 2) >> 2) * surprise, 32) >> 14, deviation), 16)
            learned = deviation + ((change + 32) >> 6)
        self.deviation[winner] = np.maximum(learned, _LEAST_DEVIATION)

    def _keep_apart(self) -> None:
        """Pushes speech and noise models apart where they are too near, and both below their highest."""
        noise, speech = (self.mean * _WEIGHT).sum(axis=1) >> 9  # Q5
        lack = np.maximum(_LEAST_DISTANCE - (speech - noise), 0)
        self.mean[_SPEECH] += (13 * lack) >> 2
        self.mean[_NOISE] -= (3 * lack) >> 2
        excess = ((self.mean * _WEIGHT).sum(axis=1) >> 7) - _HIGHEST  # Q7
        self.mean -= np.maximum(excess, 0)[:, None]

    def _follow_noise_level(self, x: _Ints) -> _Ints:
        """Gives each band's smoothed third lowest energy of the last 100 frames (Q4, [6])."""
        expired = (self.age == 100).any(axis=1)
        self.age[~expired] += 1
        for band in np.flatnonzero(expired).tolist():
            self._drop_expired(self.lowest[band], self.age[band])
        for band in range(6):
            lowest, age = self.lowest[band], self.age[band]
            at = int(np.searchsorted(lowest, x[band], side="right"))
            if at < 16:
                lowest[at + 1 :], age[at + 1 :] = lowest[at:-1].copy(), age[at:-1].copy()
                lowest[at], age[at] = x[band], 1
        if self.frames == 0:
            low, keep = np.full(6, 1600), np.zeros(6, dtype=np.int64)
        else:
            low = self.lowest[:, 2] if self.frames > 2 else self.lowest[:, 0]
            keep = np.where(low < self.noise_level, 6553, 32439)  # Q15: down fast, up slowly
        self.noise_level = ((keep + 1) * self.noise_level + (32767 - keep) * low + 16384) >> 15
        return self.noise_level

    @staticmethod
    def _drop_expired(lowest: _Ints, age: _Ints) -> None:
        """Ages the lowest energies of one band, [16] in rising order, and drops those of 100 frames ago."""
        for i in range(16):
            if age[i] != 100:
                age[i] += 1
                continue
            # As in the original, the one that moves up here doesn't age in this frame.
            lowest[i:-1], age[i:-1] = lowest[i + 1 :].copy(), age[i + 1 :].copy()
            lowest[-1], age[-1] = 10000, 101


def _share(parts: _Ints, total: _Ints, *, empty: int) -> _Ints:
    """Gives each Gaussian's share in its model's density (Q14, [2, 6]); `empty` for the first where there is none."""
    whole = total >> 12
    first = np.where(whole > 0, ((parts[0] >> 12) << 14) // np.maximum(whole, 1), empty)
    return np.stack([first, np.where(whole > 0, 16384 - first, 0)])
