"""Voices out of arithmetic: vowels of a known pitch, loudness and speed, the same on every machine."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000

# First three formants of some vowels, in Hz, of a grown man; a longer or shorter throat scales them.
_VOWELS = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]])
_BANDWIDTHS_HZ = np.array([80, 100, 150])
_CONTROL_SAMPLES = 16
"""The throat moves every millisecond."""


def speech(
    seconds: float = 2.0,
    *,
    pitch_hz: float = 120.0,
    throat: float = 1.0,
    syllables_hz: float = 4.0,
    level_db: float = -20.0,
    breath_db: float = -60.0,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Gives float32 [n] at 16 kHz: a vowel a syllable, each as loud as the last, its pitch rising and falling.

    Args:
        seconds: how long.
        pitch_hz: the middle of a pitch that sways by a tenth.
        throat: scales the formants; 1.2 sounds like a woman, 0.9 like a big man.
        syllables_hz: syllables a second.
        level_db: root mean square, dB re full scale.
        breath_db: of the noise that is always there, dB re full scale.
        seed: of the vowels and the noise.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    f0 = pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    vowels = throat * _VOWELS[rng.integers(len(_VOWELS), size=int(np.ceil(seconds * syllables_hz)) + 1)]
    place = t * syllables_hz
    sound = np.zeros_like(t)
    slow = slice(None, None, _CONTROL_SAMPLES)
    formants, slow_f0 = vowels[place[slow].astype(int)], f0[slow, None]
    for harmonic in range(1, int(4000 / pitch_hz)):
        resonance = (1 / (1 + ((harmonic * slow_f0 - formants) / _BANDWIDTHS_HZ) ** 2)).sum(axis=1)
        sound += np.repeat(resonance, _CONTROL_SAMPLES)[: len(t)] / harmonic * np.sin(harmonic * phase)
    sound *= np.sin(np.pi * (place % 1)) ** 2  # each syllable swells and fades
    sound *= 10 ** (level_db / 20) / np.sqrt(np.mean(sound**2))
    return (sound + 10 ** (breath_db / 20) * rng.standard_normal(len(t))).astype(np.float32)


def silence(seconds: float, *, breath_db: float = -60.0, seed: int = 0) -> NDArray[np.float32]:
    """Gives float32 [n] at 16 kHz of faint noise."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))
    return (10 ** (breath_db / 20) * noise).astype(np.float32)


def tone(seconds: float, pitch_hz: float, *, level_db: float = -20.0, harmonics: int = 10) -> NDArray[np.float32]:
    """Gives float32 [n] at 16 kHz: a steady sound of one pitch, its harmonics fading as 1/k."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = sum(np.sin(2 * np.pi * k * pitch_hz * t) / k for k in range(1, harmonics + 1))
    return (sound * 10 ** (level_db / 20) / np.sqrt(np.mean(np.square(sound)))).astype(np.float32)


SAMPLES = ("a man between two silences", "a woman, soft and short", "a pause in the middle")


@functools.cache
def sample(number: int) -> NDArray[np.float32]:
    """Gives one of the three sounds that golden values were computed from; changing one makes them void."""
    if number == 0:
        return np.concatenate([silence(0.7), speech(3, pitch_hz=110, throat=0.95, seed=1), silence(0.8, seed=2)])
    if number == 1:
        return speech(1.0, pitch_hz=220, throat=1.2, seed=2, syllables_hz=3, level_db=-40, breath_db=-75)
    first = speech(2, pitch_hz=170, throat=1.1, seed=3, breath_db=-50)
    second = speech(2.5, pitch_hz=180, throat=1.1, seed=4, breath_db=-50)
    return np.concatenate([first, silence(1.5, breath_db=-50), second])
