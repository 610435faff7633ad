"""Parts that know the truth: they cut, write and seat exactly as it says, and ask nobody twice."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fakes import FakeEncoder, FakeWords
from support.streams_fakes import LoudnessVad, a_segment, bursts, chunked

from mer_agent.encoders.base import languages
from mer_agent.judging.gold import GivenCuts, GivenWords, RememberedEncoder, RememberedWords, Seated
from mer_agent.judging.truth import Truth
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Segment, Transcript, Utterance


def truth(start_s: float, end_s: float, **known: str) -> Truth:
    return Truth(start_ns=round(start_s * NS_PER_S), end_ns=round(end_s * NS_PER_S), **known)  # type: ignore[arg-type]


def cut(given: list[Truth], sound: np.ndarray, sizes: list[int], padding_ms: int = 100) -> list[Segment]:
    cuts = GivenCuts(given, padding_ms)
    found = [speech.segment for chunk in chunked(sound, sizes) for speech in cuts.follow(chunk)]
    return found + cuts.finish()


@settings(deadline=None, max_examples=40)
@given(
    spans=st.lists(st.tuples(st.integers(0, 1900), st.integers(1, 900)), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 9000), max_size=6),
)
def test_what_is_cut_is_the_sound_of_the_truth_with_some_around_it(
    spans: list[tuple[int, int]], sizes: list[int]
) -> None:
    sound = np.arange(2 * SAMPLE_RATE_HZ, dtype=np.float32)  # each sample says where it is
    given = sorted(
        (truth(begin / 1000, (begin + length) / 1000) for begin, length in spans), key=lambda one: one.until_ns
    )
    found = cut(given, sound, sizes)
    assert [(one.start_ns, one.end_ns) for one in found] == [(one.start_ns, one.until_ns) for one in given]
    for one in found:
        first = max(0, one.start_ns * SAMPLE_RATE_HZ // NS_PER_S - 1600)
        assert abs(one.audio[0] - first) <= 1
        assert abs(one.audio[-1] + 1 - min(len(sound), one.end_ns * SAMPLE_RATE_HZ // NS_PER_S + 1600)) <= 1
        assert one.audio_start_ns == pytest.approx(float(one.audio[0]) * NS_PER_S / SAMPLE_RATE_HZ, abs=1)


def test_what_would_begin_after_the_sound_is_left_out() -> None:
    sound = np.zeros(SAMPLE_RATE_HZ, np.float32)
    assert [one.start_ns for one in cut([truth(0.1, 0.5), truth(1.5, 2.0)], sound, [])] == [100_000_000]


def test_a_segment_sits_where_the_speaker_does_who_speaks_most_of_it() -> None:
    told = [truth(0.5, 1.5, speaker="ann"), truth(1.5, 1.8, speaker="bob"), truth(4, 5, speaker="bob")]
    seated = Seated(SpeechCutter(LoudnessVad), told)
    sound = bursts([(0.5, False), (1.3, True), (2.2, False), (1.0, True), (2.0, False), (1.0, True), (1.0, False)])
    found = [speech for chunk in chunked(sound, [512] * 400) for speech in seated.follow(chunk)]
    assert [speech.stage for speech in found] == ["closed"] * 3
    assert [speech.segment.source for speech in found] == ["ann", "bob", "audio-0"], "the last is nobody's"


def test_the_words_of_a_turn_are_torn_where_it_is_cut() -> None:
    told = [truth(0, 4, text="one two three four"), truth(3.5, 5, text="no wait")]
    words = GivenWords(told)

    def said(start_s: float, end_s: float) -> str:
        sound = np.zeros(round((end_s - start_s) * SAMPLE_RATE_HZ), np.float32)
        return asyncio.run(words.transcribe(a_segment(start_s, sound))).text

    assert [said(0, 2), said(2, 3.4)] == ["one two", "three"]
    assert said(0, 4) == "one two three four", "a true utterance has its own words, whoever speaks beside it"
    assert said(2, 5) == "three four no wait"
    assert said(6, 7) == ""


def test_words_are_in_the_language_of_the_truth() -> None:
    words = GivenWords([truth(0, 2, text="ja", language="de"), truth(2, 4, text="yes", language="en")])
    sound = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    assert [asyncio.run(words.transcribe(a_segment(at, sound))).language for at in (0, 2)] == ["de", "en"]
    assert asyncio.run(words.transcribe(a_segment(0, np.tile(sound, 2)))).language is None, "nobody can say of both"


def test_an_encoder_that_remembers_reads_the_same_languages() -> None:
    encoder = FakeEncoder("text/any@1", "text")
    assert languages(RememberedEncoder(encoder)) is None
    encoder.languages = ("en",)
    assert languages(RememberedEncoder(encoder).knowing({})) == {"en"}


def test_nothing_is_found_twice() -> None:
    encoder = FakeEncoder("audio/any@1", "audio")
    remembered = RememberedEncoder(encoder)
    one, other = (Utterance("u", None, 0, end_s * NS_PER_S, audio=np.zeros(16, np.float32)) for end_s in (1, 2))
    for _ in range(3):
        remembered.encode([one, other])
    assert len(encoder.seen) == 2
    words = FakeWords(["a", "b"])
    heard = RememberedWords(words)
    segments = [a_segment(0, np.zeros(16_000, np.float32)), a_segment(1, np.zeros(16_000, np.float32))]
    texts = [asyncio.run(heard.transcribe(segment)) for segment in segments * 2]
    assert texts == [Transcript("a"), Transcript("b")] * 2


def test_what_is_given_is_taken_and_the_rest_is_found() -> None:
    encoder = FakeEncoder("audio/any@1", "audio")
    known = RememberedEncoder(encoder).knowing({(0, NS_PER_S): torch.full((2,), 7.0), (1, 2): None})
    spans = [(0, NS_PER_S), (1, 2), (5, 6)]
    rows = known.encode([Utterance("u", None, *span) for span in spans])
    assert [None if row is None else row.tolist() for row in rows] == [[7, 7], None, [1, 1]]


def test_words_depend_on_who_says_them_after_what() -> None:
    encoder = FakeEncoder("text/any@1", "text")
    remembered = RememberedEncoder(encoder)
    for speaker in (0, 1):
        remembered.encode([Utterance("u", speaker, 0, 1, transcript=Transcript("well"))], [()])
    assert len(encoder.seen) == 2
