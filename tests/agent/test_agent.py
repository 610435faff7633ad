import asyncio

import numpy as np
import pytest
import torch
from support.fakes import FRAME, FRAME_NS, FakeEncoder, FakeSource, FakeStream, FakeWords
from support.streams_fakes import LoudnessVad

from mer_agent.agent import Agent, Echo
from mer_agent.aligner import Aligner
from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.errors import FaultError
from mer_agent.inference import Inference, InlineInference, ThreadInference
from mer_agent.own_speech import OwnSpeech
from mer_agent.perception import Perception
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.mailbox import Sink
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import AudioChunk, Prediction, VideoFrame

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


def beside_a_system(published: object, said: str, echo: Echo, texts: list[str]) -> Agent:
    """The agent of three stretches of speech, while a dialogue system says something during the second."""
    made = agent(FakeSource(TALK), FakeWords(texts), published)
    own_speech = OwnSpeech(tail_ms=100)
    own_speech.say("t1", 1_000_000, said, 2_700_000_000, 4_000_000_000)
    made._own_speech, made._echo = own_speech, echo
    return made


async def test_the_system_s_own_voice_is_told_apart_and_adds_nothing_to_the_conversation() -> None:
    texts = ["hi there", "how are you today", "fine thanks"]
    published = Published()
    made = beside_a_system(published, "How are you today?", "attribute", texts)
    await made.run()
    assert [one.utterance.speaker for one in published] == [0, 1_000_000, 0]
    assert [one.degraded for one in published] == [None, "echo: the dialogue system's own voice", None]
    stream = made._conversation._stream
    assert isinstance(stream, FakeStream)
    assert [id_ for id_, _, _ in stream.calls] == ["u000001", "u000003"]


async def test_the_system_s_own_voice_is_muted() -> None:
    published = Published()
    await beside_a_system(published, "How are you?", "mute", ["hi there", "how are you", "fine thanks"]).run()
    assert [one.utterance.text for one in published] == ["hi there", "fine thanks"]


@pytest.mark.parametrize("echo", ["attribute", "mute", "hear"])
async def test_a_user_who_speaks_over_the_system_is_heard(echo: Echo) -> None:
    published = Published()
    texts = ["hi there", "stop I want something else", "fine thanks"]
    await beside_a_system(published, "Let me tell you the story of my life.", echo, texts).run()
    assert [(one.utterance.text, one.utterance.speaker) for one in published] == [(text, 0) for text in texts]
    assert [one.utterance.overlap for one in published] == [None, True, None]


class TwoMicrophones:
    """Two speakers, a microphone each: the second speaks into the end of the first, and again when he is quiet."""

    talk = ((10, 40), (30, 60)), ((80, 100), (130, 150))
    """For each pair of utterances, the frames of either microphone in which it hears speech."""

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        for number in range(200):
            for source in (0, 1):
                loud = any(first <= number < last for first, last in (pair[source] for pair in self.talk))
                samples = np.full(FRAME, 0.5 if loud else 0.0, np.float32)
                await audio.put(AudioChunk(samples, number * FRAME_NS, number, source=f"audio-{source}"))
        audio.close()


async def test_two_who_speak_at_once_into_their_microphones_are_both_told() -> None:
    published = Published()
    made = agent(FakeSource([]), FakeWords(["x"]), published)
    made._source = TwoMicrophones()
    await made.run()
    told = {(one.utterance.source, one.utterance.start_ns // FRAME_NS): one.utterance.overlap for one in published}
    assert told == {("audio-0", 10): True, ("audio-1", 30): True, ("audio-0", 80): False, ("audio-1", 130): False}


async def test_what_was_said_before_a_pause_counts_and_what_is_said_in_it_does_not() -> None:
    published, tapped = Published(), list[int]()
    made = agent(FakeSource([]), FakeWords(["before", "after"]), published)
    chunks = [
        AudioChunk(np.full(FRAME, 0.5 if 10 <= n % 50 < 30 else 0.0, np.float32), n * FRAME_NS, n) for n in range(150)
    ]

    class Scripted:
        async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
            for number, chunk in enumerate(chunks):
                if number == 25:  # in the middle of the first stretch of speech
                    made.pause()
                if number == 90:
                    made.resume()
                await audio.put(chunk)
                await asyncio.sleep(0)
                while len(made._captured):
                    await asyncio.sleep(0)
            audio.close()

    def tap(captured: AudioChunk | VideoFrame) -> AudioChunk | VideoFrame:
        tapped.append(captured.sequence)
        return captured

    made._source, made._tap = Scripted(), tap
    async with asyncio.timeout(10):
        await made.run()
    assert tapped == [*range(25), *range(90, 150)], "what is said in a pause isn't recorded"
    assert [one.utterance.text for one in published] == ["before", "after"]
    spans = [(one.utterance.start_ns // FRAME_NS, one.utterance.end_ns // FRAME_NS) for one in published]
    assert spans == [(10, 25), (110, 130)]
