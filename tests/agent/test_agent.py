import asyncio

import pytest
import torch
from support.fakes import FakeEncoder, FakeSource, FakeStream, FakeWords
from support.streams_fakes import LoudnessVad

from mer_agent.agent import Agent
from mer_agent.aligner import Aligner
from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.errors import FaultError
from mer_agent.inference import Inference, InlineInference, ThreadInference
from mer_agent.perception import Perception
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import Prediction

TALK = [(800, False), (960, True), (960, False), (1280, True), (960, False), (640, True), (960, False)]
"""Three stretches of speech."""


def agent(
    source: FakeSource, words: FakeWords, publish: object, *, stream: FakeStream | None = None, threads: bool = False
) -> Agent:
    encoders = [FakeEncoder("text/mpnet@1", "text"), FakeEncoder(SPEAKER_FEATURE, "audio", torch.ones(256))]
    stream = stream or FakeStream([[0.9, 0.1], [0.2, 0.8]])
    inference: Inference = ThreadInference() if threads else InlineInference()
    conversation = Conversation(stream, encoders, SpeakerTracker(), labels=("happy", "sad"), label_set="two", model="f")
    return Agent(
        source,
        SpeechCutter(LoudnessVad),
        Aligner(),
        Perception(words, conversation, inference),
        conversation,
        inference,
        publish,  # type: ignore[arg-type]
    )


class Published(list[Prediction]):
    async def __call__(self, prediction: Prediction) -> None:
        self.append(prediction)


@pytest.mark.parametrize("threads", [False, True])
async def test_speech_becomes_predictions_in_the_order_in_which_it_ended(threads: bool) -> None:
    published = Published()
    words = FakeWords(["one", "two", ""], turns=[30, 0, 10])  # the first takes the longest
    async with asyncio.timeout(10):
        await agent(FakeSource(TALK), words, published, threads=threads).run()
    assert [one.utterance.id for one in published] == ["u000001", "u000002", "u000003"]
    assert [one.utterance.text for one in published] == ["one", "two", ""]
    assert [one.label for one in published] == ["happy", "sad", "happy"]
    assert [one.utterance.start_ns // 1_000_000 for one in published] == [800, 2720, 4960]
    assert [one.utterance.end_ns // 1_000_000 for one in published] == [1760, 4000, 5600]
    assert {"endpoint", "words", "speaker", "fusion"} <= set(published[0].timings_ms)


async def test_speech_that_is_open_at_the_end_of_the_stream_is_not_lost() -> None:
    published = Published()
    await agent(FakeSource([(320, False), (960, True)]), FakeWords(["cut off"]), published).run()
    assert [(one.utterance.text, one.utterance.closed_by) for one in published] == [("cut off", "end")]


async def test_a_source_that_fails_ends_the_agent_loudly_and_at_once() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(10):
            await agent(FakeSource(TALK, fault=FaultError("unplugged")), FakeWords(["x"]), Published()).run()
    assert caught.group_contains(FaultError, match="unplugged")


async def test_a_bug_in_a_stage_ends_the_agent_loudly() -> None:
    async def broken(prediction: Prediction) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(10):
            await agent(FakeSource(TALK, forever=True), FakeWords(["x"]), broken).run()
    assert caught.group_contains(ZeroDivisionError)


async def test_stopping_drains_what_was_heard() -> None:
    published = Published()
    running = agent(FakeSource(TALK, forever=True), FakeWords(["x"]), published)
    async with asyncio.timeout(10):
        run = asyncio.create_task(running.run())
        while len(published) < 2:
            await asyncio.sleep(0)
        running.stop()
        await run
    assert len(published) == 3


async def test_a_slow_reader_slows_the_source_down_instead_of_losing_utterances() -> None:
    published = Published()

    async def slow(prediction: Prediction) -> None:
        for _ in range(200):
            await asyncio.sleep(0)
        published.append(prediction)

    many = [(640, False), (640, True)] * 40 + [(640, False)]
    async with asyncio.timeout(30):
        await agent(FakeSource(many), FakeWords(["x"]), slow).run()
    assert len(published) == 40
