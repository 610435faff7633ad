"""The features of an utterance as the conversation gathers them: those of voice and face, then those of the words."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mer_agent.encoders.base import Encoder, languages
from mer_agent.streams.language import LanguageFilter
from mer_agent.streams.types import Turn, Utterance

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Percept:
    """The features of an utterance as far as they are known, what they cost, and which encoders failed."""

    features: Mapping[str, Any]
    timings_ms: Mapping[str, float]
    failed: tuple[str, ...] = ()
    reading: Reading | None = None
    """The features of the words, if they were encoded in advance."""

    def after(self, **stages_ms: float) -> Percept:
        """The same with the milliseconds of the stages before it."""
        return replace(self, timings_ms={**stages_ms, **self.timings_ms})

    def beside(self, other: Percept) -> Percept:
        """The same with the features of another one, what they cost, and what failed."""
        return replace(
            self,
            features={**self.features, **other.features},
            timings_ms={**self.timings_ms, **other.timings_ms},
            failed=(*self.failed, *other.failed),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What words became, and what it depends on: of another speaker, or after other turns, they'd be something else."""

    of: tuple[str, bool, int | None, tuple[Turn, ...]]
    """The words, whether they are in a language that is read, whose they are, and the turns before."""
    percept: Percept


class Reader:
    """Encodes words, unless they are the last ones again: most guesses know no more than the one before.

    Args:
        encoders: those of words. What one of them can't read none reads: the fusion model never saw half of the words'
            features.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self._encoders = tuple(encoders)
        known = [one for one in map(languages, encoders) if one is not None]
        self._language = LanguageFilter(frozenset.intersection(*known) if known else None)
        self._last: tuple[Any, Reading] | None = None  # what was encoded last, and what became of it
        self.features = frozenset(encoder.feature for encoder in encoders)

    def knows(self, utterance: Utterance, *, learn: bool = False) -> bool:
        """Whether there are words in a language that is read; with `learn`, the utterances after it feel it."""
        return utterance.transcript is not None and self._language.reads(utterance.transcript, learn=learn)

    def read(self, utterance: Utterance, past: tuple[Turn, ...]) -> Reading:
        """The words encoded; words in another language have no features."""
        known = self.knows(utterance)
        asked = utterance.transcript, known, utterance.speaker, past
        if self._last is not None and self._last[0] == asked:
            last = self._last[1]
            spared = replace(last.percept, timings_ms=dict.fromkeys(last.percept.timings_ms, 0.0))
            return replace(last, percept=spared)
        of = utterance.text, known, utterance.speaker, past
        reading = Reading(of, encode(self._encoders if known else (), utterance, past))
        self._last = None if reading.percept.failed else (asked, reading)
        return reading

    def complete(self, utterance: Utterance, heard: Percept, past: tuple[Turn, ...]) -> Percept:
        """Voice, face and words together; the words are encoded here unless that was done in advance."""
        reading = heard.reading
        if reading is None or reading.of != (utterance.text, self.knows(utterance), utterance.speaker, past):
            reading = self.read(utterance, past)
        return replace(heard, reading=None).beside(reading.percept)

    def forget(self) -> None:
        """Forgets the last words."""
        self._last = None

    def reset(self) -> None:
        """Forgets the last words and the language of the conversation."""
        self._last = None
        self._language.reset()


def encode(encoders: Sequence[Encoder], utterance: Utterance, past: tuple[Turn, ...] = ()) -> Percept:
    """Gives what the encoders make of an utterance; one that fails costs its own feature."""
    features, timings_ms, failed = {}, {}, []
    for encoder in encoders:
        begun = time.perf_counter()
        try:
            (vector,) = encoder.encode([utterance], [past])
            if vector is not None:
                features[encoder.feature] = vector
        except Exception as error:
            # An error's message could quote the words, so its kind must do.
            log.error("The encoder %s failed on %s (%s)", encoder.feature, utterance.id, type(error).__name__)
            failed.append(encoder.feature)
        timings_ms[encoder.feature] = (time.perf_counter() - begun) * 1000
    return Percept(features, timings_ms, tuple(failed))
