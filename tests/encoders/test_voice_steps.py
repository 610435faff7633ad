"""The speaker encoder's states as a sequence: what a step is, its limits, and the contract of encoders."""

from __future__ import annotations

import pytest
import torch
from support import encoder_contract, needs, voices

from mer_agent.encoders.sequences import STEPS, take_apart
from mer_agent.encoders.voice import VoiceEncoder
from mer_agent.encoders.voice_steps import STEP_FRAMES, VoiceStepsEncoder

pytestmark = pytest.mark.real_weights
MOST = STEPS[VoiceStepsEncoder.feature]


@pytest.fixture(scope="module")
def voice() -> VoiceEncoder:
    return VoiceEncoder("cpu", needs.weights("ge2e"))


@pytest.fixture
def encoder(voice, monkeypatch) -> VoiceStepsEncoder:
    monkeypatch.setattr("mer_agent.encoders.voice_steps.shared", lambda device: voice)
    return VoiceStepsEncoder("cpu")


def test_it_keeps_the_contract(encoder):
    encoder_contract.check(encoder)


def test_steps_are_means_over_80_ms_of_what_the_second_layer_hears(encoder, voice):
    sound = voices.speech(1.2)
    steps, there = take_apart(encoder.patches(sound)[None], MOST)
    states = voice.states(sound, MOST * STEP_FRAMES)
    assert int(there.sum()) == len(states) // STEP_FRAMES
    torch.testing.assert_close(steps[0, 1], states[STEP_FRAMES : 2 * STEP_FRAMES].mean(0))
    # One window of the embedding holds all of so short a sound: what is heard is the same but for the last frame.
    torch.testing.assert_close(voice.windows([sound])[0][0, :256], states[:-1].mean(0), atol=0.02, rtol=0)


def test_only_eight_seconds_are_heard_and_silence_not_at_all(encoder):
    assert bool(take_apart(encoder.patches(voices.speech(12.0))[None], MOST)[1].all())
    assert encoder.patches(voices.silence(2.0)) is None
