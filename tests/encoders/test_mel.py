"""Patches of mel-spectrograms: their layout, their limits, and the contract of encoders."""

from __future__ import annotations

import numpy as np
import torch
from support import encoder_contract, voices

from mer_agent.encoders.mel import BANDS, PATCH_FRAMES, MelEncoder
from mer_agent.encoders.sequences import STEPS, lay_out, take_apart
from mer_agent.encoders.voice_emotion import log_mel

MOST = STEPS[MelEncoder.feature]


def test_it_keeps_the_contract():
    encoder = MelEncoder()
    encoder_contract.check(encoder)


def test_patches_are_the_spectrogram_in_order():
    sound = voices.speech(2.0)
    row = MelEncoder().patches(sound)
    assert row is not None
    steps, there = take_apart(row[None], MOST)
    mel = log_mel(sound, BANDS)
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
