"""Work in advance: the same words and labels as without, thrown away when speech goes on, late words as revisions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pytest
import torch
from support.fakes import FakeEncoder, FakeSource, FakeStream
from support.streams_fakes import LoudnessVad

from mer_agent.agent import Agent
from mer_agent.aligner import Aligner
from mer_agent.config.settings import SegmenterSettings
from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.inference import InlineInference
from mer_agent.perception import Cut, Perception
from mer_agent.provisional import Provisional
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.partial_words import PartialWords
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import Prediction, Segment, Transcript, Word

TALK = [(640, False), (1280, True), (224, False), (960, True), (640, False), (960, True), (640, False)]
"""Two utterances; the first has a pause of 224 ms, long enough to be told and too short to end it."""


@dataclass
class SoundWords:
    """Says what depends on every sample of the segment; may take turns of the event loop, or wait for `release`."""

    turns: int = 0
    slow: frozenset[int] = frozenset()
    release: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    async def transcribe(self, segment: Segment) -> Transcript:
        self.calls += 1
        if self.calls in self.slow:
            await self.release.wait()
        for _ in range(self.turns):
            await asyncio.sleep(0)
        text = hashlib.sha256(segment.audio.tobytes()).hexdigest()[:8]
        return Transcript(text, (Word(text, segment.start_ns, segment.end_ns),))


async def hear(
    words: SoundWords,
    talk: list[tuple[int, bool]] = TALK,
    *,
    ahead: Literal["never", "idle", "always"] = "always",
    patience_s: float | None = None,
    guess: bool = False,
    over: Callable[[Transcript, Segment], bool] | None = None,
    on_final: Callable[[Prediction], None] = lambda prediction: None,
) -> tuple[list[Prediction], Perception, FakeStream]:
    encoders = [FakeEncoder("text/mpnet@1", "text"), FakeEncoder(SPEAKER_FEATURE, "audio", torch.ones(256))]
    stream = FakeStream([[0.9, 0.1], [0.2, 0.8]])
    conversation = Conversation(stream, encoders, SpeakerTracker(), labels=("a", "b"), label_set="two", model="fake")
    inference = InlineInference()
    perception = Perception(words, conversation, inference, ahead=ahead, patience_s=patience_s)
    published: list[Prediction] = []

    async def publish(prediction: Prediction) -> None:
        published.append(replace(prediction, timings_ms={}, utterance=replace(prediction.utterance, audio=None)))
        on_final(prediction)

    rules = SegmenterSettings(least_hangover_ms=192 if over else 0)
    provisional = Provisional(conversation, inference, publish) if guess else None
    agent = Agent(
        FakeSource(talk),
        SpeechCutter(LoudnessVad, rules),
        Aligner(),
        perception,
        conversation,
        inference,
        publish,
        provisional=provisional,
        over=over,
    )
    async with asyncio.timeout(10):
        await agent.run()
    return published, perception, stream


@pytest.mark.parametrize("turns", [0, 3, 200])
@pytest.mark.parametrize("guess", [False, True])
async def test_work_in_advance_changes_no_final_prediction(turns: int, guess: bool) -> None:
    plain, _, _ = await hear(SoundWords(), ahead="never")
    ahead, perception, _ = await hear(SoundWords(turns), guess=guess)
    assert [one for one in ahead if one.kind == "final"] == plain
    assert len(plain) == 2
    assert (perception.used, perception.wasted) == (2, 1)


async def test_a_machine_that_is_behind_begins_nothing_in_advance() -> None:
    plain, _, _ = await hear(SoundWords(), ahead="never")
    busy, perception, _ = await hear(SoundWords(2000), ahead="idle")
    assert busy == plain
    assert perception.used < 2


async def test_nothing_is_begun_where_nobody_wants_it() -> None:
    words = SoundWords()
    _, perception, _ = await hear(words, ahead="never")
    assert (words.calls, perception.used, perception.wasted) == (2, 0, 0)


async def test_a_sentence_that_is_over_is_cut_at_its_pause() -> None:
    together, _, _ = await hear(SoundWords())
    apart, _, _ = await hear(SoundWords(50), over=lambda transcript, segment: True)
    assert len(together) == 2
    assert [one.utterance.end_ns // 1_000_000 for one in apart] == [1920, 3104, 4704]


async def test_guesses_know_the_words_up_to_a_pause_that_ended_nothing() -> None:
    encoders = [FakeEncoder("text/mpnet@1", "text"), FakeEncoder(SPEAKER_FEATURE, "audio", torch.ones(256))]
    stream, words, looks, inference = FakeStream([[0.9, 0.1]]), SoundWords(), SoundWords(), InlineInference()
    conversation = Conversation(stream, encoders, SpeakerTracker(), labels=("a", "b"), label_set="two", model="fake")
    published: list[Prediction] = []

    async def publish(prediction: Prediction) -> None:
        published.append(prediction)

    provisional = Provisional(conversation, inference, publish, threshold=0.0, words=PartialWords(looks))
    perception = Perception(words, conversation, inference, ahead="always")
    segment = Segment(0, 1_000_000_000, np.zeros(16_000, np.float32), 0, "pause", 1_200_000_000)
    cut = Cut(segment, Aligner().utterance("u1", segment))
    provisional.begin("u1")
    async with asyncio.TaskGroup() as tasks:
        provisional.look(cut, tasks.create_task)
        await asyncio.sleep(0.01)
        provisional.pause("u1")
        perception.begin(cut, tasks.create_task)
        found = await perception.words_ahead(segment.source)
        provisional.resume("u1", perception.drop(segment.source))
        provisional.look(cut, tasks.create_task)
    assert found is not None
    assert [one.utterance.text for one in published] == ["", found.text]
    assert (words.calls, looks.calls) == (1, 0)


async def test_words_that_take_too_long_revise_the_prediction_and_only_that() -> None:
    words = SoundWords(slow=frozenset({1}))
    finals = 0

    def release(prediction: Prediction) -> None:
        nonlocal finals
        finals += prediction.kind == "final"
        if finals == 2:
            words.release.set()

    late, _, stream = await hear(words, ahead="never", patience_s=0.05, on_final=release)
    in_time, _, _ = await hear(SoundWords(), ahead="never")
    assert [(one.kind, one.utterance.id, one.revision) for one in late] == [
        ("final", "u000001", 0),
        ("final", "u000002", 0),
        ("revision", "u000001", 1),
    ]
    assert late[0].utterance.text == ""
    assert late[2].utterance.text == in_time[0].utterance.text
    assert [call[0] for call in stream.looks] == ["u000001"]


async def test_guesses_come_while_speech_goes_on_and_never_after_its_end() -> None:
    talk = [(640, False), (3200, True), (640, False), (6400, True), (640, False)]
    published, _, stream = await hear(SoundWords(), talk, guess=True)
    kinds = [(one.utterance.id, one.kind) for one in published]
    assert kinds[0] == ("u000001", "partial")
    assert kinds.index(("u000001", "final")) < kinds.index(("u000002", "partial"))
    assert [kind for kind in kinds if kind[1] == "final"] == [("u000001", "final"), ("u000002", "final")]
    assert sum(kind == "partial" for _, kind in kinds) == 2
    assert {look[0] for look in stream.looks} == {""}  # guesses add nothing to the graph
    first = published[0].utterance
    assert first.end_ns - first.start_ns == 500_000_000


async def test_what_is_said_later_changes_nothing_that_was_published() -> None:
    def said(later_ms: int) -> list[tuple[int, bool]]:
        return [(640, False), (2240, True), (640, False), (later_ms, True), (640, False)]

    one, other = [(await hear(SoundWords(), said(ms), guess=True))[0] for ms in (960, 2560)]

    def first(published: list[Prediction]) -> list[Prediction]:
        return [prediction for prediction in published if prediction.utterance.id == "u000001"]

    assert first(one) == first(other)
    assert {prediction.kind for prediction in first(one)} == {"partial", "final"}
    assert len(one) > len(first(one))


async def test_a_guess_like_the_one_before_is_not_published() -> None:
    encoders = [FakeEncoder(SPEAKER_FEATURE, "audio", torch.ones(256))]
    stream = FakeStream([[0.9, 0.1]])
    conversation = Conversation(stream, encoders, SpeakerTracker(), labels=("a", "b"), label_set="two", model="fake")
    published: list[Prediction] = []

    async def publish(prediction: Prediction) -> None:
        published.append(prediction)

    provisional = Provisional(conversation, InlineInference(), publish, threshold=0.2)
    sound = np.zeros(16_000, np.float32)
    segment = Segment(0, 1_000_000_000, sound, 0, "pause", 1_000_000_000)
    cut = Cut(segment, Aligner().utterance("u1", segment))
    provisional.begin("u1")
    for answer in ([0.9, 0.1], [0.75, 0.25], [0.65, 0.35], [0.6, 0.4]):
        stream.script = [answer]
        async with asyncio.TaskGroup() as tasks:
            provisional.look(cut, tasks.create_task)
    assert [round(one.distribution["a"], 2) for one in published] == [0.9, 0.65]
    assert provisional.unmoved == 2
    provisional.end("u1")
    async with asyncio.TaskGroup() as tasks:
        provisional.look(cut, tasks.create_task)
    assert len(published) == 2


def test_the_fake_words_depend_on_every_sample() -> None:
    sound = np.zeros(512, np.float32)
    changed = sound.copy()
    changed[100] = 1e-6
    texts = [
        asyncio.run(SoundWords().transcribe(Segment(0, 1, audio, 0, "pause", 1))).text for audio in (sound, changed)
    ]
    assert texts[0] != texts[1]
