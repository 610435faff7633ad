"""What a model learns from and what it gets live are the same numbers: training's code beside the agent's, one sound.

The same stretch of sound, the same words and the same crops go the way of training (whole clips, whole dialogues, many
at once) and the live way (chunks, cut, one by one). Features that come from other people's files are no matter of this
test; how near those are stands in docs/end-to-end.md.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from support import media_files, needs
from support.fakes import FakeWords
from torch import Tensor

from mer_agent import inference
from mer_agent.agent import Agent
from mer_agent.aligner import Aligner
from mer_agent.config.settings import Settings
from mer_agent.conversation import Conversation
from mer_agent.encode import _Notebook
from mer_agent.encoders.base import Encoder
from mer_agent.encoders.face import FaceEncoder
from mer_agent.encoders.prosody import ProsodyEncoder
from mer_agent.encoders.text_emotion import TextEmotionEncoder
from mer_agent.encoders.voice import shared
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder
from mer_agent.encoders.whisper_steps import RECOGNISER, WhisperStepsEncoder
from mer_agent.judging.gold import GivenCuts
from mer_agent.judging.truth import Truth
from mer_agent.models.data import speech_data
from mer_agent.models.data.acted import RecogniserEar
from mer_agent.models.data.speech_data import Clip, as_cut
from mer_agent.models.live import live_faces
from mer_agent.models.perception import speech_bank, train_voice
from mer_agent.perception import Perception, Words
from mer_agent.streams.clock import VirtualClock
from mer_agent.streams.replay import ReplaySource
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.transcriber import Transcriber
from mer_agent.streams.types import NS_PER_S, Face, Transcript, Turn, Utterance, VideoFrame

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
AGREE = 1e-3

pytestmark = pytest.mark.real_weights


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """Three seconds of speech with silence around them, as acted clips are."""
    sound = np.concatenate([chunk.samples for chunk in audio_chunks(SESSION / "audio-0.flac")])[: 3 * 16_000]
    quiet = np.zeros(8_000, np.float32)
    media_files.write_sound(tmp_path / "clip.wav", np.concatenate([quiet, sound, quiet])[None])
    return Clip(tmp_path / "clip.wav", "made", "made-1", 0, 0)


def live(path: Path, truth: Truth, *encoders: Encoder, words: Words | None = None) -> dict[str, Tensor]:
    """What the agent encodes of the one utterance in a recording."""
    notebook, thread = _Notebook(), inference.InlineInference()
    conversation = Conversation(notebook, encoders, SpeakerTracker(), labels=(), label_set="", model="none")

    async def ignore(prediction: object) -> None:
        pass

    agent = Agent(
        ReplaySource(path, clock=VirtualClock(), speed=float("inf")),
        GivenCuts([truth], Settings().segmenter.padding_ms),
        Aligner(),
        Perception(words or FakeWords([""]), conversation, thread),
        conversation,
        thread,
        ignore,
    )
    asyncio.run(agent.run())
    ((_, rows),) = notebook.rows.items()
    return {feature: torch.from_numpy(row) for feature, row in rows.items()}


def test_voice_and_prosody_of_a_clip(clip: Clip) -> None:
    needs.weights("ge2e")
    encoders = (shared("cpu"), ProsodyEncoder())
    learned = as_cut(speech_data.sound(clip))
    found = live(clip.path, Truth(start_ns=learned.start_ns, end_ns=learned.end_ns), *encoders)
    for encoder in encoders:
        (row,) = encoder.encode([learned])
        torch.testing.assert_close(found[encoder.feature], row, atol=AGREE, rtol=AGREE, equal_nan=True)


def test_the_emotion_in_a_voice(clip: Clip, tmp_path: Path) -> None:
    needs.weights("ge2e")
    needs.weights("whisper-base")
    encoder = VoiceEmotionEncoder("cpu")
    (example,) = (one for one in speech_bank.load([clip], tmp_path, lambda text: None) if one.clip == clip)
    learned = train_voice.features(encoder._network, [example], 0)[0]
    cut = as_cut(speech_data.sound(clip))
    found = live(clip.path, Truth(start_ns=cut.start_ns, end_ns=cut.end_ns), encoder)[encoder.feature]
    torch.testing.assert_close(found, learned, atol=AGREE, rtol=0)


def test_what_the_recogniser_hears_step_by_step(clip: Clip) -> None:
    recogniser = Transcriber(needs.weights(RECOGNISER))
    encoder = WhisperStepsEncoder()
    learned = RecogniserEar().patches(speech_data.sound(clip))
    assert learned is not None
    cut = as_cut(speech_data.sound(clip))
    truth = Truth(start_ns=cut.start_ns, end_ns=cut.end_ns)
    found = live(clip.path, truth, encoder, words=recogniser)
    torch.testing.assert_close(found[encoder.feature], learned, atol=AGREE, rtol=0)
    assert live(clip.path, truth, encoder) == {}, "without a recogniser it is absent"
    recogniser.close()


def test_words_in_their_dialogue() -> None:
    needs.weights("mpnet")
    encoder = TextEmotionEncoder("cpu")
    said = [
        Turn(0, "I can't believe it!"),
        Turn(1, "Well, let's see."),
        Turn(0, "Was that story over?"),
        Turn(1, "No."),
    ]
    learned = encoder.encode_dialogue(said)
    alone = TextEmotionEncoder("cpu")  # nothing is remembered of what was just read
    for at, turn in enumerate(said):
        utterance = Utterance("u", turn.speaker, 0, 1, transcript=Transcript(turn.text))
        (row,) = alone.encode([utterance], [said[:at]])
        assert row is not None
        torch.testing.assert_close(row, learned[at], atol=AGREE, rtol=0)


def test_faces() -> None:
    needs.weights("yunet")
    crops = torch.randint(0, 256, (3, 1, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    learned = live_faces.encode(live_faces.shipped_network(), crops)
    encoder = FaceEncoder("cpu")
    for crop, row in zip(crops, learned, strict=True):
        face = Face(0, crop[0].numpy(), (0.3, 0.3, 0.4, 0.4), 1.0)
        frames = tuple(VideoFrame(np.empty((0, 0, 3), np.uint8), at, at, faces=(face,)) for at in range(3))
        (found,) = encoder.encode([Utterance("u", 0, 0, NS_PER_S, frames=frames)])
        torch.testing.assert_close(found, row, atol=AGREE, rtol=AGREE)
