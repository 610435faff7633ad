"""Voices of which little is known, brought to where the voice network has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mer_agent.encoders.voice import SUMMARY, VoiceEncoder
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder
from mer_agent.models.data import speech_data
from mer_agent.models.data.speech_data import FURTHER, Clip
from mer_agent.models.live.live_speech import VERSIONS, Speech, by_embedding, unknown
from mer_agent.models.perception import speech_bank
from mer_agent.models.perception.speech_bank import ALONE, KINDS, Example


def test_unknown_voices_stand_as_recorded_distorted_and_brief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bank(clips: list[Clip], folder: Path, say: object) -> list[Example]:
        random = torch.Generator().manual_seed(len(clips[0].corpus))
        summaries = torch.randn(len(clips), KINDS, SUMMARY, generator=random)
        mels = (torch.zeros(20, 64).half(),) * KINDS
        alone = [{name: None if copy else torch.ones(8) for name in ALONE} for copy in range(KINDS)]
        return [Example(clip, mels, own, own, tuple(alone)) for clip, own in zip(clips, summaries, strict=True)]

    def read(folder: Path, corpora: tuple[str, ...]) -> list[Clip]:
        return [Clip(Path(f"{corpora[0]}{i}.wav"), corpora[0], "", i, 0) for i in range(2)]

    monkeypatch.setattr(speech_bank, "load", bank)
    monkeypatch.setattr(speech_data, "load", read)
    said: list[str] = []
    assert unknown(tmp_path, tmp_path, said.append) is None
    assert len(said) == len(FURTHER), "each is told of, and where it is kept"
    for corpus in FURTHER:
        (tmp_path / "speech" / corpus).mkdir(parents=True)
    speech = unknown(tmp_path, tmp_path, said.append)
    assert speech is not None
    many = 2 * len(FURTHER)
    assert [clip.label for clip in speech.clips] == [0, 1] * len(FURTHER) * 3
    assert speech.values[VoiceEmotionEncoder.feature].shape == (1, 1, 1, 3 * many, 100)
    assert speech.present[VoiceEncoder.feature].flatten().tolist() == [True] * many + [False] * 2 * many


def test_a_voice_is_told_by_its_embedding_as_far_as_that_goes() -> None:
    random = torch.Generator().manual_seed(0)
    many, weight = 400, torch.randn(6, 4, generator=random)
    embeddings, noise = torch.randn(many, 6, generator=random), 0.1 * torch.randn(many, 4, generator=random)
    voices = embeddings @ weight + 2 + noise
    values = {VoiceEncoder.feature: embeddings, VoiceEmotionEncoder.feature: voices}
    speech = Speech((), {name: value.expand(*VERSIONS, *value.shape) for name, value in values.items()}, {})
    rows, new = torch.arange(0, many, 2), torch.randn(50, 6, generator=random)
    known, rest = by_embedding(speech, rows, new)
    assert torch.allclose(known, new @ weight + 2, atol=0.1)
    assert torch.allclose(rest, noise[rows], atol=0.1)
    assert known.shape == (50, 4)
