from __future__ import annotations

from support.messages import message

from mer_agent.roster import BEYOND_VOICES, Roster


def test_voices_keep_their_numbers_and_others_get_numbers_beyond() -> None:
    roster = Roster()
    assert roster.note(message(speaker=0))
    assert not roster.note(message(1, speaker=0))
    assert roster.seat("system") == BEYOND_VOICES
    assert roster.seat("user") == BEYOND_VOICES + 1
    assert roster.seat("speaker-0") == 0  # who writes may be known by a voice
    assert [roster.id(number) for number in (0, BEYOND_VOICES, None, 7)] == [
        "speaker-0",
        "system",
        "unknown",
        "speaker-7",
    ]
    assert [one.speaker for one in roster.participants] == ["speaker-0", "system", "user"]


def test_names() -> None:
    roster = Roster([(0, "Ada"), (1, None)])
    roster.note(message(speaker=0))
    assert roster.name("speaker-0") == "Ada"
    roster.rename("speaker-0", "Grace")
    assert roster.participants[0].name == "Grace"
    roster.rename("speaker-0", None)
    assert roster.name("speaker-0") is None
    roster.reset()
    assert roster.participants == ()
    assert roster.name("speaker-0") == "Ada"  # whose microphone it is has not changed


def test_a_snapshot_has_the_newest_emotion_and_no_words() -> None:
    roster = Roster()
    roster.note(message(0))
    roster.note(message(2, label="sad", confidence=0.1))
    roster.note(message(1, kind="revision"))  # of an older one
    (state,) = roster.states
    assert (state.utterances, state.label, state.end_ns) == (2, "sad", 8_000_000_000)
    assert "day" not in state.model_dump_json()


def test_who_is_forgotten_is_gone_and_the_number_is_not_given_again() -> None:
    roster = Roster()
    first = roster.seat("user", "Ada")
    roster.forget("user")
    assert "user" not in roster
    assert roster.number("user") is None
    assert roster.name("user") is None
    assert roster.seat("user") != first
