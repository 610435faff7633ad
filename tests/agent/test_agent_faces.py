"""Pictures in the agent: looked at when they arrive, at a low rate, and kept as crops."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.fakes import FRAME_NS, FakeEncoder, FakeSource, FakeStream, FakeWords
from support.streams_fakes import LoudnessVad

from mer_agent.agent import Agent
from mer_agent.aligner import Aligner, FrameRing
from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.inference import InlineInference
from mer_agent.perception import Perception
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.mailbox import Sink
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import AudioChunk, Face, Prediction, VideoFrame

FULL_HD = np.zeros((1080, 1920, 3), np.uint8)


class Filmed(FakeSource):
    """Beside the sound, a picture of 1920x1080 for each chunk: 31 a second."""

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        class Both:
            async def put(self, chunk: AudioChunk) -> None:
                await audio.put(chunk)
                if video is not None:
                    await video.put(VideoFrame(FULL_HD, chunk.start_ns + FRAME_NS, chunk.sequence))

            def close(self) -> None:
                audio.close()

        await super().run(Both())  # type: ignore[arg-type]


class Eyes:
    """Finds one face in each picture, and counts the pictures."""

    def __init__(self) -> None:
        self.looked = 0

    async def __call__(self, frame: VideoFrame) -> VideoFrame:
        self.looked += 1
        face = Face(0, np.zeros((48, 48), np.uint8), (0, 0, 1, 1), 1.0)
        return replace(frame, image=np.empty((0, 0, 3), np.uint8), faces=(face,))


def agent(published: list[Prediction], ring: FrameRing, eyes: Eyes | None, *modalities: str) -> Agent:
    encoders = [FakeEncoder("text/mpnet@1", "text"), FakeEncoder(SPEAKER_FEATURE, "audio", torch.ones(256))]
    if "visual" in modalities:
        encoders.append(FakeEncoder("visual/any@1", "visual"))
    inference = InlineInference()
    conversation = Conversation(
        FakeStream([[0.9, 0.1]]), encoders, SpeakerTracker(), labels=("happy", "sad"), label_set="two", model="f"
    )

    async def publish(prediction: Prediction) -> None:
        published.append(prediction)

    perception = Perception(FakeWords(["well"]), conversation, inference)
    source = Filmed([(640, False), (3200, True), (1280, False)])
    return Agent(
        source, SpeechCutter(LoudnessVad), Aligner(ring), perception, conversation, inference, publish, look=eyes
    )


async def test_faces_of_the_speech_belong_to_its_utterance_and_pictures_are_not_kept() -> None:
    published: list[Prediction] = []
    ring, eyes = FrameRing(rate_hz=10), Eyes()
    async with asyncio.timeout(10):
        await agent(published, ring, eyes, "visual").run()
    (prediction,) = published
    frames = prediction.utterance.frames
    assert len(frames) == pytest.approx(32, abs=1)  # 3.2 s
    assert all(frame.faces for frame in frames)
    assert sum(frame.image.nbytes for frame in frames) == 0
    assert eyes.looked == pytest.approx(51, abs=2)  # of 160 pictures in 5.1 s
    assert ring.forgotten == 0


async def test_pictures_are_not_even_asked_for_when_nothing_reads_them() -> None:
    published: list[Prediction] = []
    eyes = Eyes()
    async with asyncio.timeout(10):
        await agent(published, FrameRing(), eyes).run()
    assert eyes.looked == 0
    assert published[0].utterance.frames == ()


async def test_without_anybody_to_look_memory_is_bounded_all_the_same() -> None:
    published: list[Prediction] = []
    ring = FrameRing(rate_hz=10, megabytes=40)
    async with asyncio.timeout(10):
        await agent(published, ring, None, "visual").run()
    assert len(ring) <= 6  # of 6.2 MB each
    assert ring.forgotten > 0
