"""Voices of which little is known, brought to where the voice network has them."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
import torch

from mer_agent.encoders.voice import VoiceEncoder
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder, VoiceNetwork, VoiceShape
from mer_agent.encoders.whisper_layers import MEANS
from mer_agent.models.data.speech_data import CORPORA, FURTHER, LABELS, Clip
from mer_agent.models.live.live_speech import VERSIONS, Speech, by_embedding, load
from mer_agent.models.perception import train_voice
from mer_agent.models.perception.speech_bank import ALONE, KINDS, Example


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    """Two clips of each corpus, and networks that are all alike but for what the shipped one adds."""
    random = torch.Generator().manual_seed(0)
    examples = [
        Example(
            Clip(Path(f"{corpus}{i}.wav"), corpus, "", i, i),
            torch.randn(KINDS, MEANS, generator=random),
            tuple({name: None if copy else torch.ones(8) for name in ALONE} for copy in range(KINDS)),
        )
        for corpus in (*CORPORA, *FURTHER)
        for i in range(2)
    ]
    networks = collections.defaultdict(lambda: VoiceNetwork(len(LABELS), VoiceShape(units=8)))
    monkeypatch.setattr(train_voice, "runs_beside_shipped", lambda data, folder, names, say: (examples, networks))
    return examples


def test_voices_of_further_corpora_stand_apart_as_recorded_distorted_and_brief(
    tmp_path: Path, heard: list[Example]
) -> None:
    learned, strange = load(tmp_path, tmp_path, print)
    own, many = 2 * len(CORPORA), 2 * len(FURTHER)
    assert [clip.corpus for clip in learned.clips] == [corpus for corpus in CORPORA for _ in range(2)]
    assert learned.values[VoiceEmotionEncoder.feature].shape == (*VERSIONS, own, 100)
    assert strange is not None
    assert [clip.label for clip in strange.clips] == [0, 1] * len(FURTHER) * 3
    assert strange.values[VoiceEmotionEncoder.feature].shape == (1, 1, 3 * many, 100)
    assert strange.present[VoiceEncoder.feature].flatten().tolist() == [True] * many + [False] * 2 * many


def test_without_further_corpora_there_are_no_unknown_voices(tmp_path: Path, heard: list[Example]) -> None:
    del heard[2 * len(CORPORA) :]
    learned, strange = load(tmp_path, tmp_path, print)
    assert len(learned.clips) == 2 * len(CORPORA)
    assert strange is None


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
