"""What the voice emotion network reads, and that it reads each voice by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import needs, voices

from mer_agent.encoders import shipped, whisper_layers
from mer_agent.encoders.base import hears_recogniser
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder, VoiceNetwork, VoiceShape, recipe_of
from mer_agent.encoders.whisper_layers import MEANS
from mer_agent.errors import WeightsError
from mer_agent.streams.types import NS_PER_S, Hearing, Utterance

SHAPE = VoiceShape(units=6)
LABELS = ("glad", "sad", "neither")


@pytest.fixture
def network() -> VoiceNetwork:
    torch.manual_seed(0)
    return VoiceNetwork(len(LABELS), SHAPE).eval()


@pytest.fixture
def folder(tmp_path: Path, network: VoiceNetwork) -> Path:
    shipped.save(
        tmp_path,
        "voice",
        network.state_dict(),
        feature="audio/emotion@6",
        recipe=recipe_of(SHAPE, LABELS),
        data="none",
        terms="none",
        figures={"none": 0},
        record={"none": 0},
    )
    return tmp_path


def test_each_voice_of_a_batch_is_read_by_itself(network: VoiceNetwork) -> None:
    heard = torch.randn(4, MEANS)
    assert torch.allclose(network.features(heard)[2:3], network.features(heard[2:3]), atol=1e-6)


def test_numbers_count_by_how_they_spread_and_none_counts_too_much(network: VoiceNetwork) -> None:
    heard = 3 + 2 * torch.randn(200, MEANS)
    heard[7] = float("nan")  # a clip of which nothing was heard
    network.standardise(heard)
    assert torch.allclose(network.mean, torch.full((MEANS,), 3.0), atol=0.7)
    assert torch.allclose(network.deviation, torch.full((MEANS,), 2.0), atol=0.5)
    far = heard[:1].clone()
    far[0, 0] = network.mean[0] + 5 * network.deviation[0]
    farther = far.clone()
    farther[0, 0] = 1e6
    torch.testing.assert_close(network.features(far), network.features(farther))


@pytest.mark.real_weights
class TestEncoder:
    def test_gives_100_numbers_and_how_likely_each_label_is(self, folder: Path) -> None:
        needs.weights(whisper_layers.WEIGHTS)
        encoder = VoiceEmotionEncoder("cpu", folder)
        some = [Utterance("a", None, 0, NS_PER_S, audio=voices.speech(1.0)), Utterance("b", None, 0, NS_PER_S)]
        vector, absent = encoder.encode(some)
        assert vector is not None
        assert vector.shape == (100,)
        assert absent is None
        likely = encoder.probabilities(some)[0]
        assert likely is not None
        assert float(likely.sum()) == pytest.approx(1.0, abs=1e-5)
        assert encoder.labels == LABELS

    def test_who_transcribes_makes_no_difference(self, folder: Path) -> None:
        needs.weights(whisper_layers.WEIGHTS)
        encoder = VoiceEmotionEncoder("cpu", folder)
        one = Utterance("a", None, 0, NS_PER_S, audio=voices.speech(1.0))
        told = replace(one, hearing=Hearing("whisper-base", np.ones((12, 512), np.float32)))
        alone, beside = encoder.encode([one, told])
        assert alone is not None
        assert beside is not None
        assert torch.equal(alone, beside)
        assert not hears_recogniser(encoder), "so nobody has to wait for words"

    def test_weights_of_another_shape_are_refused(self, folder: Path, network: VoiceNetwork) -> None:
        shipped.save(
            folder,
            "voice",
            network.state_dict(),
            feature="audio/emotion@6",
            recipe=recipe_of(VoiceShape(units=9), LABELS),
            data="",
            terms="",
            figures={},
            record={},
        )
        with pytest.raises(WeightsError, match="does not fit its card"):
            VoiceEmotionEncoder("cpu", folder)
