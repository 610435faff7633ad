"""Voices of which little is known, brought to where the voice network has them."""

from __future__ import annotations

import torch

from mer_agent.encoders.voice import VoiceEncoder
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder
from mer_agent.models.live.live_speech import VERSIONS, Speech, by_embedding


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
