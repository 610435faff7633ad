"""News of an open utterance: what is told while it is spoken, and that it never changes where an utterance ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_agent.config.settings import SegmenterSettings
from mer_agent.segmenter import Segmenter, Speech

FRAME = 512
FRAME_NS = 32_000_000
RULES = SegmenterSettings(
    onset_ms=64, hangover_ms=320, least_hangover_ms=160, padding_ms=96, min_speech_ms=96, news_ms=320, longest_ms=2000
)


def tell(voiced: list[bool], rules: SegmenterSettings = RULES, *, over: bool = False) -> list[Speech]:
    """All news of frames whose samples are their own numbers; `over` says that each pause is the end."""
    segmenter, told = Segmenter(rules, frame_samples=FRAME), []
    for number, loud in enumerate(voiced):
        samples = np.full(FRAME, number, np.float32)
        told += [Speech("closed", one) for one in segmenter.push(0.9 if loud else 0.0, samples, number * FRAME_NS)]
        if news := segmenter.news():
            told.append(news)
            if over and news.stage == "paused":
                segmenter.over()
    return told + [Speech("closed", one) for one in segmenter.finish()]


def test_an_utterance_begins_goes_on_pauses_is_resumed_and_ends() -> None:
    told = tell([False] * 3 + [True] * 25 + [False] * 4 + [True] * 3 + [False] * 20)
    assert [one.stage for one in told] == ["begun", "open", "open", "paused", "resumed", "open", "paused", "closed"]
    assert {one.segment.start_ns for one in told} == {3 * FRAME_NS}
    assert told[1].segment.end_ns == 13 * FRAME_NS  # 320 ms of speech


def test_what_is_told_at_the_pause_is_the_utterance_itself() -> None:
    told = tell([True] * 10 + [False] * 20)
    paused, closed = told[-2].segment, told[-1].segment
    assert (told[-2].stage, told[-1].stage) == ("paused", "closed")
    assert (paused.start_ns, paused.end_ns, paused.audio_start_ns) == (
        closed.start_ns,
        closed.end_ns,
        closed.audio_start_ns,
    )
    assert np.array_equal(paused.audio, closed.audio)
    assert closed.declared_ns - paused.declared_ns == (10 - 3) * FRAME_NS


def test_a_sentence_that_is_plainly_over_needs_less_silence() -> None:
    voiced = [True] * 10 + [False] * 20
    late, early = tell(voiced)[-1].segment, tell(voiced, over=True)[-1].segment
    assert (late.declared_ns - late.end_ns) // FRAME_NS == 10
    assert (early.declared_ns - early.end_ns) // FRAME_NS == 5
    assert np.array_equal(late.audio, early.audio)


def test_a_pause_is_told_when_it_has_lasted_as_long_as_most_go_on_by() -> None:
    rules = RULES.model_copy(update={"least_hangover_ms": 0, "pause_ms": 200})
    told = tell([True] * 10 + [False] * 6 + [True] * 10 + [False] * 20, rules)
    assert [one.stage for one in told] == ["begun", "open", "open", "paused", "closed"]
    paused, closed = told[-2].segment, told[-1].segment
    assert (paused.declared_ns - paused.end_ns) // FRAME_NS == 7
    assert np.array_equal(paused.audio, closed.audio)


def test_nothing_pauses_where_the_end_comes_first() -> None:
    rules = RULES.model_copy(update={"least_hangover_ms": 0, "pause_ms": 400})
    assert [one.stage for one in tell([True] * 10 + [False] * 20, rules)] == ["begun", "open", "closed"]


def test_over_is_said_of_one_pause_only() -> None:
    segmenter = Segmenter(RULES, frame_samples=FRAME)
    ends = []
    for number, loud in enumerate([True] * 10 + [False] * 4 + [True] * 5 + [False] * 20):
        ends += segmenter.push(0.9 if loud else 0.0, np.zeros(FRAME, np.float32), number * FRAME_NS)
        news = segmenter.news()
        if news and news.stage == "paused" and number < 15:
            segmenter.over()
    (segment,) = ends
    assert (segment.declared_ns - segment.end_ns) // FRAME_NS == 10


@pytest.mark.parametrize("over", [False, True])
@given(voiced=st.lists(st.booleans(), max_size=250))
@settings(max_examples=50, deadline=None)
def test_everything_that_is_closed_has_begun_and_no_sample_is_in_two_utterances(over: bool, voiced: list[bool]) -> None:
    begun: set[int] = set()
    heard: list[float] = []
    for one in tell(voiced, over=over):
        if one.stage == "begun":
            begun.add(one.segment.start_ns)
        assert one.segment.start_ns in begun
        if one.stage == "closed":
            heard += one.segment.audio[::FRAME].tolist()
    assert heard == sorted(set(heard))


def test_long_speech_is_cut_in_a_gap_and_not_in_a_consonant_and_loses_no_sample() -> None:
    probabilities = [0.9] * 64
    probabilities[45] = 0.3  # one frame: a stop consonant
    probabilities[52:55] = [0.45, 0.4, 0.45]  # three: between two words
    segmenter, closed = Segmenter(RULES, frame_samples=FRAME), []
    for number, probability in enumerate([*probabilities, *[0.9] * 30, *[0.0] * 20]):
        closed += segmenter.push(probability, np.full(FRAME, number, np.float32), number * FRAME_NS)
    first, second = closed
    assert first.closed_by == "longest"
    assert 52 <= first.end_ns // FRAME_NS <= 54
    heard = [*first.audio[::FRAME].tolist(), *second.audio[::FRAME].tolist()]
    assert heard == list(range(len(heard)))
