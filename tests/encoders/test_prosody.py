"""The eight descriptors: what they say of known sounds, and what Praat says of the same."""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np
import pytest
import torch
from support import voices

from mer_agent.encoders.base import Encoder
from mer_agent.encoders.prosody import DESCRIPTORS, ProsodyEncoder, describe
from mer_agent.streams.types import NS_PER_S, Utterance


def values(sound: np.ndarray) -> dict[str, float]:
    found = describe(sound)
    assert found is not None
    return dict(zip(DESCRIPTORS, found.tolist(), strict=True))


def utterance(audio: np.ndarray | None, seconds: float = 1.0) -> Utterance:
    return Utterance(id="u", speaker=None, start_ns=0, end_ns=round(seconds * NS_PER_S), audio=audio)


@pytest.mark.parametrize("pitch_hz", [80.0, 120.0, 220.0, 440.0, 590.0])
def test_hears_the_pitch_of_a_tone(pitch_hz: float) -> None:
    found = values(voices.tone(1.0, pitch_hz))
    assert found["pitch_hz_mean"] == pytest.approx(pitch_hz, rel=1e-3)
    assert found["pitch_hz_range"] < 1
    assert found["pitch_hz_deviation"] < 1
    assert found["hnr_db_mean"] > 25


def test_pitch_moves_with_the_voice() -> None:
    found = values(voices.speech(3, pitch_hz=200))  # sways by a tenth to either side
    assert found["pitch_hz_mean"] == pytest.approx(200, rel=0.03)
    assert found["pitch_hz_range"] == pytest.approx(40, rel=0.15)


def test_loudness_is_that_of_the_sound_and_follows_its_gain() -> None:
    full_scale_db = 20 * np.log10(1 / 2e-5)
    tone = values(voices.tone(1.0, 200, level_db=-20))
    assert tone["intensity_db_mean"] == pytest.approx(full_scale_db - 20, abs=0.1)
    speech = voices.speech(2)
    usual, soft = values(speech), values(0.1 * speech)
    assert soft["intensity_db_mean"] == pytest.approx(usual["intensity_db_mean"] - 20, abs=1e-3)
    for name in DESCRIPTORS[2:]:
        assert soft[name] == pytest.approx(usual[name], rel=1e-3, abs=1e-3)


def test_loudness_of_speech_deviates_more_than_that_of_a_tone() -> None:
    assert values(voices.tone(1, 200))["intensity_db_deviation"] < 0.1
    assert values(voices.speech(2))["intensity_db_deviation"] > 3


@pytest.mark.parametrize("syllables_hz", [2.0, 3.0, 5.0])
def test_counts_syllables(syllables_hz: float) -> None:
    # The last peak has no dip after it that another peak ends, so that one syllable in all is missing.
    found = values(voices.speech(4, syllables_hz=syllables_hz))
    assert found["articulation_rate_hz"] == pytest.approx(syllables_hz - 0.25, abs=0.3)


def test_pauses_don_t_slow_articulation_down() -> None:
    part = voices.speech(2, syllables_hz=4, breath_db=-70)
    paused = np.concatenate([part, voices.silence(2, breath_db=-70), part])
    assert values(paused)["articulation_rate_hz"] == pytest.approx(values(part)["articulation_rate_hz"], rel=0.15)


def test_noise_makes_a_voice_less_clear() -> None:
    clear, rough = (values(voices.speech(2, breath_db=level_db))["hnr_db_mean"] for level_db in (-70, -35))
    assert clear > rough + 3


def test_what_is_not_voiced_has_no_pitch() -> None:
    found = values(voices.silence(1.0, breath_db=-30))
    assert all(np.isnan(found[name]) for name in DESCRIPTORS if name.startswith("pitch"))
    assert np.isnan(found["articulation_rate_hz"])
    assert np.isfinite(found["intensity_db_mean"])


@pytest.mark.parametrize("samples", [1, 100, 500, 1023])
def test_a_moment_of_sound_has_a_length_and_little_else(samples: int) -> None:
    found = values(voices.tone(1.0, 200)[1 : 1 + samples])
    assert found["duration_s"] == pytest.approx(samples / 16_000)
    assert np.isnan(found["intensity_db_mean"])
    assert np.isnan(found["articulation_rate_hz"])


def test_digital_silence_around_speech_is_no_deep_dip_in_loudness() -> None:
    speech = voices.speech(2)
    cut_off = np.concatenate([np.zeros(8000, np.float32), speech, np.zeros(8000, np.float32)])
    assert values(cut_off)["intensity_db_deviation"] < 40


class TestEncoder:
    def test_gives_eight_numbers_on_the_cpu(self) -> None:
        encoder = ProsodyEncoder()
        (found,) = encoder.encode([utterance(voices.speech(2))])
        assert isinstance(encoder, Encoder)
        assert found is not None
        assert (found.shape, found.dtype, found.device.type) == ((encoder.dimension,), torch.float32, "cpu")
        assert float(found[0]) == 2.0

    def test_hears_the_speech_without_its_padding(self) -> None:
        # Padding that is digital silence would make every intensity deviation a huge one.
        speech, padding = voices.speech(1), np.zeros(3200, np.float32)
        start_ns = NS_PER_S // 5
        alone = utterance(speech)
        padded = Utterance(
            id="u",
            speaker=None,
            start_ns=start_ns,
            end_ns=start_ns + NS_PER_S,
            audio=np.concatenate([padding, speech, padding]),
            audio_start_ns=0,
        )
        one, other = ProsodyEncoder().encode([alone, padded])
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)

    def test_a_batch_gives_what_each_gives_alone(self) -> None:
        utterances = [utterance(voices.speech(1)), utterance(None), utterance(voices.speech(2, pitch_hz=210))]
        encoder = ProsodyEncoder()
        for one, found in zip(utterances, encoder.encode(utterances), strict=True):
            (alone,) = encoder.encode([one])
            assert (alone is None) == (found is None)
            if alone is not None and found is not None:
                assert torch.allclose(alone, found, atol=1e-5, equal_nan=True)

    @pytest.mark.parametrize(
        "sound", [None, np.zeros(0, np.float32), np.zeros(16_000, np.float32), np.full(16_000, np.nan, np.float32)]
    )
    def test_is_absent_where_there_is_no_sound(self, sound: np.ndarray | None) -> None:
        assert ProsodyEncoder().encode([utterance(sound)]) == [None]

    def test_broken_samples_are_heard_as_silence(self) -> None:
        broken = voices.speech(2)
        broken[1000:1010], broken[5000], broken[6000] = np.nan, np.inf, -np.inf
        whole = np.where(np.isfinite(broken), broken, 0).astype(np.float32)
        found, expected = ProsodyEncoder().encode([utterance(broken), utterance(whole)])
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected)

    def test_clipping_gives_numbers_all_the_same(self) -> None:
        (found,) = ProsodyEncoder().encode([utterance(np.clip(20 * voices.speech(2), -1, 1))])
        assert found is not None
        assert bool(torch.isfinite(found).all())


@pytest.fixture(scope="module")
def praat() -> ModuleType:
    if os.environ.get("CI") != "true":
        pytest.importorskip("parselmouth", reason="praat-parselmouth is not installed")
    import parselmouth

    return parselmouth


SOUNDS = {
    "a man": voices.sample(0),
    "a woman, soft and short": voices.sample(1),
    "a pause in the middle": voices.sample(2),
    "a child": voices.speech(2.5, pitch_hz=330, throat=1.35, seed=5),
    "hoarse": voices.speech(2.5, pitch_hz=140, breath_db=-35, seed=6),
    "fast": voices.speech(3, pitch_hz=180, throat=1.1, syllables_hz=6, seed=7),
    "a steady tone": voices.tone(1.0, 160.0),
}


class TestAgainstPraat:
    """The program whose numbers these are. It is an oracle here; the package never imports it."""

    @pytest.mark.parametrize("name", SOUNDS)
    def test_loudness(self, praat: ModuleType, name: str) -> None:
        found, intensity = values(SOUNDS[name]), praat.Sound(SOUNDS[name].astype(float), 16_000).to_intensity()
        mean_db = praat.praat.call(intensity, "Get mean", 0, 0, "energy")
        deviation_db = praat.praat.call(intensity, "Get standard deviation", 0, 0)
        assert found["intensity_db_mean"] == pytest.approx(mean_db, abs=0.05)
        assert found["intensity_db_deviation"] == pytest.approx(deviation_db, abs=0.05)

    @pytest.mark.parametrize("name", SOUNDS)
    def test_pitch(self, praat: ModuleType, name: str) -> None:
        found, pitch = values(SOUNDS[name]), praat.Sound(SOUNDS[name].astype(float), 16_000).to_pitch()
        mean_hz = praat.praat.call(pitch, "Get mean", 0, 0, "Hertz")
        deviation_hz = praat.praat.call(pitch, "Get standard deviation", 0, 0, "Hertz")
        voiced_hz = pitch.selected_array["frequency"][pitch.selected_array["frequency"] > 0]
        assert found["pitch_hz_mean"] == pytest.approx(mean_hz, rel=2e-3)
        assert found["pitch_hz_deviation"] == pytest.approx(deviation_hz, rel=0.05, abs=0.1)
        assert found["pitch_hz_range"] == pytest.approx(np.ptp(voiced_hz), rel=0.05, abs=0.5)

    @pytest.mark.parametrize("name", SOUNDS)
    def test_clearness(self, praat: ModuleType, name: str) -> None:
        found, clearness = values(SOUNDS[name]), praat.Sound(SOUNDS[name].astype(float), 16_000).to_harmonicity()
        mean_db = praat.praat.call(clearness, "Get mean", 0, 0)
        if mean_db > 40:  # no voice is; there 1 - r is made of the interpolation's last digits
            assert found["hnr_db_mean"] > 40
        else:
            assert found["hnr_db_mean"] == pytest.approx(mean_db, abs=0.5)
