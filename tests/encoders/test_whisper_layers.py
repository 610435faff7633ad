"""The lower part of Whisper's encoder is Whisper's, and hears a sound by itself."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from support import needs, voices

from mer_agent.encoders import whisper_layers
from mer_agent.encoders.whisper_layers import LAYERS, LONGEST_S, MEANS, WEIGHTS, WIDTH, WhisperLayers
from mer_agent.errors import WeightsError


@pytest.fixture(scope="module")
def layers() -> WhisperLayers:
    needs.weights(WEIGHTS)
    return whisper_layers.shared("cpu")


@pytest.mark.real_weights
class TestRealWeights:
    def test_six_layers_of_it_hear_what_whisper_hears(self) -> None:
        """The recogniser gives its last layer's states, normalised, of half a minute; so does this, built as high."""
        import ctranslate2

        folder = needs.weights(WEIGHTS)
        mel = np.random.default_rng(0).uniform(-1, 1, (1, 80, 3000)).astype(np.float32)
        whisper = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
        expected = torch.from_numpy(np.array(whisper.encode(ctranslate2.StorageView.from_array(mel))))
        (found,) = whisper_layers._load(folder, (6,))(torch.from_numpy(mel))
        # The last layer's own norm isn't built here: what is left differs by scale and shift of each of its numbers.
        plain = torch.nn.functional.layer_norm(found, (WIDTH,))
        centred, other = (states[0] - states[0].mean(0) for states in (plain, expected))
        assert float(torch.nn.functional.cosine_similarity(centred, other, dim=0).abs().min()) > 0.999

    def test_the_means_are_those_of_its_states(self, layers: WhisperLayers) -> None:
        sound = voices.speech(2.0)
        states = layers.states(sound)
        (means,) = layers.means([sound])
        assert states is not None
        assert means is not None
        assert states.shape == (len(LAYERS), 100, WIDTH)
        assert (means.shape, means.dtype, means.device.type) == ((MEANS,), torch.float32, "cpu")
        torch.testing.assert_close(means.view(len(LAYERS), WIDTH), states.mean(1))

    def test_a_sound_among_others_is_heard_as_it_is_alone(self, layers: WhisperLayers) -> None:
        sounds = [voices.speech(seconds, seed=seed) for seed, seconds in enumerate((0.4, 1.7, 3.0))]
        for together, sound in zip(layers.means([*sounds, None]), sounds, strict=False):
            (alone,) = layers.means([sound])
            torch.testing.assert_close(together, alone)

    def test_how_far_away_the_microphone_is_makes_no_difference(self, layers: WhisperLayers) -> None:
        sound = voices.sample(0)
        near, far = layers.means([sound, 0.02 * sound])
        torch.testing.assert_close(near, far, atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize(
        "sound",
        [
            None,
            np.zeros(0, np.float32),
            voices.speech(0.05),
            np.zeros(16_000, np.float32),
            np.full(16_000, np.nan, "f"),
        ],
        ids=["none", "empty", "50 ms", "silence", "NaN"],
    )
    def test_nothing_is_heard_without_sound(self, layers: WhisperLayers, sound: np.ndarray | None) -> None:
        assert layers.means([sound]) == [None]

    def test_broken_samples_and_clipping_give_numbers(self, layers: WhisperLayers) -> None:
        broken = 50 * voices.speech(1.0)
        broken[100:110] = np.inf
        (means,) = layers.means([broken])
        assert means is not None
        assert means.isfinite().all()

    def test_half_a_minute_is_heard_and_no_more(self, layers: WhisperLayers) -> None:
        long = np.tile(voices.speech(10.0), 4)
        most, cut = layers.means([long, long[: int(LONGEST_S * 16_000)]])
        torch.testing.assert_close(most, cut)


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense" * 50, struct.pack("<I", 3) + bytes(100), struct.pack("<IH", 6, 8) + b"Whisper\0" + bytes(8)],
    ids=["empty", "nonsense", "an old format", "no tensors"],
)
def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(WeightsError, match="mer-agent weights pull whisper-base"):
        whisper_layers._load(tmp_path)


def test_a_missing_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="mer-agent weights pull whisper-base"):
        whisper_layers._load(tmp_path)
