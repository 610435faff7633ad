from __future__ import annotations

import pytest

from mer_agent.own_speech import OwnSpeech
from mer_agent.streams.types import NS_PER_S, Transcript, Utterance

ROBOT = 1_000_000
STORY = "Well, I'd say that the weather in Paris is lovely today, and it should stay so until Sunday."


def heard(text: str, start_s: float = 11.0, end_s: float = 13.0) -> Utterance:
    return Utterance(
        "u1", None, int(start_s * NS_PER_S), int(end_s * NS_PER_S), transcript=Transcript(text) if text else None
    )


@pytest.fixture
def speech() -> OwnSpeech:
    speech = OwnSpeech(tail_ms=700)
    speech.say("t1", ROBOT, STORY, 10 * NS_PER_S, 16 * NS_PER_S)
    return speech


@pytest.mark.parametrize(
    "text",
    [
        STORY,
        "the weather in Paris is lovely today",
        "Well I\u2019d say that the whether in Paris is lovely to day",  # as a recogniser may have it
        "",  # a voice without words at that time
    ],
)
def test_its_own_words_at_its_own_time_are_an_echo(speech: OwnSpeech, text: str) -> None:
    found = speech.match(heard(text))
    assert found is not None
    assert found.speaker == ROBOT


@pytest.mark.parametrize(
    "text",
    [
        "Stop!",
        "no wait I meant Berlin",
        "the weather in Paris is lovely no wait I meant Berlin",  # both voices in one stretch of sound
        "what about Sunday",
    ],
)
def test_a_user_who_speaks_over_it_is_heard(speech: OwnSpeech, text: str) -> None:
    assert speech.match(heard(text)) is None
    assert speech.overlaps(heard(text))


def test_it_speaks_no_longer_than_it_says_though_the_room_still_does(speech: OwnSpeech) -> None:
    assert speech.speaks(heard("Stop!", 15.5, 16.5))
    assert not speech.speaks(heard("Berlin", 16.2, 17))
    assert speech.overlaps(heard("Berlin", 16.2, 17))


def test_its_words_at_another_time_are_somebody_else_s(speech: OwnSpeech) -> None:
    assert speech.match(heard(STORY, 2, 8)) is None
    assert speech.match(heard(STORY, 20, 26)) is None
    assert not speech.overlaps(heard(STORY, 20, 26))


def test_the_room_may_be_late(speech: OwnSpeech) -> None:
    assert speech.match(heard("until Sunday", 15.6, 16.6)) is not None
    assert speech.match(heard("until Sunday", 16.8, 17.6)) is None


def test_most_of_an_answer_may_come_after_it(speech: OwnSpeech) -> None:
    assert speech.match(heard("until Sunday", 15.9, 18.5)) is None


def test_it_speaks_until_it_says_that_it_has_ended() -> None:
    speech = OwnSpeech(tail_ms=0)
    speech.say("t1", ROBOT, STORY, 10 * NS_PER_S, None)
    assert speech.match(heard("the weather in Paris", 100, 102)) is not None
    speech.say("t1", ROBOT, "other words don't count the second time", 10 * NS_PER_S, 50 * NS_PER_S)
    assert speech.match(heard("the weather in Paris", 100, 102)) is None
    assert speech.match(heard("the weather in Paris", 20, 22)) is not None


def test_the_echo_of_two_turns_may_be_one_utterance(speech: OwnSpeech) -> None:
    speech.say("t2", ROBOT, "Shall I book a table?", 16 * NS_PER_S, 18 * NS_PER_S)
    assert speech.match(heard("so until Sunday shall I book a table", 14, 18)) is not None
    speech.forget()
    assert speech.match(heard(STORY)) is None
