"""What the voice emotion network reads, and that it reads each voice by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import needs, voices

from mer_agent.encoders import shipped, voice
from mer_agent.encoders.voice_emotion import (
    HEARING,
    LONGEST_S,
    RECOGNISER,
    VoiceEmotionEncoder,
    VoiceNetwork,
    VoiceShape,
    log_mel,
    pad,
    recipe_of,
    stack,
)
from mer_agent.errors import WeightsError
from mer_agent.streams.types import NS_PER_S, Hearing, Utterance

SHAPE = VoiceShape(channels=8, units=6, summary=5)
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
        feature="audio/emotion@3",
        recipe=recipe_of(SHAPE, LABELS),
        data="none",
        terms="none",
        figures={"none": 0},
        record={"none": 0},
    )
    return tmp_path


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


class TestNetwork:
    def test_a_batch_gives_what_each_gives_alone(self, network: VoiceNetwork) -> None:
        mels = [torch.randn(frames, 64) for frames in (5, 40, 200, 333)]
        summaries, hearings = torch.randn(4, voice.SUMMARY), torch.randn(4, HEARING)
        together = network.features(*pad(mels), summaries, hearings)
        for i, mel in enumerate(mels):
            alone = network.features(*pad([mel]), summaries[i : i + 1], hearings[i : i + 1])[0]
            assert torch.allclose(alone, together[i], atol=1e-6)

    @pytest.mark.parametrize("which", [0, 1], ids=["summary", "hearing"])
    def test_an_absent_one_is_its_own_vector_and_touches_no_other(self, network: VoiceNetwork, which: int) -> None:
        mels, there = [torch.randn(50, 64)] * 2, torch.randn(voice.SUMMARY)
        both = [stack([there, there]), stack([there, there])]
        both[which] = stack([None, there])
        absent, present = network.features(*pad(mels), *both)
        assert absent.isfinite().all()
        assert not torch.allclose(absent, present)
        assert torch.allclose(present, network.features(*pad(mels[:1]), stack([there]), stack([there]))[0], atol=1e-6)


@pytest.mark.real_weights
class TestEncoder:
    def test_gives_100_numbers_and_how_likely_each_label_is(self, folder: Path) -> None:
        needs.weights("ge2e")
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

    def test_only_the_recogniser_that_it_learned_from_is_listened_to(self, folder: Path) -> None:
        needs.weights("ge2e")
        encoder, sound = VoiceEmotionEncoder("cpu", folder), voices.speech(1.0)
        numbers = np.random.default_rng(0).standard_normal(HEARING).astype(np.float32)
        alone, by_it, by_another = encoder.encode(
            [
                Utterance("a", None, 0, NS_PER_S, audio=sound, hearing=hearing)
                for hearing in (None, Hearing(RECOGNISER, numbers), Hearing("whisper-tiny.en", numbers[:768]))
            ]
        )
        assert alone is not None
        assert by_it is not None
        assert by_another is not None
        assert torch.allclose(alone, by_another, atol=1e-6)
        assert not torch.allclose(alone, by_it, atol=1e-3)

    def test_the_speaker_encoder_hears_a_voice_once_for_both_features(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        needs.weights("ge2e")
        heard, encoder = voice.shared("cpu"), VoiceEmotionEncoder("cpu", folder)
        one = Utterance("a", None, 0, NS_PER_S, audio=voices.speech(1.0))
        heard.encode([one])
        monkeypatch.setattr(heard, "_run", lambda sounds: [pytest.fail("heard twice")] if sounds else [])
        assert encoder.encode([one])[0] is not None

    def test_weights_of_another_shape_are_refused(self, folder: Path, network: VoiceNetwork) -> None:
        shipped.save(
            folder,
            "voice",
            network.state_dict(),
            feature="audio/emotion@3",
            recipe=recipe_of(VoiceShape(channels=9), LABELS),
            data="",
            terms="",
            figures={},
            record={},
        )
        with pytest.raises(WeightsError, match="does not fit its card"):
            VoiceEmotionEncoder("cpu", folder)
