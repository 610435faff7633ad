"""Which words are read: those of a language that the encoders know, as far as the recogniser can tell."""

import pytest

from mer_agent.streams.language import LanguageFilter
from mer_agent.streams.types import Transcript


def heard(english: float, other: str = "de", text: str = "so") -> Transcript:
    written = other if 1 - english > 0.5 and english < 0.2 else "en"
    return Transcript(text, language=written, languages={other: 1 - english, "en": english})


@pytest.fixture
def languages() -> LanguageFilter:
    return LanguageFilter({"en"})


def test_a_plain_answer_decides_at_once(languages: LanguageFilter) -> None:
    assert languages.reads(heard(0.95))
    assert not languages.reads(heard(0.004))


def test_a_doubtful_one_is_taken_for_what_was_heard_before(languages: LanguageFilter) -> None:
    doubtful = heard(0.37)
    assert languages.reads(doubtful, learn=True)
    for _ in range(3):
        assert not languages.reads(heard(0.01), learn=True)
    assert not languages.reads(doubtful), "a short yes among German sentences"
    assert languages.reads(heard(0.98), learn=True), "somebody answers in English"


def test_whoever_changes_the_language_is_followed_after_any_time(languages: LanguageFilter) -> None:
    for _ in range(1000):
        languages.reads(heard(0.99), learn=True)
    assert not languages.reads(heard(0.004), learn=True)
    for _ in range(1000):
        languages.reads(heard(0.001), learn=True)
    assert languages.reads(heard(0.97), learn=True)


def test_only_what_is_learned_changes_anything(languages: LanguageFilter) -> None:
    doubtful = heard(0.3)
    before = languages.reads(doubtful)
    for _ in range(5):
        languages.reads(heard(0.0))
    assert languages.reads(doubtful) is before
    languages.reads(heard(0.0), learn=True)
    languages.reset()
    assert languages.reads(doubtful) is before


def test_words_whose_language_nobody_looked_for_are_read_unless_they_are_written_in_another(
    languages: LanguageFilter,
) -> None:
    assert languages.reads(Transcript("typed"))
    assert languages.reads(Transcript("told", language="en"))
    assert not languages.reads(Transcript("gesagt", language="de"))


def test_no_probability_is_believed_for_ever(languages: LanguageFilter) -> None:
    languages.reads(Transcript("x", language="en", languages={"en": 1.0}), learn=True)
    languages.reads(Transcript("x", language="de", languages={"de": 1.0, "en": 0.0}), learn=True)
    assert languages.reads(heard(0.95))


def test_encoders_of_any_language_read_everything() -> None:
    assert LanguageFilter(None).reads(heard(0.0))
