"""Two voices at once where each has a microphone: noticed by their times, in whatever order news of them comes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.streams_fakes import a_segment

from mer_agent.overlap import FEATURE, REMEMBERED, Floor, by_ear
from mer_agent.segmenter import Speech, Stage
from mer_agent.streams.types import SAMPLE_RATE_HZ, Segment, Utterance


def said(start_s: float, end_s: float, source: str) -> Segment:
    return a_segment(start_s, np.zeros(round((end_s - start_s) * SAMPLE_RATE_HZ), np.float32), source)


def heard(*news: tuple[Stage, Segment]) -> Floor:
    floor = Floor()
    for source in ("audio-0", "audio-1"):
        floor.open(source)
    for stage, segment in news:
        floor.note(Speech(stage, segment))
    return floor


@pytest.mark.parametrize(
    ("other", "shared"),
    [((1, 3), True), ((4.5, 6), True), ((2.5, 3.5), True), ((0, 9), True), ((0, 2), False), ((5, 6), False)],
)
def test_speech_of_another_microphone_at_the_same_time_is_noticed(other: tuple[float, float], shared: bool) -> None:
    floor = heard(("closed", said(*other, "audio-1")))
    assert floor.shared(said(2, 5, "audio-0")) is shared


def test_one_who_has_begun_and_not_ended_counts_and_for_no_longer_than_he_was_heard() -> None:
    floor = heard(("begun", said(2, 2.2, "audio-1")))
    assert floor.shared(said(1, 3, "audio-0"))
    assert not floor.shared(said(2.5, 3, "audio-0"))
    floor.note(Speech("open", said(2, 2.7, "audio-1")))
    assert floor.shared(said(2.5, 3, "audio-0"))


def test_nobody_overlaps_himself() -> None:
    floor = heard(("closed", said(1, 3, "audio-0")), ("closed", said(3.5, 4, "audio-0")))
    assert floor.shared(said(1, 3, "audio-0")) is False


def test_one_microphone_alone_can_t_tell() -> None:
    floor = Floor()
    floor.open("audio-0")
    floor.note(Speech("closed", said(1, 3, "audio-0")))
    assert floor.shared(said(1, 3, "audio-0")) is None


def test_what_is_remembered_is_bounded_and_covers_the_longest_utterance() -> None:
    spans = [("closed", said(at / 2, at / 2 + 0.3, "audio-1")) for at in range(1000)]
    floor = heard(*spans)  # type: ignore[arg-type]
    assert sum(map(len, floor._spans.values())) == REMEMBERED
    assert floor.shared(said(499.5 - 25, 499.6 - 24, "audio-0")), "25 s is the longest that an utterance may be"


@pytest.mark.parametrize(
    ("by_times", "likely", "overlap"),
    [(None, 0.9, True), (None, 0.1, False), (None, None, None), (False, 0.9, False), (True, 0.1, True)],
)
def test_the_sound_tells_where_times_can_t(by_times: bool | None, likely: float | None, overlap: bool | None) -> None:
    features = {} if likely is None else {FEATURE: torch.tensor([likely])}
    assert by_ear(Utterance("u", None, 0, 1, overlap=by_times), features).overlap is overlap
