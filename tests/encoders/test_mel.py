"""Patches of mel-spectrograms: their layout, their limits, and the contract of encoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import encoder_contract, voices

from mer_agent.encoders.mel import BANDS, LONGEST_S, PATCH_FRAMES, MelEncoder, log_mel
from mer_agent.encoders.sequences import STEPS, lay_out, take_apart

MOST = STEPS[MelEncoder.feature]


def test_it_keeps_the_contract():
    encoder = MelEncoder()
    encoder_contract.check(encoder)


def test_patches_are_the_spectrogram_in_order():
    sound = voices.speech(2.0)
    row = MelEncoder().patches(sound)
    assert row is not None
    steps, there = take_apart(row[None], MOST)
    mel = log_mel(sound)
    assert mel is not None
    whole = len(mel) // PATCH_FRAMES
    assert int(there.sum()) == whole
    assert torch.equal(steps[0, :whole].reshape(-1, BANDS), mel[: whole * PATCH_FRAMES])


def test_only_eight_seconds_are_looked_at():
    sound = voices.speech(12.0)
    row = MelEncoder().patches(sound)
    assert row is not None
    assert bool(take_apart(row[None], MOST)[1].all())


def test_a_low_tone_lies_in_low_bands():
    def loudest(hz):
        row = MelEncoder().patches(voices.tone(0.5, hz, harmonics=1))
        steps, there = take_apart(row[None], MOST)
        return int(steps[0][there[0]].reshape(-1, BANDS).mean(0).argmax())

    bands = [loudest(hz) for hz in (150, 500, 2000, 6000)]
    assert bands == sorted(set(bands))


def test_a_sequence_comes_apart_as_it_was_laid_out():
    steps = torch.randn(3, 4)
    apart, there = take_apart(torch.stack([lay_out(steps, 5), lay_out(steps.repeat(3, 1), 5)]), 5)
    assert torch.equal(apart[0, :3], steps)
    assert there.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert np.isclose(float(apart[0, 3:].abs().max()), 0.0)


class TestLogMel:
    def test_a_tone_is_loudest_in_its_own_band(self) -> None:
        bands = []
        for hz in (200, 1000, 4000):
            mel = log_mel(voices.tone(0.5, hz, harmonics=1))
            assert mel is not None
            bands.append(int(mel.mean(0).argmax()))
        assert bands == sorted(set(bands))

    def test_neither_gain_nor_pauses_around_it_change_it(self) -> None:
        speech = voices.speech(1.0)
        pause = np.zeros(50 * 160, np.float32)  # whole hops, so that the frames fall on the same samples
        one, softer, later = (
            log_mel(sound) for sound in (speech, 0.1 * speech, np.concatenate([pause, speech, pause]))
        )
        assert one is not None
        assert softer is not None
        assert later is not None
        assert float((one - softer).abs().mean()) < 0.02  # what is left are bands that sink below the floor
        assert abs(len(later) - len(one)) <= 4
        middle = one[10:80]
        assert min(float((middle - later[k : k + 70]).abs().mean()) for k in range(5, 16)) < 0.05

    @pytest.mark.parametrize(
        "sound",
        [
            np.zeros(0, np.float32),
            voices.speech(0.05),
            np.zeros(16_000, np.float32),
            np.full(16_000, np.nan, np.float32),
            np.eye(1, 16_000, 8000, dtype=np.float32)[0],
        ],
        ids=["empty", "50 ms", "silence", "NaN", "one click"],
    )
    def test_there_is_none_without_sound(self, sound: np.ndarray) -> None:
        assert log_mel(sound) is None

    def test_broken_samples_and_clipping_give_numbers(self) -> None:
        broken = 50 * voices.speech(1.0)
        broken[100:110] = np.inf
        mel = log_mel(broken)
        assert mel is not None
        assert mel.isfinite().all()

    def test_hears_a_minute_and_no_more(self) -> None:
        mel = log_mel(np.tile(voices.speech(10.0), 7))
        assert mel is not None
        assert len(mel) <= LONGEST_S * 100
