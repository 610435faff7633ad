"""Words while they are spoken: what was agreed on stays, and looks never take more than their share of the time."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.streams_fakes import a_segment

from mer_agent.streams.partial_words import LocalAgreement, PartialWords
from mer_agent.streams.types import Segment, Transcript, Word


def words(text: str, shift_ms: int = 0) -> list[Word]:
    return [
        Word(piece, (300 * at + shift_ms) * 1_000_000, (300 * at + 280 + shift_ms) * 1_000_000, 0.9)
        for at, piece in enumerate(text.split())
    ]


def test_two_looks_that_agree_have_it_right() -> None:
    agreement = LocalAgreement()
    assert agreement.look(words("I think that")).text == "I think that"
    assert agreement.agreed == ()
    found = agreement.look(words("I think this is"))
    assert [word.text for word in agreement.agreed] == ["I", "think"]
    assert (found.text, found.final, found.revision) == ("I think this is", False, 2)
    assert agreement.look(words("We think this is good")).text == "I think this is good"
    assert [word.text for word in agreement.agreed] == ["I", "think", "this", "is"]


def test_punctuation_and_small_shifts_are_no_disagreement() -> None:
    agreement = LocalAgreement()
    agreement.look(words("Well. I know"))
    agreement.look(words("well, I know it", 40))
    assert agreement.look(words("Well I know it all", -40)).text == "well, I know it all"


@given(looks=st.lists(st.lists(st.sampled_from(["so", "what", "now", "then"]), max_size=8), max_size=8))
def test_what_was_agreed_on_never_changes(looks: list[list[str]]) -> None:
    agreement, before = LocalAgreement(), ()
    for look in looks:
        found = agreement.look(words(" ".join(look)))
        assert agreement.agreed[: len(before)] == before
        assert found.words[: len(agreement.agreed)] == agreement.agreed
        before = agreement.agreed


class SlowRecogniser:
    """Takes a second of a made-up clock for each look."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lengths: list[float] = []

    async def transcribe(self, segment: Segment) -> Transcript:
        self.now_s += 1.0
        self.lengths.append(len(segment.audio) / 16_000)
        return Transcript("one two", tuple(words("one two")), language="de", languages={"de": 0.9, "en": 0.1})


async def test_a_slow_machine_looks_more_rarely() -> None:
    recogniser = SlowRecogniser()
    partial = PartialWords(recogniser, every_ms=1000, load=0.25, clock_s=lambda: recogniser.now_s)
    latest = None
    async with asyncio.TaskGroup() as tasks:
        for half in range(2, 25):  # every half second of speech for 12 s
            recogniser.now_s += 0.5
            segment = a_segment(0.0, np.zeros(half * 8000, np.float32))
            latest = partial.follow("u1", segment, tasks.create_task)
            await asyncio.sleep(0)
    assert latest is not None
    assert latest.text == "one two"
    assert (latest.language, dict(latest.languages)) == ("de", {"de": 0.9, "en": 0.1}), "guesses leave them out, too"
    assert 3 <= len(recogniser.lengths) <= 6
    assert partial.skipped > 5


async def test_looks_at_a_long_utterance_become_rarer() -> None:
    recogniser = SlowRecogniser()
    partial = PartialWords(recogniser, every_ms=1500, load=1.0, clock_s=lambda: recogniser.now_s)
    async with asyncio.TaskGroup() as tasks:
        for half in range(1, 25):
            recogniser.now_s += 0.5
            partial.follow("u1", a_segment(0.0, np.zeros(half * 8000, np.float32)), tasks.create_task)
            await asyncio.sleep(0)
    assert recogniser.lengths == [1.5, 3.0, 4.5, 7.0, 10.5]


async def test_another_utterance_begins_without_words() -> None:
    recogniser = SlowRecogniser()
    partial = PartialWords(recogniser, every_ms=500, load=1.0, clock_s=lambda: recogniser.now_s)
    segment = a_segment(0.0, np.zeros(16_000, np.float32))
    async with asyncio.TaskGroup() as tasks:
        assert partial.follow("u1", segment, tasks.create_task) is None
        await asyncio.sleep(0)
        recogniser.now_s += 5
        assert partial.follow("u1", segment, tasks.create_task) is not None
        assert partial.follow("u2", segment, tasks.create_task) is None


async def test_words_that_were_found_at_a_pause_are_a_look() -> None:
    recogniser = SlowRecogniser()
    partial = PartialWords(recogniser, every_ms=1500, load=1.0, clock_s=lambda: recogniser.now_s)
    async with asyncio.TaskGroup() as tasks:
        for half in range(1, 9):
            recogniser.now_s += 0.5
            segment = a_segment(0.0, np.zeros(half * 8000, np.float32))
            latest = partial.follow("u1", segment, tasks.create_task)
            await asyncio.sleep(0)
            if half == 2:
                assert latest is None
                partial.found("u1", segment, Transcript("one three", tuple(words("one three"))))
            if half in (3, 4):
                assert latest is not None
                assert latest.text == "one three"
    assert recogniser.lengths == [2.5, 4.0]  # and not after 1.5 s
    assert latest is not None
    assert (latest.text, latest.revision) == ("one two", 2)  # the second look's, which agrees on the first word


async def test_words_of_another_utterance_are_not_taken_for_those_of_this_one() -> None:
    recogniser = SlowRecogniser()
    partial = PartialWords(recogniser, every_ms=1500, load=1.0, clock_s=lambda: recogniser.now_s)
    segment = a_segment(0.0, np.zeros(16_000, np.float32))
    partial.found("u1", segment, Transcript("one three", tuple(words("one three"))))
    async with asyncio.TaskGroup() as tasks:
        assert partial.follow("u2", segment, tasks.create_task) is None
    assert recogniser.lengths == []
