from __future__ import annotations

from typing import Any

import pytest
from support.messages import message

from mer_agent.client.mood import SPEAKERS, UTTERANCES, Memory

SAD = {"distribution": {"sad": 0.9, "neutral": 0.1}, "label": "sad", "confidence": 0.9}
HAPPY = {"distribution": {"happy": 0.9, "neutral": 0.1}, "label": "happy", "confidence": 0.9}


def memory(*said: tuple[float, dict[str, Any]]) -> Memory:
    found = Memory()
    for number, (at_s, changes) in enumerate(said):
        found.note(message(number, **changes), at_s)
    return found


def test_nobody_has_said_anything() -> None:
    assert Memory().latest() is None
    assert Memory().mood(None, 60, 0) is None


def test_the_latest_is_of_a_speaker_or_of_whoever_spoke_last() -> None:
    found = memory((0, HAPPY), (1, {**SAD, "speaker": 1}))
    assert found.latest() == message(1, **SAD, speaker=1)
    assert found.latest("speaker-0") == message(0, **HAPPY)
    assert found.latest("speaker-7") is None


def test_a_revision_takes_the_place_of_what_it_revises() -> None:
    found = memory((0, HAPPY), (1, HAPPY))
    revised = message(0, kind="revision", revision=1, **SAD)
    found.note(revised, 2)
    found.note(message(0, **HAPPY), 3)  # the first one again, which is out of date
    assert found.latest() == message(1, **HAPPY)
    mood = found.mood(None, 60, 3)
    assert mood is not None
    assert mood.utterances == 2
    assert 0.4 < mood.distribution["sad"] < 0.5


def test_guesses_do_not_count() -> None:
    found = memory((0, {**HAPPY, "kind": "partial"}))
    assert found.latest() is None


def test_after_the_half_life_an_emotion_counts_half() -> None:
    mood = memory((0, HAPPY), (60, SAD)).mood("speaker-0", 60, 60)
    assert mood is not None
    assert mood.label == "sad"
    assert mood.distribution["happy"] == pytest.approx(0.9 / 3)
    assert mood.distribution["sad"] == pytest.approx(0.9 * 2 / 3)
    assert sum(mood.distribution.values()) == pytest.approx(1)
    assert mood.pleasantness == pytest.approx(-0.3)


def test_time_alone_turns_no_mood_and_then_it_is_gone() -> None:
    found = memory((0, HAPPY), (1, SAD))
    moods = [found.mood(None, 10, now_s) for now_s in (1, 5, 20, 60)]
    assert all(mood is not None and mood.distribution == pytest.approx(moods[0].distribution) for mood in moods)  # type: ignore[union-attr]
    assert found.mood(None, 10, 1000) is None


def test_the_trend_goes_from_older_to_newer() -> None:
    assert memory((0, HAPPY)).mood(None, 60, 1).trend is None  # type: ignore[union-attr]
    falling = memory((0, HAPPY), (1, HAPPY), (2, SAD), (3, SAD)).mood(None, 60, 3)
    assert falling is not None
    assert falling.trend == pytest.approx(-1.8)
    assert memory((0, SAD), (1, HAPPY), (2, HAPPY)).mood(None, 60, 3).trend == pytest.approx(1.8)  # type: ignore[union-attr]


def test_what_could_not_be_judged_or_has_other_labels_is_left_out() -> None:
    unjudged = {"distribution": {}, "label": None, "confidence": 0.0, "degraded": "no words"}
    found = memory((0, {**HAPPY, "label_set": "meld7"}), (1, SAD), (2, unjudged))
    mood = found.mood(None, 60, 2)
    assert mood is not None
    assert (mood.label, mood.utterances) == ("sad", 1)


def test_a_clock_that_goes_back_does_no_harm() -> None:
    mood = memory((100, HAPPY), (0, SAD)).mood(None, 60, 50)
    assert mood is not None
    assert 0 < mood.distribution["happy"] < 1


def test_only_a_positive_half_life_makes_sense() -> None:
    with pytest.raises(ValueError, match="positive"):
        memory((0, HAPPY)).mood(None, 0, 1)


def test_speakers_of_other_sessions_are_others() -> None:
    found = memory((0, HAPPY))
    found.note(message(1, **SAD).model_copy(update={"session": "s2"}), 1)
    mood = found.mood("speaker-0", 60, 1)
    assert mood is not None
    assert (mood.label, mood.utterances) == ("sad", 1)
    found.forget("desk", "s2", "speaker-0")
    assert found.latest("speaker-0") == message(0, **HAPPY)
    found.forget("desk", "s1")
    assert found.latest() is None


def test_it_stays_small() -> None:
    found = Memory()
    for number in range(1000):
        one = message(number, **HAPPY)
        found.note(one, number)
        found.note(one.model_copy(update={"session": f"s{number}"}), number)
    assert len(found._speakers) <= SPEAKERS
    assert max(len(heard) for heard in found._speakers.values()) <= UTTERANCES
