"""Whether a sentence is over: by its words and by how its sound fades."""

from __future__ import annotations

import numpy as np
import pytest
from support.streams_fakes import a_segment

from mer_agent.streams.types import Segment, Transcript, Word
from mer_agent.turn_end import plainly_over


def said(text: str, probability: float = 0.9) -> Transcript:
    words = tuple(Word(piece, at, at + 1, probability) for at, piece in enumerate(text.split()))
    return Transcript(text, words)


def sound(end_level: float) -> Segment:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    noise[-4000:] *= end_level
    return a_segment(0.0, noise)


@pytest.mark.parametrize(
    "text", ["I got the job!", "How are you?", "Thank you.", "Can he?", "I did it.", "He said it is fine.", "No."]
)
def test_a_sentence_that_ends_and_fades_is_over(text: str) -> None:
    assert plainly_over(said(text), sound(0.3))


@pytest.mark.parametrize(
    "text", ["", "I got the", "I went there and.", "Because...", "So, because, well,", "It is the."]
)
def test_one_that_leads_on_is_not(text: str) -> None:
    assert not plainly_over(said(text), sound(0.3))


def test_a_voice_that_stays_up_holds_the_floor() -> None:
    assert not plainly_over(said("I got the job!"), sound(1.0))


def test_words_that_nobody_is_sure_of_end_nothing() -> None:
    assert not plainly_over(said("I got the job!", 0.3), sound(0.3))


def test_a_single_short_word_cannot_fade() -> None:
    assert plainly_over(said("No."), a_segment(0.0, np.ones(3000, np.float32)))
