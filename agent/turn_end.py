"""Whether a speaker who pauses is done: by what was said, and how it faded. Wrong answers cut a sentence in two.

A rule that a person can read, not a model. The words must end a sentence: the recogniser heard a full stop, a question
or an exclamation, was sure of the last word, and that word isn't one that leads on. The voice must fade: the end of the
speech is softer than its middle, as at the end of most sentences; someone who holds the floor stays loud.
"""

from __future__ import annotations

import re

import numpy as np

from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Segment, Transcript

_LEADS_ON = re.compile(
    r"a|an|the|and|or|but|so|because|if|when|while|that|which|who|whose|of|to|in|on|at|for|with|from|by|as|than"
    r"|my|your|his|its|our|their|this|these|those|is|are|was|were|am|be|been|has|have|had|do|does|did|can|could"
    r"|will|would|shall|should|may|might|must|not|very|really|just|um|uh|er|like|well|i|we|they|he|she"
)
"""English words after which more is to come. Whisper puts a full stop behind them all the same."""
SURE = 0.5
"""Probability of the last word from which it counts."""
TAIL_S = 0.16
FADES_DB = 3.0
"""How much softer than the whole the last `TAIL_S` must be."""

_ASKS = re.compile(r"i|we|they|he|she|not|do|did|can|will|is|are|have|was")
"""Words that lead on in a statement, but may end a question: "Did you?"."""


def plainly_over(transcript: Transcript, segment: Segment) -> bool:
    """Tells whether the speech of a segment, up to its pause, is a sentence that is plainly over."""
    text = transcript.text.rstrip()
    if not transcript.words or not re.search(r"[^.][.?!][\"')]*$", text):
        return False
    last = re.sub(r"[^\w']", "", transcript.words[-1].text).lower()
    if transcript.words[-1].probability < SURE:
        return False
    if _LEADS_ON.fullmatch(last) and not (_ASKS.fullmatch(last) and text.endswith("?")):
        return False
    return _fades(segment)


def _fades(segment: Segment) -> bool:
    first, last = (
        max(0, (at_ns - segment.audio_start_ns) * SAMPLE_RATE_HZ // NS_PER_S)
        for at_ns in (segment.start_ns, segment.end_ns)
    )
    speech = np.nan_to_num(segment.audio[first:last].astype(np.float64))
    tail = speech[-round(TAIL_S * SAMPLE_RATE_HZ) :]
    if len(speech) < 2 * len(tail):
        return True  # a word or two: too short to fade
    return _level_db(tail) <= _level_db(speech) - FADES_DB


def _level_db(sound: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(10 * np.log10(max(float(np.mean(sound**2)), 1e-12)))
