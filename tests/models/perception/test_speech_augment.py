"""Distorted voices are still those voices."""

from __future__ import annotations

import numpy as np
import pytest
from support import voices

from mer_agent.models.perception.speech_augment import _tones, add, distort, opus, reverberate, telephone


@pytest.mark.parametrize("codec", [opus, telephone])
def test_a_codec_keeps_time_and_loudness(codec) -> None:
    sound = voices.speech(1.5, pitch_hz=150)
    heard = codec(sound)
    assert heard.shape == sound.shape
    assert np.corrcoef(heard, sound)[0, 1] > 0.8
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(sound**2)), rel=0.2)


def test_a_telephone_has_nothing_above_4_khz() -> None:
    spectrum = np.abs(np.fft.rfft(telephone(voices.silence(1.0, breath_db=-20))))
    assert spectrum[4100:].max() < 1e-3 * spectrum[500:3500].mean()


def test_noise_is_as_far_below_as_asked() -> None:
    sound, noise = voices.speech(1.0), voices.silence(1.0, breath_db=-10)
    assert 10 * np.log10(np.mean(sound**2) / np.mean((add(sound, noise, 12.0) - sound) ** 2)) == pytest.approx(
        12, abs=0.1
    )


def test_a_room_only_adds_what_comes_later() -> None:
    click = np.zeros(16_000, np.float32)
    click[4000] = 0.5
    wet = reverberate(click, 0.4, np.random.default_rng(0))
    assert np.abs(wet[:4000]).max() < 1e-6
    assert wet[4000] == pytest.approx(0.5, abs=1e-6)
    assert np.abs(wet[4001:8000]).max() > 1e-3


@pytest.mark.parametrize("seed", range(6))
def test_tones_stand_out_of_the_noise_between_them(seed: int) -> None:
    spectrum = np.abs(np.fft.rfft(_tones(32_000, np.random.default_rng(seed))))
    assert np.isfinite(spectrum).all()
    assert np.sort(spectrum)[-20:].mean() > 20 * np.median(spectrum)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 2.0])
def test_distortion_gives_finite_sound_of_the_same_length(seconds: float) -> None:
    sound, others = voices.speech(seconds), voices.speech(1.0, pitch_hz=210)
    for seed in range(8):
        heard = distort(sound, others, np.random.default_rng(seed))
        assert heard.shape == sound.shape
        assert np.isfinite(heard).all()


def test_the_same_chances_give_the_same_sound() -> None:
    first, again = (distort(voices.speech(1.0), voices.speech(0.5), np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, again)
