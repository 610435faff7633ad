"""Loads everything that a session needs and warms it up: what is loaded is not yet ready.

The words model is CTranslate2's, the rest is torch's; they load side by side. Then one made-up utterance goes the
whole way, so that the first real one is as fast as the tenth.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from mer_agent import __version__, overlap
from mer_agent.config.settings import Settings
from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.encoders import catalogue, weights
from mer_agent.encoders.base import Encoder, create, limit_threads
from mer_agent.errors import WeightsError
from mer_agent.inference import Inference
from mer_agent.streams import engines
from mer_agent.streams.engines import Engine
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import MODALITIES, NS_PER_S, SAMPLE_RATE_HZ, Face, Transcript, Utterance, VideoFrame
from mer_agent.streams.vad import SileroVad
from mer_agent.terminal import agent_extra
from mer_agent.wire.contract import CapabilitiesMessage, CommandName, ModelInfo

if TYPE_CHECKING:
    from mer_agent.models.checkpoint import Card
    from mer_agent.models.registry import LiveModel


@dataclass(frozen=True, slots=True)
class Models:
    """What is loaded once and never changes, whatever the number of conversations."""

    vad: SileroVad
    words: Engine
    partial_words: Engine
    """The same as `words`, or a lighter one."""
    encoders: tuple[Encoder, ...]
    fusion: LiveModel
    card: Card
    why: bool = False
    """Whether final predictions say what moved them."""
    abstain_below: float = 0.0
    """Probability below which a label is not given."""

    def conversation(self, speakers: SpeakerTracker, seats: Mapping[str, int] | None = None) -> Conversation:
        """Gives a conversation that remembers nothing yet; `seats`: source of sound -> the one speaker it is of."""
        return Conversation(
            self.fusion.stream(),
            self.encoders,
            speakers,
            labels=self.card.labels,
            label_set=self.card.label_set,
            model=self.card.name,
            seats=seats,
            why=self.why,
            abstain_below=self.abstain_below,
        )

    def capabilities(self, agent: str, words: str, *, publishes_text: bool) -> CapabilitiesMessage:
        """Gives what readers are told of these models; `words` names the weights of the recogniser."""
        return CapabilitiesMessage(
            agent=agent,
            version=__version__,
            label_set=self.card.label_set,
            labels=self.card.labels,
            modalities=tuple(m for m in MODALITIES if any(encoder.modality == m for encoder in self.encoders)),
            models=(
                ModelInfo(role="fusion", name=self.card.name, sha256=self.card.sha256),
                ModelInfo(role="words", name=words, sha256=_sha256(words)),
                # The id of a feature names the recipe that makes it, weights and version.
                *(ModelInfo(role=encoder.modality, name=encoder.feature) for encoder in self.encoders),
            ),
            commands=get_args(CommandName),
            publishes_text=publishes_text,
        )

    def close(self) -> None:
        """Takes no more speech to be transcribed."""
        self.words.close()
        self.partial_words.close()

    def watcher(self) -> FaceWatcher | None:
        """Gives what finds the faces of one session; None if no encoder reads them."""
        sees = any(encoder.modality == "visual" for encoder in self.encoders)
        return FaceWatcher(weights.path("yunet")) if sees else None


def _sha256(name: str) -> str | None:
    """Of the largest file of pinned weights: the network itself."""
    try:
        files = catalogue.find(name).files
    except WeightsError:  # the user's own
        return None
    return max(files, key=lambda file: file.size or 0).sha256


async def load(settings: Settings, inference: Inference) -> Models:
    """Gives the models of these settings, loaded and warm.

    Raises:
        WeightsError: some have not been pulled; the message has the command that pulls them.
        CheckpointError: the checkpoint is unknown, broken or needs features that nothing here makes.
        MissingExtraError: the agent's extra is not installed.
    """
    weights.set_directory(settings.weights.dir)
    words = engines.create(settings.transcriber, weights.path)
    partial_words = words
    if (lighter := settings.partial.weights) and settings.partial.when != "never":
        partial_words = engines.create(settings.transcriber.model_copy(update={"weights": lighter}), weights.path)
    async with asyncio.TaskGroup() as both:
        both.create_task(words.warm_up())
        if partial_words is not words:
            both.create_task(partial_words.warm_up())
        loading = both.create_task(inference.run(_load_encoders_and_fusion, settings))
    encoders, fusion, card = loading.result()
    told = settings.model
    models = Models(SileroVad(), words, partial_words, encoders, fusion, card, told.why, told.abstain_below)
    await inference.run(_warm_up, models)
    return models


def _load_encoders_and_fusion(settings: Settings) -> tuple[tuple[Encoder, ...], LiveModel, Card]:
    # No hub may be asked for anything: what is needed is in the cache, or `weights.path` says how to get it there.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with agent_extra():
        from mer_agent.models import checkpoint  # takes seconds, so it happens here, on a thread of its own
    limit_threads(settings.encoders.threads)
    fusion, card = checkpoint.load_live(settings.model.checkpoint)
    encoders = tuple(
        create(feature.id, settings.encoders.device, settings.encoders.precision) for feature in card.features
    )
    for encoder in encoders:
        card.check(encoder.feature, encoder.dimension, getattr(encoder, "names", ()))
    if any(encoder.feature == SPEAKER_FEATURE for encoder in encoders):  # whose work it shares
        encoders = (*encoders, create(overlap.FEATURE, settings.encoders.device))
    return encoders, fusion, card


def _warm_up(models: Models) -> None:
    """Sends a second of noise with words and a face through everything; the conversation it was said in is dropped."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)
    face = Face(0, np.zeros((48, 48), np.uint8), (0.0, 0.0, 1.0, 1.0), 1.0)
    frames = (VideoFrame(np.empty((0, 0, 3), np.uint8), 0, 0, faces=(face,)),)
    dummy = Utterance("warm-up", None, 0, NS_PER_S, noise, frames=frames, transcript=Transcript("Is this thing on?"))
    conversation = models.conversation(SpeakerTracker())
    conversation.judge(dummy, conversation.hear(dummy))
