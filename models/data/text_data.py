"""What the text encoder learns from: the words and labels of IEMOCAP and MELD, as stretches of dialogue."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mer_agent.encoders.turns import Words
from mer_agent.models.data import datasets, meld
from mer_agent.models.data.datasets import IEMOCAP_LABELS
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.live import asr_noise
from mer_agent.models.perception.text_features import fold_of

LABELS = {"iemocap": IEMOCAP_LABELS, "meld": MELD_LABELS}

STRETCH = 192
"""Tokens of a stretch of dialogue in training."""

MISHEARD_SEED = 100
"""Of the errors that are learned from; those that the live model learns from and is judged by have others."""


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance; `number` counts all utterances, `affect` is valence, activation and dominance."""

    number: int
    speaker: int
    text: str
    tokens: tuple[int, ...]
    label: int
    affect: tuple[float, ...]
    """NaN where nobody rated."""


@dataclass(frozen=True, slots=True)
class Talk:
    """One dialogue, its utterances in the order in which they ended."""

    corpus: str
    name: str
    split: str
    fold: int
    """Of the training split; -1 elsewhere."""
    said: tuple[Said, ...]
    misheard: tuple[Said, ...] = ()
    """The same utterances as a recogniser might have written them; none if that isn't wanted."""


def load(data_dir: Path, words: Words, *, named: bool = False, misheard: bool = False) -> list[Talk]:
    """Gives the dialogues of both corpora.

    Args:
        data_dir: holds `iemocap` and `meld`.
        words: makes tokens.
        named: a line of MELD begins with who says it, to measure what the names of its characters are worth.
        misheard: every dialogue is there as misheard, too (`asr_noise`).

    Raises:
        DataError: a file is missing or malformed.
    """
    unheard = words("a")[:1] + words("a")[-1:]  # a turn without a known word counts all the same
    numbers = itertools.count()

    def said(speaker: int, text: str, label: int, affect: tuple[float, ...] = (math.nan,) * 3) -> Said:
        return Said(next(numbers), speaker, text, tuple(words(text) or unheard), label, affect)

    talks = []
    folder = data_dir / "iemocap"
    corpus = datasets.load_iemocap(folder, ())
    texts = {u["id"]: u["text"] for d in datasets.read_dialogues(folder / "dialogues.jsonl") for u in d["utterances"]}
    batch = corpus.batch
    affect = [(math.nan,) * 3] * len(batch) if batch.affect is None else [tuple(row) for row in batch.affect.tolist()]
    lines: list[list[Said]] = [[] for _ in corpus.dialogues]
    rows = zip(
        batch.names, batch.speakers.tolist(), batch.labels.tolist(), affect, batch.dialogue.tolist(), strict=True
    )
    for name, speaker, label, rating, dialogue in rows:
        lines[dialogue].append(said(speaker, texts[name], label, rating))
    for name, split, own in zip(corpus.dialogues, corpus.split, lines, strict=True):
        talks.append(Talk("iemocap", name, split, fold_of(name, split), tuple(own)))
    for dialogue in meld.read_dialogues(data_dir / "meld"):
        order: dict[str, int] = {}
        each = [
            said(
                order.setdefault(line.speaker, len(order)),
                f"{line.speaker}: {line.text}" if named else line.text,
                MELD_LABELS.index(line.label),
            )
            for line in dialogue.lines
        ]
        talks.append(Talk("meld", dialogue.name, dialogue.split, fold_of(dialogue.name, dialogue.split), tuple(each)))
    if not misheard:
        return talks
    listener = asr_noise.Listener(asr_noise.read(), MISHEARD_SEED)

    def heard(one: Said) -> Said:
        text = listener.mishear(one.text)
        return replace(one, number=next(numbers), text=text, tokens=tuple(words(text) or unheard))

    return [replace(talk, misheard=tuple(map(heard, talk.said))) for talk in talks]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive utterances of one dialogue."""

    corpus: str
    said: tuple[Said, ...]

    def __len__(self) -> int:
        """Gives its number of tokens."""
        return sum(len(one.tokens) for one in self.said)


def stretches(talk: Talk, rng: random.Random) -> Iterator[Stretch]:
    """Cuts a dialogue into stretches of at most `STRETCH` tokens; where the first cut falls is random."""
    room = rng.randint(STRETCH // 4, STRETCH)
    own: list[Said] = []
    for one in talk.said:
        room -= len(one.tokens)
        if room < 0 and own:
            yield Stretch(talk.corpus, tuple(own))
            own, room = [], STRETCH - len(one.tokens)
        own.append(one)
    yield Stretch(talk.corpus, tuple(own))


def batches(pieces: Sequence[Stretch], tokens: int) -> list[list[Stretch]]:
    """Puts pieces of like length together, at most `tokens` in a batch with its padding."""
    found: list[list[Stretch]] = []
    for piece in sorted(pieces, key=len):
        if not found or (len(found[-1]) + 1) * len(piece) > tokens:
            found.append([])
        found[-1].append(piece)
    return found
