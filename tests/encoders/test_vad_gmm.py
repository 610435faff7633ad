"""The speech detector that GE2E's preprocessing asks for: the same frames as the WebRTC project's own program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import voices

from mer_agent.encoders.vad_gmm import FRAME_SAMPLES, speech_frames
from mer_agent.encoders.voice import raise_volume

GOLDEN = Path(__file__).with_name("voice_golden.npz")


@pytest.mark.parametrize("number", range(len(voices.SAMPLES)))
def test_finds_the_frames_that_webrtc_finds(number: int) -> None:
    # Golden: webrtcvad-wheels 2.0.14, mode 3, 30 ms, on the same sound at -30 dBFS.
    expected = np.load(GOLDEN)[f"speech_{number}"]
    found = speech_frames(raise_volume(voices.sample(number)))
    assert len(found) == len(expected)
    assert (found != expected).mean() <= 0.01


def test_hears_speech_and_not_the_noise_around_it() -> None:
    quiet, loud = voices.silence(1.2), voices.speech(1.2, breath_db=-60)
    found = speech_frames(np.concatenate([quiet, loud, quiet]))
    in_speech = found[41:79]
    assert in_speech.mean() > 0.9
    assert found[3:38].mean() < 0.1
    assert found[-35:].mean() < 0.2  # it holds on for three frames


@pytest.mark.parametrize("samples", [0, 1, FRAME_SAMPLES - 1])
def test_gives_no_frame_for_less_than_one(samples: int) -> None:
    assert speech_frames(np.zeros(samples, dtype=np.float32)).shape == (0,)


def test_hears_nothing_in_digital_silence() -> None:
    assert not speech_frames(np.zeros(16_000, dtype=np.float32)).any()


def test_survives_full_scale_and_clipping() -> None:
    square = np.sign(voices.tone(1.0, 150.0)).astype(np.float32) * 3
    assert speech_frames(square).shape == (33,)


def test_what_comes_later_changes_nothing_before() -> None:
    sound = voices.sample(0)
    assert (speech_frames(sound[: 40 * FRAME_SAMPLES]) == speech_frames(sound)[:40]).all()
