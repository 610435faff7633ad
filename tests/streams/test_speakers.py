"""Telling speakers apart: numbers that stay, strangers that wait, and the two voices of the sample conversation."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import needs

from mer_agent.config.settings import SpeakerSettings
from mer_agent.streams.speakers import ENOUGH_S, UNKNOWN, SpeakerTracker
from mer_agent.streams.voice_space import VoiceSpace

DIMENSION = 24
PLAIN = VoiceSpace(np.zeros(DIMENSION), np.zeros((DIMENSION, 1)), np.zeros(1), (13.7, -0.45, -0.3, -6.2))


class People:
    """Voices that are far from each other, and utterances of them that are as near as `spread` says."""

    def __init__(self, spread: float = 0.1, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._voices = np.linalg.qr(self._rng.standard_normal((DIMENSION, DIMENSION)))[0]
        self._spread = spread

    def say(self, who: int) -> np.ndarray:
        return self._voices[who] + self._spread * self._rng.standard_normal(DIMENSION)


def tracker(limit: int = 8, fixed: int = 0) -> SpeakerTracker:
    return SpeakerTracker(SpeakerSettings(limit=limit, fixed=fixed), PLAIN)


def hear(listener: SpeakerTracker, people: People, turns: Iterable[int], duration_s: float = 2.0) -> list[int | None]:
    return [listener.identify(people.say(who), duration_s).speaker for who in turns]


def test_numbers_follow_the_order_of_appearance() -> None:
    assert hear(tracker(), People(), [7, 3, 7, 5, 3, 5, 7]) == [0, 1, 0, 2, 1, 2, 0]


def test_confidence_is_a_matter_of_margin() -> None:
    people, listener = People(spread=0.0), tracker()
    first, second = people.say(0), people.say(1)
    assert listener.identify(first, 2.0).confidence == 1.0
    assert listener.identify(second, 2.0).speaker == 1
    clear, leaning = listener.identify(first, 2.0), listener.identify(1.2 * first + second, 2.0)
    assert clear.speaker == leaning.speaker == 0
    assert clear.confidence > 0.99
    assert 0.5 < leaning.confidence < 0.95


def test_between_two_voices_nobody_is_sure() -> None:
    people, listener = People(spread=0.0), tracker()
    first, second, third = (people.say(who) for who in range(3))
    for voice in (first, second, third):
        listener.identify(voice, 2.0)
    assert listener.identify(first + second + third, 2.0) == UNKNOWN


def test_what_leans_to_two_voices_blurs_neither() -> None:
    people, listener = People(spread=0.0), tracker()
    first, second = people.say(0), people.say(1)
    listener.identify(first, 2.0)
    listener.identify(second, 2.0)
    before = json.dumps(listener.state())
    assert listener.identify(1.02 * first + second, 2.0).confidence < 0.6
    assert json.dumps(listener.state()) == before


@pytest.mark.parametrize("embedding", [None, np.full(DIMENSION, np.nan), np.zeros(DIMENSION)])
def test_no_voice_is_unknown(embedding: np.ndarray | None) -> None:
    assert tracker().identify(embedding, 2.0) == UNKNOWN


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan")])
def test_no_duration_is_unknown(duration_s: float) -> None:
    assert tracker().identify(People().say(0), duration_s) == UNKNOWN


def test_a_short_word_of_a_stranger_waits_for_a_second_one() -> None:
    people, listener = People(), tracker()
    assert hear(listener, people, [0]) == [0]
    assert hear(listener, people, [1, 0, 1, 1], duration_s=ENOUGH_S / 2) == [None, 0, 1, 1]


def test_short_words_of_different_strangers_make_nobody() -> None:
    people, listener = People(), tracker()
    assert hear(listener, people, [0]) == [0]
    assert hear(listener, people, [1, 2, 3, 4, 5], duration_s=ENOUGH_S / 2) == [None] * 5
    assert listener.speakers == (0,)


def test_even_the_first_voice_needs_more_than_a_click() -> None:
    people, listener = People(), tracker()
    assert hear(listener, people, [0], duration_s=0.2) == [None]
    assert hear(listener, people, [0], duration_s=0.2) == [0]


def test_no_more_voices_than_the_limit() -> None:
    people, listener = People(), tracker(limit=2)
    assert hear(listener, people, [0, 1]) == [0, 1]
    assert set(hear(listener, people, [2, 3, 4, 2])) <= {0, 1, None}
    assert listener.speakers == (0, 1)


def test_one_known_speaker_is_always_that_one() -> None:
    assert set(hear(tracker(fixed=1), People(spread=0.5), [0, 1, 2, 0, 3])) == {0}


def test_a_voice_may_change_slowly() -> None:
    people, listener = People(spread=0.0), tracker()
    young, old, other = people.say(0), people.say(1), people.say(2)
    listener.identify(young, 3.0)
    listener.identify(other, 3.0)
    for share in np.linspace(0, 1, 60):
        assert listener.identify((1 - share) * young + share * old, 3.0).speaker == 0


def test_a_forgotten_voice_is_new_when_it_comes_back() -> None:
    people, listener = People(), tracker()
    hear(listener, people, [0, 1])
    assert listener.forget(0)
    assert not listener.forget(0)
    assert listener.speakers == (1,)
    assert hear(listener, people, [1, 0, 0]) == [1, 2, 2]


def test_nothing_of_a_forgotten_voice_stays() -> None:
    people, listener = People(), tracker()
    hear(listener, people, [0])
    hear(listener, people, [1], duration_s=0.3)
    listener.forget(0)
    assert listener.state()["voices"] == listener.state()["strangers"] == []


def test_an_enrolled_voice_gets_the_next_number_and_keeps_its_name() -> None:
    people = People()
    listener = SpeakerTracker(SpeakerSettings(), PLAIN, enrolled=[("Ann", people.say(3), 10.0)])
    assert hear(listener, people, [0, 3, 1, 3, 0]) == [0, 1, 2, 1, 0]
    assert [listener.name(number) for number in (0, 1, 2, None)] == [None, "Ann", None, None]
    copy = SpeakerTracker(SpeakerSettings(), PLAIN, enrolled=[("Ann", people.say(3), 10.0)])
    copy.restore(json.loads(json.dumps(listener.state())))
    assert hear(copy, people, [3]) == [1]
    listener.reset()
    assert hear(listener, people, [3, 0]) == [0, 1]
    assert listener.name(0) == "Ann"
    listener.forget(0)
    assert hear(listener, people, [3]) == [2]
    assert listener.name(2) is None
    listener.reset()
    assert hear(listener, people, [3]) == [0]
    assert listener.name(0) is None


def test_an_enrolled_voice_takes_no_place_of_those_who_speak() -> None:
    people = People()
    listener = SpeakerTracker(SpeakerSettings(limit=2), PLAIN, enrolled=[("Ann", people.say(3), 10.0)])
    assert hear(listener, people, [0, 1]) == [0, 1]
    assert set(hear(listener, people, [3, 3])) <= {0, 1, None}


def test_recognising_gives_what_identifying_would_and_learns_nothing() -> None:
    people, listener = People(), tracker()
    assert listener.recognise(people.say(0), 2.0) == UNKNOWN
    hear(listener, people, [0, 1])
    before = json.dumps(listener.state())
    voice, stranger = people.say(1), people.say(5)
    guess = listener.recognise(voice, 2.0)
    assert listener.recognise(stranger, 2.0) == UNKNOWN
    assert json.dumps(listener.state()) == before
    assert guess == listener.identify(voice, 2.0)


def test_reset_begins_anew() -> None:
    people, listener = People(), tracker()
    hear(listener, people, [0, 1])
    listener.reset()
    assert hear(listener, people, [1, 0]) == [0, 1]


def test_state_survives_json() -> None:
    people, listener = People(), tracker()
    hear(listener, people, [0, 1])
    hear(listener, people, [2], duration_s=0.3)
    copy = tracker()
    copy.restore(json.loads(json.dumps(listener.state())))
    sounds = [(people.say(who), duration_s) for who in (0, 2, 1, 3, 2) for duration_s in (0.3, 2.0)]
    assert [copy.identify(*sound) for sound in sounds] == [listener.identify(*sound) for sound in sounds]


@pytest.mark.parametrize("state", [{}, {"next": 1, "voices": [{}], "strangers": []}, {"next": 0, "voices": None}])
def test_a_broken_state_is_refused_and_changes_nothing(state: dict[str, object]) -> None:
    people, listener = People(), tracker()
    hear(listener, people, [0])
    with pytest.raises(ValueError, match="not the state"):
        listener.restore(state)
    assert listener.speakers == (0,)


def test_a_state_of_other_embeddings_is_refused() -> None:
    row = {"speaker": 0, "total": [1.0, 2.0], "known_s": 1.0}
    with pytest.raises(ValueError, match="24 numbers"):
        tracker().restore({"next": 1, "voices": [row], "strangers": []})


@given(
    turns=st.lists(st.tuples(st.integers(0, 11), st.floats(0.05, 8.0)), max_size=60),
    limit=st.integers(1, 5),
    spread=st.sampled_from([0.05, 0.3, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_numbers_are_small_dense_and_bounded_whatever_is_heard(
    turns: list[tuple[int, float]], limit: int, spread: float
) -> None:
    people, listener = People(spread), tracker(limit)
    seen: list[int] = []
    for who, duration_s in turns:
        guess = listener.identify(people.say(who), duration_s)
        assert 0.0 <= guess.confidence <= 1.0
        assert (guess.speaker is None) == (guess.confidence == 0.0)
        if guess.speaker is not None and guess.speaker not in seen:
            assert guess.speaker == len(seen)  # the next number, none left out
            seen.append(guess.speaker)
    assert len(seen) <= limit
    state = listener.state()
    assert len(state["voices"]) <= limit
    assert len(state["strangers"]) <= 8


@pytest.mark.real_weights
def test_the_sample_conversation_has_two_speakers_who_take_turns() -> None:
    import av
    import torch

    from mer_agent.encoders.voice import VoiceEncoder
    from mer_agent.segmenter import SpeechCutter
    from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk
    from mer_agent.streams.vad import SileroVad

    torch.set_num_threads(1)
    encoder = VoiceEncoder("cpu", needs.weights("ge2e"))
    with av.open(needs.weights("sample-conversation") / "endgame_nagg_nell.wav") as file:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        sound = np.concatenate([out.to_ndarray()[0] for f in file.decode(audio=0) for out in resampler.resample(f)])
    cutter, listener = SpeechCutter(SileroVad().stream), SpeakerTracker()
    chunks = [
        AudioChunk(sound[at : at + 512], at * NS_PER_S // SAMPLE_RATE_HZ, number)
        for number, at in enumerate(range(0, len(sound), 512))
    ]
    segments = [segment for chunk in chunks for segment in cutter.push(chunk)] + cutter.finish()
    guesses = []
    for segment, embedding in zip(segments, encoder.encode_sounds([s.audio for s in segments]), strict=True):
        guess = listener.identify(embedding, (segment.end_ns - segment.start_ns) / NS_PER_S)
        # Read by ear: he calls, she answers, and so on in turn; the pauses between them are long.
        guesses.append((guess.speaker, len(guesses) % 2))
    assert len(guesses) >= 8
    assert {speaker for speaker, _ in guesses} - {None} == {0, 1}
    assert all(speaker in (None, expected) for speaker, expected in guesses)
    assert sum(speaker is None for speaker, _ in guesses) <= 2
