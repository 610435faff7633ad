from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.fakes import FakeEncoder, FakeStream

from mer_agent.aligner import with_words
from mer_agent.conversation import PAST_TURNS, REVISABLE, SPEAKER_FEATURE, Conversation
from mer_agent.streams.speakers import SpeakerGuess
from mer_agent.streams.types import NS_PER_S, Hearing, Prediction, Transcript, Turn, Utterance

LABELS = ("happy", "sad")


@dataclass
class Alternating:
    """Two speakers in turn; nobody where there is no voice."""

    calls: int = -1

    def identify(self, embedding: object, duration_s: float) -> SpeakerGuess:
        self.calls += 1
        return SpeakerGuess(None, 0.0) if embedding is None else SpeakerGuess(self.calls % 2, 0.75)

    def recognise(self, embedding: object, duration_s: float) -> SpeakerGuess:
        return SpeakerGuess((self.calls + 1) % 2, 0.5)

    def forget(self, speaker: int) -> bool:
        return True

    def reset(self) -> None:
        self.calls = -1


def utterance(number: int, text: str = "hello") -> Utterance:
    return Utterance(
        f"u{number}", None, number * NS_PER_S, (number + 1) * NS_PER_S, transcript=Transcript(text) if text else None
    )


class Setup:
    def __init__(self, *, fails_at: int = -1, voice_fails: bool = False, text_fails: bool = False) -> None:
        self.text = FakeEncoder("text/mpnet@1", "text", fails=text_fails)
        self.voice = FakeEncoder(SPEAKER_FEATURE, "audio", fails=voice_fails)
        self.stream = FakeStream([[0.9, 0.1], [0.2, 0.8]], fails_at)
        self.speakers = Alternating()
        self.conversation = Conversation(
            self.stream, [self.text, self.voice], self.speakers, labels=LABELS, label_set="two", model="fake"
        )

    def say(self, number: int, text: str = "hello") -> Prediction:
        one = utterance(number, text)
        return self.conversation.judge(one, self.conversation.hear(one))


def test_an_utterance_becomes_a_prediction_with_all_that_a_reader_needs() -> None:
    setup = Setup()
    first, second = setup.say(0), setup.say(1)
    assert (first.label, second.label) == ("happy", "sad")
    assert first.distribution == pytest.approx({"happy": 0.9, "sad": 0.1})
    assert first.confidence == pytest.approx(0.9)
    assert (first.utterance.speaker, second.utterance.speaker) == (0, 1)
    assert first.utterance.speaker_confidence == 0.75
    assert first.modalities_used == ("text", "audio")
    assert first.modalities_missing == ("visual",)
    assert (first.context_length, second.context_length) == (0, 1)
    assert (first.kind, first.revision, first.label_set, first.model, first.degraded) == (
        "final",
        0,
        "two",
        "fake",
        None,
    )
    assert set(first.timings_ms) == {SPEAKER_FEATURE, "text/mpnet@1", "speaker", "fusion"}


def test_words_that_are_missing_are_absent_and_not_made_up() -> None:
    setup = Setup()
    setup.say(0, "")
    assert setup.stream.calls == [("u0", 0, (SPEAKER_FEATURE,))]


def test_the_text_encoder_sees_the_turns_before_with_anonymous_speakers_and_never_those_after() -> None:
    setup = Setup()
    for number in range(PAST_TURNS + 3):
        setup.say(number, f"turn {number}")
    for number, (one, past) in enumerate(setup.text.seen):
        assert one.text == f"turn {number}"
        before = range(max(0, number - PAST_TURNS), number)
        assert past == tuple(Turn(earlier % 2, f"turn {earlier}") for earlier in before)


@pytest.mark.parametrize("ahead", [False, True], ids=["at the end", "in advance"])
def test_what_listens_to_the_recogniser_is_asked_once_and_when_that_has_heard(ahead: bool) -> None:
    setup = Setup()
    listener = FakeEncoder("audio/whisper-steps@1", "audio", hears_recogniser=True)
    setup.conversation = Conversation(
        setup.stream, [listener, setup.voice], setup.speakers, labels=LABELS, label_set="two", model="fake"
    )
    sound, hearing = np.ones(2, np.float32), Hearing("whisper-base", np.ones((1, 2), np.float32))
    early = replace(utterance(0), audio=sound)
    heard = setup.conversation.hear(early)
    assert not listener.seen
    late = replace(early, hearing=hearing)
    if ahead:
        heard = setup.conversation.read(late, heard)
    prediction = setup.conversation.judge(late, heard)
    assert [one.hearing for one, _ in listener.seen] == [hearing]
    assert setup.stream.calls == [("u0", 0, (SPEAKER_FEATURE, "audio/whisper-steps@1"))]
    assert "audio/whisper-steps@1" in prediction.timings_ms
    open_still = replace(utterance(1), audio=sound)
    setup.conversation.preview(open_still, setup.conversation.hear(open_still))
    assert listener.seen[-1][0].hearing is None, "it must do without while words are still being spoken"
    setup.conversation.add(utterance(2))
    assert len(listener.seen) == 2, "what was typed makes no sound"


def test_what_the_recogniser_heard_late_is_revised_like_late_words() -> None:
    setup = Setup()
    listener = FakeEncoder("audio/whisper-steps@1", "audio", hears_recogniser=True)
    setup.conversation = Conversation(
        setup.stream, [listener, setup.voice], setup.speakers, labels=LABELS, label_set="two", model="fake"
    )
    one = replace(utterance(0, ""), audio=np.ones(2, np.float32))
    final = setup.conversation.judge(one, setup.conversation.hear(one))
    late = with_words(one, Transcript("", hearing=Hearing("whisper-base", np.ones((1, 2), np.float32))))
    listener.vector = torch.zeros(2)
    revision = setup.conversation.revise("u0", transcript=Transcript(""), heard=setup.conversation.listen(late))
    assert final.utterance.hearing is None
    assert listener.seen[-1][0].hearing is late.hearing
    assert revision is not None, "though no word was understood"
    assert (revision.kind, revision.revision, revision.utterance.hearing) == ("revision", 1, None)
    assert setup.conversation.revise("u0", transcript=Transcript("")) is None, "nothing is new"


def test_words_of_a_language_that_the_encoder_does_not_know_are_not_read_and_no_turn_for_others() -> None:
    setup = Setup()
    setup.text.languages = ("en",)
    setup.conversation = Conversation(
        setup.stream, [setup.text, setup.voice], setup.speakers, labels=LABELS, label_set="two", model="fake"
    )
    spoken = [("hello", 0.98), ("guten Tag", 0.001), ("ja", 0.4), ("so be it", 0.99)]
    for number, (text, english) in enumerate(spoken):
        languages = {"de": 1 - english, "en": english}
        transcript = Transcript(text, language="de" if english < 0.2 else "en", languages=languages)
        one = replace(utterance(number), transcript=transcript)
        heard = setup.conversation.hear(one)
        if number % 2:
            heard = setup.conversation.read(one, heard)  # in advance, the same
        prediction = setup.conversation.judge(one, heard)
        assert prediction.utterance.text == text, "a reader may still want them"
    assert [features for _, _, features in setup.stream.calls] == [
        (SPEAKER_FEATURE, "text/mpnet@1") if number in (0, 3) else (SPEAKER_FEATURE,) for number in range(4)
    ]
    assert setup.text.seen[-1][1] == (Turn(0, "hello"),)


def test_an_encoder_that_fails_costs_its_modality_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(text_fails=True)
    prediction = setup.say(0, "a secret")
    assert setup.stream.calls == [("u0", 0, (SPEAKER_FEATURE,))]
    assert prediction.degraded == "failed: text/mpnet@1"
    assert prediction.label == "happy"
    assert "secret" not in caplog.text  # the error quoted the words; the log must not


def test_without_a_voice_the_speaker_is_unknown() -> None:
    prediction = Setup(voice_fails=True).say(0)
    assert prediction.utterance.speaker is None
    assert prediction.degraded == f"failed: {SPEAKER_FEATURE}"


def test_a_model_that_fails_costs_one_prediction_and_not_the_session(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(fails_at=0)
    first, second = setup.say(0), setup.say(1)
    assert (first.label, dict(first.distribution), first.confidence) == (None, {}, 0.0)
    assert first.degraded == "failed: fake"
    assert first.modalities_used == ()
    assert second.label == "sad"
    assert "secret" not in caplog.text


def test_pictures_are_wanted_only_where_an_encoder_reads_them() -> None:
    assert not Setup().conversation.sees
    face = FakeEncoder("face/densenet@1", "visual")
    conversation = Conversation(FakeStream([[1.0, 0.0]]), [face], Alternating(), labels=LABELS, label_set="", model="")
    assert conversation.sees


def test_whoever_has_a_microphone_of_their_own_is_known_by_it() -> None:
    setup = Setup()
    setup.conversation = Conversation(
        setup.stream,
        [setup.text, setup.voice],
        Alternating(),
        labels=LABELS,
        label_set="two",
        model="fake",
        seats={"audio-0": 0, "audio-1": 1},
    )
    heard = []
    for number, source in enumerate(("audio-1", "audio-1", "audio-0")):
        one = replace(utterance(number), source=source)
        heard.append(setup.conversation.judge(one, setup.conversation.hear(one)).utterance)
    assert [(one.speaker, one.speaker_confidence) for one in heard] == [(1, 1.0), (1, 1.0), (0, 1.0)]


def test_a_preview_leaves_no_trace() -> None:
    setup, plain = Setup(), Setup()
    for number in range(4):
        one = utterance(number, f"turn {number}")
        guess = setup.conversation.preview(one, setup.conversation.hear(one))
        assert (guess.kind, guess.utterance.speaker, guess.utterance.speaker_confidence) == ("partial", number % 2, 0.5)
        final = setup.say(number, f"turn {number}")
        assert (guess.label, guess.context_length) == (final.label, final.context_length)
        expected = plain.say(number, f"turn {number}")
        assert replace(final, timings_ms={}) == replace(expected, timings_ms={})
    assert setup.stream.calls == plain.stream.calls


def test_words_that_were_read_in_advance_are_not_read_again() -> None:
    setup = Setup()
    one = utterance(0)
    known = setup.conversation.read(one, setup.conversation.hear(one))
    setup.conversation.judge(one, known)
    assert len(setup.text.seen) == 1


def test_words_that_were_read_before_another_turn_came_are_read_again() -> None:
    setup = Setup()
    one = utterance(1, "later")
    known = setup.conversation.read(one, setup.conversation.hear(one))
    setup.say(0, "earlier")
    setup.conversation.judge(one, known)
    assert [(seen.text, past) for seen, past in setup.text.seen] == [
        ("later", ()),
        ("earlier", ()),
        ("later", (Turn(0, "earlier"),)),
    ]


def test_words_are_read_as_their_speaker_s() -> None:
    setup = Setup()
    setup.say(0, "earlier")
    one = utterance(1, "in advance")
    setup.conversation.judge(one, setup.conversation.read(one, setup.conversation.hear(one)))
    assert [seen.speaker for seen, _ in setup.text.seen] == [0, 1], "as it seemed in advance, so it was"
    someone = utterance(2, "someone else")
    setup.speakers.calls += 1
    known = setup.conversation.read(someone, setup.conversation.hear(someone))
    setup.speakers.calls += 1
    setup.conversation.judge(someone, known)
    assert [seen.speaker for seen, _ in setup.text.seen[2:]] == [1, 0]


def test_guesses_at_the_same_words_read_them_once() -> None:
    setup = Setup()
    one = utterance(0, "so far")
    for longer_s in (1, 2):
        heard = replace(one, end_ns=longer_s * NS_PER_S)
        guess = setup.conversation.preview(heard, setup.conversation.hear(heard))
        assert "text" in guess.modalities_used
    assert len(setup.text.seen) == 1
    setup.conversation.forget(7)
    setup.conversation.preview(one, setup.conversation.hear(one))
    assert len(setup.text.seen) == 2, "what somebody who is forgotten said isn't kept"


def test_encoders_forget_with_the_conversation() -> None:
    class Remembers(FakeEncoder):
        forgotten = 0

        def forget(self) -> None:
            self.forgotten += 1

    encoders = [
        Remembers("text/mpnet@1", "text"),
        Remembers(SPEAKER_FEATURE, "audio"),
        FakeEncoder("face/f@1", "visual"),
    ]
    stream = FakeStream([[0.9, 0.1]])
    conversation = Conversation(stream, encoders, Alternating(), labels=LABELS, label_set="two", model="fake")
    conversation.forget(1)
    conversation.reset()
    assert [encoder.forgotten for encoder in encoders[:2]] == [2, 2]


def test_words_whose_encoding_failed_are_tried_again() -> None:
    setup = Setup(text_fails=True)
    one = utterance(0)
    assert setup.conversation.preview(one, setup.conversation.hear(one)).degraded
    setup.text.fails = False
    assert setup.conversation.preview(one, setup.conversation.hear(one)).degraded is None


def test_late_words_revise_their_utterance_as_it_was_then() -> None:
    setup = Setup()
    setup.say(0, "before")
    setup.say(1, "")
    setup.say(2, "after")
    revised = setup.conversation.revise("u1", transcript=Transcript("late"))
    assert revised is not None
    assert (revised.kind, revised.revision, revised.utterance.id, revised.utterance.text) == (
        "revision",
        1,
        "u1",
        "late",
    )
    assert setup.stream.looks == [("u1", 1, (SPEAKER_FEATURE, "text/mpnet@1"))]
    assert setup.text.seen[-1][1] == (Turn(0, "before"),)  # not what came after it
    setup.say(3, "next")
    assert [turn.text for turn in setup.text.seen[-1][1]] == ["before", "late", "after"]
    again = setup.conversation.revise("u1", speaker=7)
    assert again is not None
    assert (again.revision, again.utterance.speaker, again.utterance.text) == (2, 7, "late")


def test_a_revision_that_changes_nothing_is_none() -> None:
    setup = Setup()
    setup.say(0, "same")
    assert setup.conversation.revise("u0", transcript=Transcript("same")) is None
    assert setup.conversation.revise("u0", speaker=0) is None
    assert setup.conversation.revise("u9", transcript=Transcript("never heard of")) is None
    for number in range(1, REVISABLE + 1):
        setup.say(number)
    assert setup.conversation.revise("u0", transcript=Transcript("too late")) is None


def test_a_label_that_is_not_sure_enough_is_not_given_but_the_distribution_is() -> None:
    setup = Setup()
    setup.conversation = Conversation(
        setup.stream, [setup.text], Alternating(), labels=LABELS, label_set="two", model="fake", abstain_below=0.85
    )
    first, second = setup.say(0), setup.say(1)
    assert (first.label, second.label) == ("happy", None)
    assert second.confidence == pytest.approx(0.8)
    assert second.distribution == pytest.approx({"happy": 0.2, "sad": 0.8})
    assert second.degraded is None
