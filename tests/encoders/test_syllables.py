"""Syllables in a second of speech, on sounds whose syllables one can count."""

from __future__ import annotations

import numpy as np
import pytest
from support import voices

from mer_agent.encoders.syllables import articulation_rate_hz


def bursts(*gains: float, gap_s: float = 0.12, vowel_s: float = 0.14, voiced: bool = True) -> np.ndarray:
    """A vowel (or hiss) for each gain, gaps between them."""
    swell = np.sin(np.pi * np.linspace(0, 1, round(vowel_s * 16_000))) ** 2
    vowel = voices.tone(vowel_s, 150) if voiced else voices.silence(vowel_s, breath_db=-20)
    gap = voices.silence(gap_s, breath_db=-65)
    return np.concatenate([gap, *(part for gain in gains for part in (gain * swell * vowel, gap))]).astype(float)


def test_each_vowel_is_a_syllable_but_the_last() -> None:
    # The method wants a further peak after each dip, so that the last vowel stays out.
    sound = bursts(1, 1, 1, 1, 1, 1)
    assert articulation_rate_hz(sound) == pytest.approx(5 / (len(sound) / 16_000), rel=0.01)


def test_a_pause_is_no_time_of_speech() -> None:
    part = bursts(1, 1, 1, 1)
    pause = voices.silence(1.5, breath_db=-65).astype(float)
    rate_hz = articulation_rate_hz(np.concatenate([part, pause, part]))
    assert 7 / (2 * len(part) / 16_000 + 0.2) < rate_hz < 7 / (2 * len(part) / 16_000 - 0.5)


def test_hiss_is_no_syllable() -> None:
    assert np.isnan(articulation_rate_hz(bursts(1, 1, 1, 1, voiced=False)))


def test_what_is_25_db_softer_than_the_rest_is_no_syllable() -> None:
    silent, murmured, spoken = (articulation_rate_hz(bursts(1, 1, gain, gain, 1, 1)) for gain in (0.001, 0.03, 0.3))
    assert murmured == pytest.approx(silent, rel=0.02)
    assert spoken == pytest.approx(5 / (len(bursts(*range(6))) / 16_000), rel=0.02)


def test_one_vowel_alone_is_none() -> None:
    assert np.isnan(articulation_rate_hz(bursts(1)))


@pytest.mark.parametrize("samples", [0, 1, 1600, 2300])
def test_too_short_a_sound_has_none(samples: int) -> None:
    assert np.isnan(articulation_rate_hz(voices.tone(1, 150)[:samples].astype(float)))
