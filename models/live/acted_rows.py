"""Acted clips as turns of a conversation, with words: how they are judged, and the plain words that they learn beside.

One by one and without words, as a clip lies in its corpus, no voice is ever heard live. In a row the past counts, and
words that mean nothing can mislead: of two models that do equally well without them, one can lose ten points with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mer_agent.models.batch import NO_LABEL, Batch
from mer_agent.models.data.acted import words
from mer_agent.models.data.datasets import text_features
from mer_agent.models.data.speech_data import Clip
from mer_agent.models.live.live_data import LOWER, TEXT
from mer_agent.models.perception.text_features import Conversation, in_context

ROW = 12
"""Turns of a conversation."""
JUDGED = 2
"""Conversations that each judged clip has a turn in."""
_TAUGHT = 8
"""Conversations that each plain sentence has a turn in."""


def encoded(conversations: Sequence[Conversation]) -> dict[str, tuple[Tensor, Tensor]]:
    """Gives `text/mpnet-emotion@2` and `text/mpnet-lower@1` of all turns: values [N, 768] and presence [N]."""
    texts = [turn.text for conversation in conversations for turn in conversation.turns]
    return {TEXT: in_context(conversations, TEXT), LOWER: text_features(LOWER, texts, None)}


def plain_words() -> dict[str, Tensor]:
    """Gives text features [N, 768] of sentences that say nothing of how they are meant, said one after the other."""
    sentences = Path(__file__).with_name("plain_sentences.txt").read_text(encoding="utf-8").splitlines()
    random = torch.Generator().manual_seed(0)
    said = [sentences[i] for _ in range(_TAUGHT) for i in torch.randperm(len(sentences), generator=random).tolist()]
    features = encoded(_rows("plain", said, torch.randint(2, (len(said),), generator=random)))
    return {name: values for name, (values, _) in features.items()}


def judged(parts: dict[str, Batch], clips: Sequence[Clip]) -> dict[str, Batch]:
    """Gives clips as conversations of `ROW` turns of two speakers, with what was said.

    Words that aren't English are left out, as they are live; but here they are a past for those that follow, and live
    they are none. Every part has the same conversations.

    Args:
        parts: the clips, each a dialogue of its own, in one version or another.
        clips: which they are.
    """
    random = torch.Generator().manual_seed(0)
    known = (next(iter(parts.values())).labels != NO_LABEL).nonzero().flatten()
    whole = len(known) // ROW * ROW
    order = torch.cat([known[torch.randperm(len(known), generator=random)][:whole] for _ in range(JUDGED)])
    speakers = torch.randint(2, (len(order),), generator=random)
    english = torch.tensor([clips[i].corpus == "ravdess" for i in order.tolist()])
    features = encoded(_rows("judged", [words(clips[i]) for i in order.tolist()], speakers))
    found = {}
    for name, batch in parts.items():
        values = {key: value[order] for key, value in batch.features.items()}
        present = {key: value[order] for key, value in batch.present.items()}
        for key, (value, there) in features.items():
            values[key], present[key] = value, there & english
        dialogue = torch.arange(len(order)) // ROW
        found[name] = replace(
            batch, features=values, present=present, speakers=speakers, dialogue=dialogue, labels=batch.labels[order]
        )
    return found


def worded(clips: Batch, blank_words: Mapping[str, Sequence[Tensor]]) -> Batch:
    """Gives clips that stand by themselves with words that say nothing, of several kinds, drawn as often.

    Args:
        clips: without words.
        blank_words: by feature id, text features [P, 768] of each kind.
    """
    random = torch.Generator().manual_seed(0)
    kind = torch.randint(len(next(iter(blank_words.values()))), (len(clips),), generator=random)
    chance = torch.rand(len(clips), generator=random)
    features, present = dict(clips.features), dict(clips.present)
    for name, kinds in blank_words.items():
        drawn = torch.stack([words[(chance * len(words)).long()] for words in kinds])
        features[name] = drawn[kind, torch.arange(len(clips))]
        present[name] = torch.ones(len(clips), dtype=torch.bool)
    return replace(clips, features=features, present=present)


def _rows(name: str, said: Sequence[str], speakers: Tensor) -> list[Conversation]:
    """Gives turns as conversations, the last one shorter if they don't come out even."""
    turns = [(str(speaker), text) for speaker, text in zip(speakers.tolist(), said, strict=True)]
    return [Conversation.of(f"{name}-{at}", "valid", turns[at : at + ROW]) for at in range(0, len(turns), ROW)]
