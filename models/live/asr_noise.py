"""Words as a recogniser would have heard them: gold transcripts with its errors put in.

`asr_errors.json` counts how often whisper-base wrote each word right or wrong, over sentences read by speech synthesis
in several voices with noise; it holds single words, never a sentence. A word that was never counted is confused at the
mean rate, with the counted word that is spelled most like it. Besides, some utterances lose case and punctuation, as
with recognisers that give none, and some are cut off, as by a segmenter that closes too early.
"""

from __future__ import annotations

import difflib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ERRORS = Path(__file__).parent / "asr_errors.json"

PLAIN = 0.25
"""Share of the utterances that lose case and punctuation."""
CUT = 0.05
"""Share of the utterances that are cut off somewhere."""


@dataclass(frozen=True, slots=True)
class Confusions:
    """What a recogniser made of words.

    `heard` maps a word to what was written for it and how often ("" where nothing was), the word itself among them.
    """

    heard: Mapping[str, Mapping[str, int]]
    inserted: Sequence[str]
    """Words that stood where nothing was said, each as often as it did."""
    words: int
    """How many were said in all."""

    @property
    def error_rate(self) -> float:
        """Share of the words that were left out or replaced."""
        right = sum(written.get(word, 0) for word, written in self.heard.items())
        return 1 - right / max(self.words, 1)


def read(path: Path = ERRORS) -> Confusions:
    """Gives the confusions that come with the project."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return Confusions(found["heard"], found["inserted"], found["words"])


def count(pairs: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Gives the content of `asr_errors.json` for pairs of what was said and what was written."""
    heard: dict[str, dict[str, int]] = {}
    inserted: list[str] = []
    total = 0
    for said, written in pairs:
        a, b = plain(said), plain(written)
        total += len(a)
        for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            extra = b[k + (j - i) : m] if tag != "equal" else []
            inserted += extra
            for at in range(i, j):
                own = heard.setdefault(a[at], {})
                to = b[k + at - i] if k + at - i < m else ""
                own[to] = own.get(to, 0) + 1
    return {"words": total, "heard": heard, "inserted": sorted(inserted)}


def plain(text: str) -> list[str]:
    """Gives the words of a text in lower case, without punctuation."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("\u2019", "'"))


class Listener:
    """Mishears texts. The same seed and texts in the same order give the same errors."""

    def __init__(self, confusions: Confusions, seed: int) -> None:
        self._confusions = confusions
        self._random = random.Random(seed)  # noqa: S311
        self._near: dict[str, str] = {}
        self._error_rate = confusions.error_rate
        self._insertion_rate = len(confusions.inserted) / max(confusions.words, 1)

    def mishear(self, text: str) -> str:
        """Gives the text as it might have been recognised; it may be empty."""
        out: list[str] = []
        words = text.split()
        if len(words) > 2 and self._random.random() < CUT:
            words = words[: self._random.randint(1, len(words) - 1)]
        for word in words:
            if self._random.random() < self._insertion_rate:
                out.append(self._random.choice(self._confusions.inserted))
            out.append(self._mishear(word))
        heard = " ".join(word for word in out if word)
        return " ".join(plain(heard)) if self._random.random() < PLAIN else heard

    def _mishear(self, word: str) -> str:
        """Gives one word with its punctuation, perhaps as another."""
        core = " ".join(plain(word))
        if not core:
            return word
        written = self._confusions.heard.get(core)
        if written and sum(written.values()) > 1:
            to = self._random.choices(list(written), list(written.values()))[0]
        else:
            to = self._nearest(core) if self._random.random() < self._error_rate else core
        if to == core:
            return word
        tail = re.search(r"[.,!?;:]*$", word)
        to = to.capitalize() if word[:1].isupper() else to
        return to + (tail.group() if tail and to else "")

    def _nearest(self, word: str) -> str:
        if word not in self._near:
            found = difflib.get_close_matches(word, self._confusions.heard, n=2, cutoff=0.5)
            self._near[word] = next((one for one in found if one != word), "")
        return self._near[word]
