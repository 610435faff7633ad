"""Clips in conversations keep their features, labels and words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mer_agent.models.batch import NO_LABEL
from mer_agent.models.data.acted import words
from mer_agent.models.data.speech_data import Clip
from mer_agent.models.live import acted_rows
from mer_agent.models.live.acted_rows import JUDGED, ROW
from mer_agent.models.live.live_data import LOWER, TEXT, VOICE, filled
from mer_agent.models.perception.text_features import Conversation

MANY = 30
CLIPS = [
    Clip(Path("03-01-01-01-01-01-01.wav" if i % 2 else "03a01Fa.wav"), "ravdess" if i % 2 else "emodb", str(i), 0, 0)
    for i in range(MANY)
]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Conversation]:
    """What was given to be encoded; each text's vector is its length."""
    seen: list[Conversation] = []

    def encoded(conversations: list[Conversation]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        seen.extend(conversations)
        lengths = torch.tensor([[float(len(turn.text))] for one in conversations for turn in one.turns])
        return {name: (lengths, torch.ones(len(lengths), dtype=torch.bool)) for name in (TEXT, LOWER)}

    monkeypatch.setattr(acted_rows, "encoded", encoded)
    return seen


def test_clips_with_a_label_become_turns_of_conversations(read: list[Conversation]) -> None:
    labels = torch.arange(MANY) % 7
    labels[5] = NO_LABEL
    sizes = {TEXT: 1, LOWER: 1, VOICE: 1}
    numbers = torch.arange(float(MANY))[:, None]
    there = {VOICE: torch.ones(MANY, dtype=torch.bool)}
    parts = {name: filled({VOICE: numbers + mark}, there, labels, sizes) for name, mark in (("a", 0), ("b", 100))}
    found = acted_rows.judged(parts, CLIPS)
    a, b = found["a"], found["b"]
    assert len(a) == JUDGED * (MANY - 1) // ROW // JUDGED * ROW * JUDGED
    assert torch.equal(a.features[VOICE] + 100, b.features[VOICE])
    clips = a.features[VOICE].flatten().long()
    assert 5 not in clips.tolist()
    assert torch.equal(a.labels, labels[clips])
    assert torch.equal(a.present[TEXT], clips % 2 == 1), "German words are left out"
    assert a.features[TEXT].flatten().tolist() == [len(words(CLIPS[clip])) for clip in clips.tolist()]
    assert torch.equal(torch.unique_consecutive(a.dialogue, return_counts=True)[1], torch.full((len(a) // ROW,), ROW))


def test_plain_words_are_many_and_each_has_several_pasts(read: list[Conversation]) -> None:
    plain = acted_rows.plain_words()
    said = [turn.text for one in read for turn in one.turns]
    assert len(plain[TEXT]) == len(plain[LOWER]) == len(said)
    assert len(set(said)) == 100
    assert all(len(one.turns) <= ROW for one in read)


def test_clips_by_themselves_get_words_that_say_nothing() -> None:
    many = 400
    labels = torch.arange(many) % 7
    sizes = {TEXT: 1, LOWER: 1, VOICE: 1}
    clips = filled({VOICE: torch.rand(many, 1)}, {VOICE: torch.ones(many, dtype=torch.bool)}, labels, sizes)
    kinds = (torch.arange(50.0)[:, None], torch.arange(100.0, 105.0)[:, None])
    found = acted_rows.worded(clips, dict.fromkeys((TEXT, LOWER), kinds))
    assert found.present[TEXT].all()
    assert torch.equal(found.features[TEXT], found.features[LOWER]), "the same sentence to each encoder"
    drawn = found.features[TEXT].flatten()
    assert set(drawn[drawn >= 100].tolist()) == {100, 101, 102, 103, 104}
    assert 150 < (drawn < 100).sum() < 250, "the few sentences of one kind are drawn as often as the many of the other"
    assert torch.equal(found.features[VOICE], clips.features[VOICE])
    assert not clips.present[TEXT].any()
