"""What the dialogue system says aloud, so that its own voice in the microphone isn't taken for somebody's.

An utterance is the system's own if it falls into a time at which the system speaks and its words are the system's. The
words tell, not the time alone: a user who speaks over the system says something else, and is heard. Words that are
recognised wrongly stand alone; three in a row that the system doesn't say are somebody's.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from mer_agent.streams.types import Utterance

REMEMBERED = 32
"""Spoken turns, the latest, whose voice may still be in the room."""
OVERLAP = 0.5
"""At least this part of an utterance must fall into the time at which the system speaks."""
ALIKE = 0.6
"""At least this part of its words must be the system's, in order."""
STRAYS = 2
"""So many words in a row may be other ones."""

_FOR_EVER_NS = 2**62


@dataclass(frozen=True, slots=True)
class Said:
    """One spoken turn: its words and its time; without an end as long as it goes on."""

    id: str
    speaker: int
    words: tuple[str, ...]
    start_ns: int
    end_ns: int | None


class OwnSpeech:
    """The spoken turns of the dialogue system.

    Args:
        tail_ms: how long after its end a turn may still be heard: the loudspeaker's buffer and the room.
    """

    def __init__(self, tail_ms: int) -> None:
        self._tail_ns = tail_ms * 1_000_000
        self._said: deque[Said] = deque(maxlen=REMEMBERED)

    def say(self, turn_id: str, speaker: int, text: str, start_ns: int, end_ns: int | None) -> None:
        """Takes a spoken turn; the same id again gives it another time."""
        said = Said(turn_id, speaker, _words(text), start_ns, end_ns)
        for place, one in enumerate(self._said):
            if one.id == turn_id:
                self._said[place] = replace(said, words=one.words)
                return
        self._said.append(said)

    def forget(self) -> None:
        """Forgets all turns."""
        self._said.clear()

    def overlaps(self, utterance: Utterance) -> bool:
        """Whether the system speaks while the utterance lasts."""
        return any(self._shared_ns(one, utterance) > 0 for one in self._said)

    def speaks(self, utterance: Utterance) -> bool:
        """Whether the system itself speaks meanwhile: what is left of its voice in the room is no speaking."""
        return any(
            one.start_ns < utterance.end_ns and (one.end_ns is None or utterance.start_ns < one.end_ns)
            for one in self._said
        )

    def match(self, utterance: Utterance) -> Said | None:
        """The turn that the utterance is the echo of; None: somebody else speaks."""
        length_ns = max(1, utterance.end_ns - utterance.start_ns)
        heard = _words(utterance.text)
        # A pause of the recogniser may not be one of the system: the echo of two turns is one utterance, or the
        # other way round, so words are looked for in all that is said at the time.
        meanwhile = [one for one in self._said if self._shared_ns(one, utterance) > 0]
        if sum(self._shared_ns(one, utterance) for one in meanwhile) < OVERLAP * length_ns:
            return None
        if heard and not _said_in(heard, tuple(word for one in meanwhile for word in one.words)):
            return None
        return max(meanwhile, key=lambda one: self._shared_ns(one, utterance))

    def _shared_ns(self, one: Said, utterance: Utterance) -> int:
        end_ns = _FOR_EVER_NS if one.end_ns is None else one.end_ns + self._tail_ns
        return min(end_ns, utterance.end_ns) - max(one.start_ns, utterance.start_ns)


def _said_in(heard: tuple[str, ...], said: tuple[str, ...]) -> bool:
    blocks = SequenceMatcher(None, heard, said, autojunk=False).get_matching_blocks()
    alike = sum(block.size for block in blocks)
    ends = [0, *(block.a + block.size for block in blocks)]
    strays = max(block.a - end for block, end in zip(blocks, ends, strict=False))
    return alike >= ALIKE * len(heard) and strays <= STRAYS


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", re.sub("['\u2019]", "", text.lower())))
