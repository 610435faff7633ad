"""Words that somebody else brings: from a file beside the recording, or handed in while the session runs.

Each piece has its time. A segment gets the words that are spoken in it: words with times of their own one by one, a
piece without them as a whole, where most of it lies. What is handed in may be late, so a segment waits for it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mer_agent.errors import MediaError
from mer_agent.streams.types import Segment, Transcript, Word

KEPT = 1000
"""Pieces that are kept when they are handed in one by one, the latest."""

LATEST_S = 30.0
"""Words that come later than this after they were asked for are of no use."""

Nanoseconds = Annotated[int, Field(ge=0)]


class GivenWord(BaseModel):
    """One word with its time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str = Field(min_length=1, max_length=200)
    start_ns: Nanoseconds
    end_ns: Nanoseconds
    probability: float = Field(default=1.0, ge=0, le=1)


class Given(BaseModel):
    """A piece of speech in words: a line of the file, or a message. A session's `words.jsonl` has such lines."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str = Field(max_length=10_000, description="what was said")
    start_ns: Nanoseconds = Field(description="session time at which it began")
    end_ns: Nanoseconds = Field(description="session time at which it ended")
    words: tuple[GivenWord, ...] = Field(default=(), max_length=2000, description="the same word by word, if known")

    @model_validator(mode="after")
    def _in_order(self) -> Given:
        if self.end_ns < self.start_ns:
            raise ValueError("it ends before it begins")
        return self

    def timed(self) -> tuple[Word, ...]:
        """Its words; spread evenly over its time if nobody knows better."""
        if self.words:
            return tuple(Word(word.text, word.start_ns, word.end_ns, word.probability) for word in self.words)
        pieces = self.text.split()
        step_ns = (self.end_ns - self.start_ns) // max(1, len(pieces))
        return tuple(
            Word(piece, self.start_ns + at * step_ns, self.start_ns + (at + 1) * step_ns)
            for at, piece in enumerate(pieces)
        )


class GivenWords:
    """A transcriber that knows the words, or is told them.

    Args:
        file: JSON lines of `Given`; with it nothing is waited for. None: `hear` is told what is said.
        patience_s: how long a segment waits for words that are not there yet.

    Raises:
        MediaError: the file can't be read, or a line of it is no `Given`.
    """

    def __init__(self, file: Path | None = None, *, patience_s: float = LATEST_S) -> None:
        self._all_known = file is not None
        self._patience_s = patience_s
        self._given: deque[Given] = deque([] if file is None else _read(file), maxlen=None if file else KEPT)
        self._news = asyncio.Event()

    async def warm_up(self) -> None:
        """Nothing to load."""

    def hear(self, given: Given) -> None:
        """Takes a piece of speech; segments that wait for it get it."""
        self._given.append(given)
        self._news.set()

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words that were spoken in the segment; an empty transcript if nobody brings any in time."""
        try:
            async with asyncio.timeout(self._patience_s):
                while not (words := tuple(self._within(segment))) and not self._all_known:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            words = ()
        if not words:
            return Transcript("", confidence=0.0)
        confidence = sum(word.probability for word in words) / len(words)
        return Transcript(" ".join(word.text for word in words), words, confidence=confidence)

    def close(self) -> None:
        """Nothing to close."""

    def _within(self, segment: Segment) -> Iterable[Word]:
        """The words whose middle lies in the segment; a piece without times of its own is not torn apart."""
        for given in sorted(self._given, key=lambda one: one.start_ns):
            if given.words:
                yield from (word for word in given.timed() if _holds(segment, word.start_ns, word.end_ns))
            elif _holds(segment, given.start_ns, given.end_ns):
                yield from given.timed()


def _holds(segment: Segment, start_ns: int, end_ns: int) -> bool:
    return segment.start_ns <= (start_ns + end_ns) // 2 < segment.end_ns


def _read(file: Path) -> list[Given]:
    given = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"transcriber.file={file}: can't be read ({error})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                given.append(Given.model_validate(json.loads(line)))
            except (json.JSONDecodeError, ValidationError) as error:
                # What stands in the line are somebody's words: the message must not quote it.
                kind = "not JSON" if isinstance(error, json.JSONDecodeError) else error.errors()[0]["msg"]
                raise MediaError(f"{file}, line {number}: {kind}; needed are text, start_ns and end_ns") from None
    return given
