"""Whatever comes after an utterance was closed changes nothing that is published of it: not a number, not a message.

The whole path runs, from chunks and pictures to messages, twice: alike up to a moment, then with another future (other
sound, other pictures, other turns). Utterances whose end, hangover included, was declared by then must be the same in
both runs, their partial predictions included. Detector and encoders are fakes whose answers depend on all that they
get, so nothing can pass through them unseen; segmenter, speakers, conversation, graph and fusion are the real ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import wave
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import needs
from support.fakes import FRAME, FRAME_NS
from support.streams_fakes import LoudnessVad
from torch import Tensor

from mer_agent.agent import Agent
from mer_agent.aligner import Aligner, FrameRing
from mer_agent.config import settings as config
from mer_agent.config.settings import SegmenterSettings
from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.inference import InlineInference
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import FeatureSpec
from mer_agent.perception import Perception
from mer_agent.provisional import Provisional
from mer_agent.run import replay
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.mailbox import Sink
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import (
    NS_PER_S,
    AudioChunk,
    Face,
    Hearing,
    Modality,
    Prediction,
    Segment,
    Transcript,
    Turn,
    Utterance,
    VideoFrame,
)
from mer_agent.wire.schema import EmotionMessage, to_message

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
TEXT, FACE, HEARD = "text/fake@1", "visual/fake@1", "audio/heard@1"
SPECS = (
    FeatureSpec(TEXT, "text", 4),
    FeatureSpec(SPEAKER_FEATURE, "audio", 256),
    FeatureSpec(FACE, "visual", 4),
    FeatureSpec(HEARD, "audio", 4),
)

Stretches = Sequence[tuple[int, int]]
"""(frames of 32 ms, voice): voice 0 is silence, the others sound and look different."""


def vector(of: object, dimension: int) -> Tensor:
    """Numbers that depend on every bit of what they are of."""
    seed = int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:4])
    return torch.randn(dimension, generator=torch.Generator().manual_seed(seed))


@dataclass
class HashEncoder:
    feature: str
    modality: Modality
    dimension: int

    @property
    def hears_recogniser(self) -> bool:
        return self.feature == HEARD

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        rows: list[Tensor | None] = []
        for one, past in zip(utterances, past_turns, strict=True):
            assert one.audio is not None
            if self.modality == "text":
                rows.append(vector((one.text, one.speaker, tuple(past)), self.dimension) if one.text else None)
            elif self.hears_recogniser:
                rows.append(vector((one.start_ns, one.hearing and one.hearing.steps.tobytes()), self.dimension))
            elif self.modality == "visual":
                crops = [(frame.captured_ns, face.crop.tobytes()) for frame in one.frames for face in frame.faces or ()]
                rows.append(vector(crops, self.dimension) if crops else None)
            else:  # mostly whose voice it is, so that speakers are told apart, and a little of everything
                voice = round(float(np.abs(one.audio).max()) * 4)
                whole = vector((one.start_ns, one.audio.tobytes()), self.dimension)
                rows.append(torch.nn.functional.normalize(vector(voice, self.dimension) + 0.1 * whole, dim=0))
        return rows


class HashWords:
    """Says what depends on every sample; now and then nothing, now and then late."""

    async def transcribe(self, segment: Segment) -> Transcript:
        told = hashlib.sha256(segment.audio.tobytes()).hexdigest()
        for _ in range(int(told[:2], 16)):
            await asyncio.sleep(0)
        hearing = Hearing("fake", np.frombuffer(bytes.fromhex(told), np.float32)[None])
        return Transcript("" if told[2] == "0" else told[:8], hearing=hearing)


@dataclass
class Film:
    """Sound and, every third frame, a picture."""

    sound: NDArray[np.float32]
    looks: NDArray[np.uint8]

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        for number in range(len(self.sound) // FRAME):
            await audio.put(AudioChunk(self.sound[number * FRAME :][:FRAME], number * FRAME_NS, number))
            if video is not None and number % 3 == 0:
                image = np.full((8, 8, 3), self.looks[number], np.uint8)
                await video.put(VideoFrame(image, (number + 1) * FRAME_NS, number))
            for _ in range(4):
                await asyncio.sleep(0)  # time for a guess, as at real speed
        audio.close()


def film(stretches: Stretches, seed: int) -> Film:
    random = np.random.default_rng(seed)
    parts, looks = [], []
    for frames, voice in stretches:
        level = (0.0, 0.5, 0.75, 1.0)[voice]
        parts.append(level * (0.6 + 0.4 * random.random(frames * FRAME)).astype(np.float32))
        looks += [random.integers(0, 256)] * frames
    return Film(np.concatenate(parts).astype(np.float32), np.array(looks, np.uint8))


def then(first: Film, frames: int, second: Film) -> Film:
    """The first film up to a frame, then the second."""
    return Film(
        np.concatenate([first.sound[: frames * FRAME], second.sound]),
        np.concatenate([first.looks[:frames], second.looks]),
    )


async def published(
    source: Film, hangover_ms: int = 320, least_hangover_ms: int = 0
) -> list[tuple[int, dict[str, Any]]]:
    """Every message, without what the clock on the wall says, and when its utterance was declared to have ended."""
    torch.manual_seed(0)
    fusion = ARIIGCN(SPECS, 3, Shape(dimension=8, hidden=8, heads=2, window=3, rates=True)).eval()
    encoders = tuple(HashEncoder(spec.id, spec.modality, spec.dimension) for spec in SPECS)
    conversation = Conversation(
        fusion.stream(), encoders, SpeakerTracker(), labels=("a", "b", "c"), label_set="three", model="m", why=True
    )
    inference = InlineInference()
    messages: list[tuple[str, dict[str, Any]]] = []

    async def publish(prediction: Prediction) -> None:
        light = replace(prediction, timings_ms={})
        message = to_message(
            light, agent="a", session="s", seq=len(messages), session_started=datetime.fromtimestamp(0, UTC)
        )
        messages.append((prediction.utterance.id, message.model_dump()))

    async def look(frame: VideoFrame) -> VideoFrame:
        face = Face(0, np.resize(frame.image, (48, 48)), (0, 0, 1, 1), 1.0)
        return replace(frame, image=np.empty((0, 0, 3), np.uint8), faces=(face,))

    declared: dict[int, int] = {}

    class Cutter(SpeechCutter):
        def follow(self, chunk: AudioChunk) -> Any:
            for speech in super().follow(chunk):
                if speech.stage == "closed":
                    declared[speech.segment.start_ns] = speech.segment.declared_ns
                yield speech

    rules = SegmenterSettings(
        hangover_ms=hangover_ms, least_hangover_ms=least_hangover_ms, news_ms=200, longest_ms=2000
    )
    agent = Agent(
        source,
        Cutter(LoudnessVad, rules),
        Aligner(FrameRing(10)),
        Perception(HashWords(), conversation, inference, ahead="always"),
        conversation,
        inference,
        publish,
        look=look,
        provisional=Provisional(conversation, inference, publish, threshold=0.01),
        over=(lambda transcript, segment: transcript.text > "8") if least_hangover_ms else None,
    )
    async with asyncio.timeout(30):
        await agent.run()
    return [(declared.get(message["start_ns"], 1 << 62), message) for _, message in messages]


def closed(messages: Sequence[tuple[int, dict[str, Any]]], until_ns: int) -> list[dict[str, Any]]:
    """What was published of the utterances that were closed by then; `seq` counts others, too."""
    return [
        {key: value for key, value in message.items() if key != "seq"}
        for declared_ns, message in messages
        if declared_ns <= until_ns
    ]


turns = st.lists(st.tuples(st.integers(3, 40), st.integers(0, 3)), min_size=2, max_size=6)


@settings(deadline=None, max_examples=10)
@given(
    past=turns,
    futures=st.tuples(turns, turns),
    hangover_ms=st.sampled_from([64, 320]),
    least_hangover_ms=st.sampled_from([0, 64]),
    data=st.data(),
)
def test_another_future_changes_no_message(
    past: Stretches,
    futures: tuple[Stretches, Stretches],
    hangover_ms: int,
    least_hangover_ms: int,
    data: st.DataObject,
) -> None:
    known = film([(10, 0), *past], 0)
    frames = data.draw(st.integers(1, len(known.looks)), "frames that are alike")
    one, other = (
        asyncio.run(published(then(known, frames, film(future, seed)), hangover_ms, least_hangover_ms))
        for seed, future in enumerate(futures, 1)
    )
    assert closed(one, frames * FRAME_NS) == closed(other, frames * FRAME_NS)


def test_the_moment_after_the_hangover_is_free_and_the_one_before_is_not() -> None:
    """The property says something: closed utterances are there, guessed at on the way, and told all they can be."""
    talk = film([(10, 0), (30, 1), (20, 0), (40, 2), (20, 0)], 0)
    whole = asyncio.run(published(talk))
    kinds = [(message["utterance"], message["kind"]) for _, message in whole]
    assert ("u000001", "partial") in kinds
    assert [kind for kind in kinds if kind[1] == "final"] == [("u000001", "final"), ("u000002", "final")]
    second = whole[-1][1]
    assert second["modalities_used"] == ("text", "audio", "visual")
    assert second["context_length"] == 1
    assert second["why"]["turns"].keys() == {"u000001"}
    declared_ns = min(declared for declared, _ in whole)
    frames = declared_ns // FRAME_NS
    loud = film([(40, 3), (20, 0)], 9)
    after = asyncio.run(published(then(talk, frames, loud)))
    before = asyncio.run(published(then(talk, frames - 1, loud)))
    assert closed(after, declared_ns) == closed(whole, declared_ns)
    assert closed(before, declared_ns) != closed(whole, declared_ns), "one frame less, and the pause ends nothing"


@pytest.mark.real_weights
def test_with_the_real_models_noise_from_the_end_of_the_hangover_on_changes_nothing(tmp_path: Path) -> None:
    for name in ("whisper-base", "mpnet", "ge2e", "yunet"):
        needs.weights(name)
    sound = np.concatenate([chunk.samples for chunk in audio_chunks(SESSION / "audio-0.flac")])[: 8 * 16_000]

    def play(samples: NDArray[np.float32]) -> list[EmotionMessage]:
        path = tmp_path / "talk.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        messages: list[EmotionMessage] = []
        settings = config.load(assignments=["agent.session=s1", "model.why=true"]).settings
        asyncio.run(replay(settings, path, real_time=False, sinks=[messages.append]))
        return messages

    whole = play(sound)
    ends = [one.end_ns for one in whole if one.closed_by == "pause"]
    assert len(ends) >= 2
    # Its last voiced frame, and the ten frames of 32 ms in which nothing was said.
    declared = (ends[1] + 320_000_000) * 16_000 // NS_PER_S
    other = sound.copy()
    other[declared:] = np.random.default_rng(0).normal(0, 0.3, len(sound) - declared)
    clocks = {"timings_ms", "delay_ms", "seq"}
    one, two = ([message.model_dump(exclude=clocks) for message in run[:2]] for run in (whole, play(other)))
    assert one == two
