"""The GE2E voice encoder: the recipe of the embeddings that models were trained on, and what it does with bad sound."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from support import needs, voices

from mer_agent.encoders.base import Encoder
from mer_agent.encoders.voice import VoiceEncoder, raise_volume, without_silences
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Utterance

GOLDEN = Path(__file__).with_name("voice_golden.npz")
DATA_DIR = Path(os.environ.get("MER_DATA_DIR", "../shared/data"))


@pytest.fixture(scope="module")
def encoder() -> VoiceEncoder:
    torch.set_num_threads(1)
    return VoiceEncoder("cpu", needs.weights("ge2e"))


def utterance(audio: np.ndarray | None) -> Utterance:
    end_ns = 0 if audio is None else len(audio) * 62_500
    return Utterance(id="u", speaker=None, start_ns=0, end_ns=end_ns, audio=audio)


@pytest.mark.real_weights
class TestRealWeights:
    @pytest.mark.parametrize("number", range(len(voices.SAMPLES)))
    def test_agrees_with_the_original_recipe(self, encoder: VoiceEncoder, number: int) -> None:
        # Golden: the published pretrained.pt after webrtcvad-wheels 2.0.14, windows that overlap by half.
        expected = np.load(GOLDEN)["embeddings"][number]
        (found,) = encoder.encode([utterance(voices.sample(number))])
        assert found is not None
        assert float(found.numpy() @ expected) > 0.9999

    def test_is_an_encoder_that_gives_unit_vectors_on_the_cpu(self, encoder: VoiceEncoder) -> None:
        (found,) = encoder.encode([utterance(voices.speech(2))])
        assert isinstance(encoder, Encoder)
        assert found is not None
        assert (found.shape, found.dtype, found.device.type) == ((encoder.dimension,), torch.float32, "cpu")
        assert float(found.norm()) == pytest.approx(1, abs=1e-5)
        assert not found.requires_grad

    def test_hears_a_sound_once_and_forgets_it_when_told(
        self, encoder: VoiceEncoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs, run = [], encoder._run
        monkeypatch.setattr(encoder, "_run", lambda sounds: runs.append(len(sounds)) or run(sounds))
        sound = voices.speech(2)
        for forgets in (False, False, True):
            if forgets:
                encoder.forget()
                assert not encoder._recent
            assert encoder.windows([sound])[0] is not None
        assert runs == [1, 0, 1]

    def test_a_batch_gives_what_each_gives_alone(self, encoder: VoiceEncoder) -> None:
        sounds = [
            voices.sample(0),
            None,
            voices.speech(0.8, pitch_hz=200),
            np.zeros(16_000, np.float32),
            voices.sample(2),
        ]
        together = encoder.encode([utterance(sound) for sound in sounds])
        for sound, found in zip(sounds, together, strict=True):
            (alone,) = encoder.encode([utterance(sound)])
            assert (alone is None) == (found is None)
            if alone is not None and found is not None:
                assert torch.allclose(alone, found, atol=1e-5)

    def test_the_same_voice_is_nearer_than_another(self, encoder: VoiceEncoder) -> None:
        man = [voices.speech(3, pitch_hz=110, throat=0.95, seed=seed) for seed in (1, 2)]
        woman = voices.speech(3, pitch_hz=220, throat=1.2, seed=3)
        first, second, other = encoder.encode([utterance(sound) for sound in (*man, woman)])
        assert first is not None
        assert second is not None
        assert other is not None
        assert float(first @ second) > float(first @ other) + 0.1

    def test_is_not_moved_by_soft_recording(self, encoder: VoiceEncoder) -> None:
        sound = voices.speech(2, breath_db=-80)
        usual, soft = encoder.encode([utterance(sound), utterance(0.05 * sound)])
        assert usual is not None
        assert soft is not None
        assert float(usual @ soft) > 0.9

    def test_broken_samples_are_heard_as_silence(self, encoder: VoiceEncoder) -> None:
        broken = voices.speech(2)
        broken[1000:1010], broken[5000], broken[6000] = np.nan, np.inf, -np.inf
        whole = np.where(np.isfinite(broken), broken, 0).astype(np.float32)
        found, expected = encoder.encode([utterance(broken), utterance(whole)])
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected)

    def test_clipped_sound_still_has_a_voice(self, encoder: VoiceEncoder) -> None:
        (found,) = encoder.encode([utterance(40 * voices.speech(2))])
        assert found is not None
        assert bool(torch.isfinite(found).all())

    @pytest.mark.parametrize(
        "sound",
        [
            pytest.param(None, id="absent"),
            pytest.param(np.zeros(0, np.float32), id="empty"),
            pytest.param(np.zeros(32_000, np.float32), id="digital silence"),
            pytest.param(np.full(32_000, np.nan, np.float32), id="nothing but NaN"),
            pytest.param(voices.speech(0.15), id="too short"),
        ],
    )
    def test_is_absent_where_there_is_too_little_speech(self, encoder: VoiceEncoder, sound: np.ndarray | None) -> None:
        assert encoder.encode([utterance(sound)]) == [None]

    def test_no_utterances_give_no_embeddings(self, encoder: VoiceEncoder) -> None:
        assert encoder.encode([]) == []

    @pytest.mark.skipif(not (DATA_DIR / "speech/emodb_ge2e.npz").is_file(), reason="MER_DATA_DIR holds no EmoDB")
    def test_agrees_with_published_embeddings_where_the_data_is_at_hand(self, encoder: VoiceEncoder) -> None:
        table = np.load(DATA_DIR / "speech/emodb_ge2e.npz")
        cosines = []
        for name, expected in zip(table["id"][::10], table["embedding"][::10].astype(np.float32), strict=True):
            with av.open(DATA_DIR / f"speech/emodb/{name}.flac") as file:
                pcm = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
            sound = (pcm / 32768).astype(np.float32)
            (found,) = encoder.encode_sounds([sound])
            assert found is not None
            cosines.append(float(found.numpy() @ expected) / float(np.linalg.norm(expected)))
        assert np.mean(cosines) >= 0.995
        assert min(cosines) >= 0.96


class TestWithoutWeights:
    def test_absent_weights_say_how_to_get_them(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="mer-agent weights pull ge2e"):
            VoiceEncoder("cpu", tmp_path)

    def test_truncated_weights_say_how_to_get_them(self, tmp_path: Path) -> None:
        (tmp_path / "ge2e.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
        with pytest.raises(WeightsError, match="mer-agent weights pull ge2e"):
            VoiceEncoder("cpu", tmp_path)

    def test_raises_soft_sound_to_minus_30_dbfs_and_leaves_loud_sound_alone(self) -> None:
        soft, loud = voices.tone(1, 200, level_db=-50), voices.tone(1, 200, level_db=-10)
        raised = raise_volume(soft)
        assert 10 * np.log10(np.mean(raised**2)) == pytest.approx(-30, abs=0.01)
        assert np.array_equal(raise_volume(loud), np.clip(loud, -1, 1))

    def test_does_not_change_its_input(self) -> None:
        sound = voices.speech(1, level_db=-50)
        before = sound.copy()
        without_silences(raise_volume(sound))
        assert np.array_equal(sound, before)

    def test_cuts_long_silences_and_keeps_short_ones(self) -> None:
        first, second = voices.speech(1.5, breath_db=-70), voices.speech(1.5, breath_db=-70, seed=1)
        short = np.concatenate([first, voices.silence(0.15, breath_db=-70), second])
        long = np.concatenate([first, voices.silence(2.0, breath_db=-70), second])
        assert len(without_silences(short)) >= len(short) - 960
        assert len(first) + len(second) - 4000 < len(without_silences(long)) < len(first) + len(second) + 8000
