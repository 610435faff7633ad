"""Mixing two voices and learning to notice them: what is made is what it says, and drawn windows are learned."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from support import voices

from mer_agent.encoders import voice
from mer_agent.models.data.speech_data import Clip
from mer_agent.models.perception.fit_overlap import ALARMS, Heard, Mixer, calibrate, figures, fit
from mer_agent.streams.types import SAMPLE_RATE_HZ


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Three clips of each of three speakers, the middle of each is speech."""
    made = []
    for number in range(9):
        speaker, path = f"ravdess-{number % 3:02d}", tmp_path / f"{number}.wav"
        sound = voices.speech(1.0 + number / 10, pitch_hz=100 + 60 * (number % 3), seed=number)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            file.writeframes((np.pad(sound, 4000) * 32767).astype("<i2").tobytes())
        made.append(Clip(path, "ravdess", speaker, 0, 0))
    return made


@pytest.mark.parametrize("distorted", [0.0, 1.0])
def test_sounds_say_where_two_voices_are_in_them(clips: list[Clip], distorted: float) -> None:
    mixer = Mixer(clips, seed=1, distorted=distorted, ratios_db=(0, 10))
    kinds = set()
    for _ in range(60):
        kind, sound, both, ratio_db = mixer.make()
        assert sound.dtype == np.float32
        assert len(both) == len(sound)
        assert np.isfinite(sound).all()
        assert both.any() == (kind in ("within", "into"))
        assert ratio_db in (0, 10)
        if kind == "into":
            assert both.sum() <= 1.5 * SAMPLE_RATE_HZ
        kinds.add(kind)
    assert kinds == {"one", "turns", "within", "into"}


def test_the_same_seed_makes_the_same_sounds(clips: list[Clip]) -> None:
    one, other = (Mixer(clips, seed=3, distorted=1.0) for _ in range(2))
    for _ in range(5):
        np.testing.assert_array_equal(one.make()[1], other.make()[1])


def drawn(sounds: int, seed: int) -> Heard:
    """Three windows of each sound; with two voices some numbers of one of them are greater."""
    random = torch.Generator().manual_seed(seed)
    windows = torch.randn(3 * sounds, voice.SUMMARY, generator=random)
    two = torch.arange(sounds) % 2 == 1
    both_s = torch.zeros(sounds, 3)
    both_s[two, 1] = 1.0
    windows[both_s.flatten() > 0, :64] += 1.0
    kind = np.array(["one", "within", "turns", "within"])[np.arange(sounds) % 4]
    return Heard(windows, both_s.flatten(), torch.arange(sounds).repeat_interleave(3), kind, np.zeros(sounds))


def test_learns_what_two_voices_are_and_keeps_to_the_false_alarms_asked_for() -> None:
    network = fit(drawn(1500, seed=1))
    chosen = drawn(1000, seed=2)
    calibrate(network, chosen)
    alarms = figures(network, chosen)
    assert (alarms["one"] + alarms["turns"]) / 2 <= 100 * ALARMS + 0.2
    found = figures(network, drawn(1000, seed=3))
    assert max(found["one"], found["turns"]) < 3
    assert found["within_0_db"] > 80
    assert found["area"] > 97
