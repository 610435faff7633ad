"""Whether what is said is in a language that the text encoders read: a filter with two states.

A recogniser tells for each utterance how likely each language is. One utterance can be too short to tell, so what was
heard before counts too. With `p` the recogniser's probability of a language that is read, and `e` that the language
changes between two utterances (a hidden Markov model of two states, forward algorithm):

    prior_t     = (1 - e) * posterior_{t-1} + e * (1 - posterior_{t-1})
    posterior_t = prior_t * p / (prior_t * p + (1 - prior_t) * (1 - p))

Whisper's own prior is not taken out of `p`: it heard mostly English, and so do most who use the encoders.
"""

from __future__ import annotations

from collections.abc import Iterable

from mer_agent.streams.types import Transcript

FIRST = 0.9
"""Prior of a language that is read, before anything is heard."""
CHANGES = 0.05
"""Probability that the next utterance is in the other kind of language: what was heard before weighs at most 19:1."""
_SURE = 0.999
"""No utterance is believed more than this."""


class LanguageFilter:
    """Tells which words can be read, utterance by utterance.

    Args:
        known: codes of the languages that are read; None reads all.
    """

    def __init__(self, known: Iterable[str] | None) -> None:
        self._known = None if known is None else frozenset(known)
        self._prior = FIRST

    def reads(self, transcript: Transcript, *, learn: bool = False) -> bool:
        """Tells whether the words are in a language that is read; with `learn`, the next utterances feel it.

        Words whose language nobody looked for are taken for it, and change nothing.
        """
        if self._known is None:
            return True
        posterior = self._prior
        if transcript.languages:
            p = sum(share for code, share in transcript.languages.items() if code in self._known)
            p = min(max(p, 1 - _SURE), _SURE)
            posterior = self._prior * p / (self._prior * p + (1 - self._prior) * (1 - p))
            if learn:
                self._prior = (1 - CHANGES) * posterior + CHANGES * (1 - posterior)
        return (transcript.language is None or transcript.language in self._known) and (
            not transcript.languages or posterior >= 0.5
        )

    def reset(self) -> None:
        """Forgets what was heard."""
        self._prior = FIRST
