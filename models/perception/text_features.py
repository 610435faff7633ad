"""Features of a whole data set by the text encoder that reads past turns, computed once and kept.

The encoder learned emotion from these very dialogues. Read by an adapter that knows their labels, the training split
would look far easier than what comes later, and a model would trust the words too much. So each training dialogue is
read by the adapter that was trained without it, as a new dialogue is read by one that doesn't know it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from platformdirs import user_cache_path
from torch import Tensor

from mer_agent.encoders import shipped
from mer_agent.encoders.place import fastest
from mer_agent.encoders.text_emotion import HEARD, NAMES, WRITTEN, TextEmotionEncoder
from mer_agent.encoders.text_judged import JudgedTextEncoder, Judges
from mer_agent.streams.types import Turn

IN_CONTEXT = (WRITTEN, HEARD, JudgedTextEncoder.feature)
"""What depends on the turns before."""

FOLDS = 3
"""Parts of the training split, each left out by one of the adapters."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The words of one dialogue in the order in which they were said."""

    name: str
    split: str
    turns: tuple[Turn, ...]

    @classmethod
    def of(cls, name: str, split: str, said: Iterable[tuple[str, str]]) -> Conversation:
        """Gives the conversation of these speakers and words; speakers become numbers in order of appearance."""
        seen: dict[str, int] = {}
        return cls(name, split, tuple(Turn(seen.setdefault(speaker, len(seen)), text) for speaker, text in said))


def fold_of(dialogue: str, split: str) -> int:
    """Gives the part of the training split that a dialogue belongs to, by its name; -1 for another split."""
    return zlib.crc32(dialogue.encode()) % FOLDS if split == "train" else -1


def in_context(
    conversations: Sequence[Conversation], feature: str = HEARD, device: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Gives a feature in `IN_CONTEXT` of every turn, float32 [N, its dimension], and where it is present, bool [N].

    It is computed in whatever precision is fastest here.

    Raises:
        WeightsError: the encoder's weights are not here.
    """
    if feature != JudgedTextEncoder.feature:
        return _states(conversations, feature, device)
    states, present = _states(conversations, WRITTEN, device)
    parts = torch.tensor([fold_of(c.name, c.split) for c in conversations for _ in c.turns])
    judges = {part: Judges(None if part < 0 else part) for part in set(parts.tolist())}
    judged = torch.zeros(len(states), next(iter(judges.values())).dimension)
    for part, judge in judges.items():
        own = (parts == part) & present
        judged[own] = judge(states[own])
    return judged, present


def _states(conversations: Sequence[Conversation], feature: str, device: str) -> tuple[Tensor, Tensor]:
    """Gives `WRITTEN` or `HEARD` of every turn, computed once."""
    told = [[c.name, c.split, [[turn.speaker, turn.text] for turn in c.turns]] for c in conversations]
    weights = shipped.read_card(NAMES[feature]).sha256
    key = hashlib.sha256(json.dumps([weights, told]).encode()).hexdigest()[:32]
    path = user_cache_path("mer-agent") / "features" / f"{feature.replace('/', '-').replace('@', '-')}-{key}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            return torch.from_numpy(archive["values"]), torch.from_numpy(archive["present"])
    parts = [fold_of(c.name, c.split) for c in conversations]
    rows: list[list[Tensor | None]] = [[] for _ in conversations]
    for part in sorted(set(parts)):  # one encoder at a time: each is half a gigabyte
        without = None if part < 0 else part
        encoder = TextEmotionEncoder(device, precision=fastest(), feature=feature, without=without)
        for at, conversation in enumerate(conversations):
            if parts[at] == part:
                rows[at] = encoder.encode_dialogue(conversation.turns)
    flat = [row for own in rows for row in own]
    present = torch.tensor([row is not None for row in flat])
    values = torch.zeros(len(flat), encoder.dimension)
    values[present] = torch.stack([row for row in flat if row is not None])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, values=values.numpy(), present=present.numpy())
    partial.replace(path)
    return values, present
