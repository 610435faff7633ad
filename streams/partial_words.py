"""Words while they are spoken: the utterance so far is transcribed again and again, as rarely as the machine asks.

Two looks that agree on a beginning have it right, almost always: those words stay (LocalAgreement-2, Macháček et al.
2023, "Turning Whisper into Real-Time Transcription System"). What follows them is the last look's guess. An utterance
fits into one window of the recogniser, so a look costs the same at its end as at its beginning: looks at a long one
become rarer, as each tells less that is new.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol

from mer_agent.streams.types import NS_PER_S, Segment, Transcript, Word

OVERLAP_NS = 100_000_000
"""The times of a word move about so much from look to look."""


class Recogniser(Protocol):
    """Finds the words of a segment."""

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words; an empty transcript when there are none."""
        ...


class LocalAgreement:
    """The words of one utterance, look by look.

    Attributes:
        agreed: words that two looks in a row gave alike; they never change again.
    """

    def __init__(self) -> None:
        self.agreed: tuple[Word, ...] = ()
        self._tail: tuple[Word, ...] = ()
        self._looks = 0

    def look(self, words: Sequence[Word]) -> Transcript:
        """Takes what the recogniser finds now; gives what was agreed on, and behind it the newest guess."""
        end_ns = self.agreed[-1].end_ns - OVERLAP_NS if self.agreed else -1
        tail = tuple(word for word in words if word.start_ns >= end_ns)
        if (
            self.agreed
            and tail
            and _plain(tail[0]) == _plain(self.agreed[-1])
            and tail[0].start_ns < end_ns + OVERLAP_NS
        ):
            tail = tail[1:]  # the last agreed word once more
        same = 0
        while same < min(len(tail), len(self._tail)) and _plain(tail[same]) == _plain(self._tail[same]):
            same += 1
        self.agreed, self._tail = (*self.agreed, *tail[:same]), tail[same:]
        self._looks += 1
        found = (*self.agreed, *self._tail)
        confidence = sum(word.probability for word in found) / len(found) if found else 0.0
        text = " ".join(word.text for word in found)
        return Transcript(text, found, final=False, revision=self._looks, confidence=confidence)


class PartialWords:
    """Looks for the words of open utterances, one look at a time.

    Args:
        recogniser: what looks.
        every_ms: speech between two looks at least; half of what was heard at the last one if that is more.
        load: share of the time that looks may take at most; a slow machine looks more rarely.
        clock_s: tells the time.

    Attributes:
        skipped: looks that were due but not taken, for lack of time.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        every_ms: int = 1500,
        load: float = 0.35,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recogniser = recogniser
        self._every_ns = every_ms * (NS_PER_S // 1000)
        self._load = load
        self._clock_s = clock_s
        self._id = ""
        self._due_ns = 0
        self._agreement = LocalAgreement()
        self._latest: Transcript | None = None
        self._looking: asyncio.Task[None] | None = None
        self._free_s = -1e9
        self.skipped = 0

    def follow(
        self, utterance_id: str, segment: Segment, start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> Transcript | None:
        """Gives the words of an open utterance as far as they are known, and may begin another look at them."""
        self._turn_to(utterance_id, segment)
        if segment.end_ns >= self._due_ns:
            if (self._looking is None or self._looking.done()) and self._clock_s() >= self._free_s:
                self._put_off(segment)
                self._looking = start(self._look(utterance_id, segment))
            else:
                self.skipped += 1
        return self._latest

    def found(self, utterance_id: str, segment: Segment, transcript: Transcript) -> None:
        """Takes the words of an open utterance that somebody else looked for, so that the next look can wait."""
        self._turn_to(utterance_id, segment)
        self._put_off(segment)
        self._learn(transcript)

    def _turn_to(self, utterance_id: str, segment: Segment) -> None:
        if utterance_id != self._id:
            self._id, self._due_ns = utterance_id, segment.start_ns + self._every_ns
            self._agreement, self._latest = LocalAgreement(), None

    def _put_off(self, segment: Segment) -> None:
        heard_ns = segment.end_ns - segment.start_ns
        self._due_ns = segment.end_ns + max(self._every_ns, heard_ns // 2)

    async def _look(self, utterance_id: str, segment: Segment) -> None:
        begun_s = self._clock_s()
        found = await self._recogniser.transcribe(segment)
        took_s = self._clock_s() - begun_s
        self._free_s = begun_s + took_s / self._load
        if utterance_id == self._id:  # else it is over
            self._learn(found)

    def _learn(self, found: Transcript) -> None:
        words = self._agreement.look(found.words)
        self._latest = replace(words, language=found.language, languages=found.languages, hearing=found.hearing)


def _plain(word: Word) -> str:
    return re.sub(r"[^\w']", "", word.text).lower()
