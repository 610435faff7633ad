"""Features of a recording: the agent's own path from sound and pictures to features, with a notebook for a model.

Cut, words, speakers, faces and encoders are those of the running agent, so what is written here is what a fusion model
would read live. The file is safetensors:

    ID            float32 [utterances, dimension], such as `audio/ge2e@1`; a row is NaN where the feature is absent
    ID:present    bool [utterances]
    metadata      `utterances` (JSON: id, speaker, start_s, end_s, closed_by; words only if they were asked for),
                  `features` (JSON: id -> modality, recipe version, dimension, names), `format`, `mer_agent`
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_agent import __version__
from mer_agent.agent import Agent
from mer_agent.aligner import Aligner, FrameRing
from mer_agent.config.settings import Settings
from mer_agent.conversation import Conversation
from mer_agent.encoders import base, weights
from mer_agent.encoders.base import Encoder
from mer_agent.errors import InputError, WeightsError
from mer_agent.inference import ThreadInference
from mer_agent.models.stream import Judgement, Why
from mer_agent.perception import Perception, Words
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams import engines
from mer_agent.streams.clock import VirtualClock
from mer_agent.streams.engines import Engine
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.replay import ReplaySource, open_media
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import NS_PER_S, Prediction, Segment, Transcript, Utterance, VideoFrame
from mer_agent.streams.vad import SileroVad

FORMAT = "mer-agent-features/1"

WORDS_FEATURE = "text/words@1"
"""It stands for the words themselves, so it is given only where they are."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A recording's utterances and, for each encoder, a row for each of them, None where it is absent."""

    utterances: tuple[Utterance, ...]
    encoders: tuple[Encoder, ...]
    rows: Mapping[str, tuple[NDArray[np.float32] | None, ...]]
    failed: Mapping[str, int]
    """Feature -> utterances on which its encoder failed."""


async def encode(
    settings: Settings,
    path: Path,
    *,
    wanted: Sequence[str] = (),
    with_text: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Encoded:
    """Gives the features of every utterance in a recording.

    Args:
        settings: the agent's.
        path: a media file or a session folder.
        wanted: feature ids; none: every feature whose weights are here.
        with_text: the words are wanted, too.
        say: takes lines for the user.

    Raises:
        MediaError, WeightsError, CheckpointError: see there; before anything is encoded.
    """
    recording = open_media(path)
    weights.set_directory(settings.weights.dir)
    base.limit_threads(settings.encoders.threads)
    encoders = tuple(_encoders(settings, wanted, with_text, say))
    words = _words(settings, encoders, with_text, say)
    watcher = FaceWatcher(weights.path("yunet")) if any(encoder.modality == "visual" for encoder in encoders) else None
    notebook, inference = _Notebook(), ThreadInference()
    utterances: list[Utterance] = []
    failed: dict[str, int] = {}

    async def keep(prediction: Prediction) -> None:
        utterances.append(prediction.utterance)
        for name in (prediction.degraded or "").removeprefix("failed: ").split(", "):
            if name:
                failed[name] = failed.get(name, 0) + 1

    async def look(frame: VideoFrame) -> VideoFrame:
        return await inference.run(watcher.see, frame) if watcher else frame

    clock = VirtualClock(started_at=recording.started_at)
    conversation = Conversation(
        notebook, encoders, SpeakerTracker(settings.speakers), labels=(), label_set="", model="notebook"
    )
    agent = Agent(
        ReplaySource(path, clock=clock, speed=math.inf, video_rate_hz=settings.camera.rate_hz),
        SpeechCutter(SileroVad().stream, settings.segmenter),
        Aligner(FrameRing(settings.camera.rate_hz)),
        Perception(words, conversation, inference),
        conversation,
        inference,
        keep,
        look=look if watcher else None,
    )
    try:
        await agent.run()
    finally:
        inference.close()
        if not isinstance(words, _NoWords):
            words.close()
    rows = {
        encoder.feature: tuple(notebook.rows.get(one.id, {}).get(encoder.feature) for one in utterances)
        for encoder in encoders
    }
    return Encoded(tuple(utterances), encoders, rows, failed)


def save(encoded: Encoded, path: Path, *, with_text: bool = False) -> None:
    """Writes the features to a safetensors file, whole or not at all.

    Raises:
        InputError: the file can't be written.
    """
    from safetensors.numpy import save as save_arrays

    arrays: dict[str, NDArray[Any]] = {}
    for encoder in encoded.encoders:
        rows = encoded.rows[encoder.feature]
        absent = np.full(encoder.dimension, np.nan, np.float32)
        values = [absent if row is None else row for row in rows]
        arrays[encoder.feature] = np.stack(values) if values else np.zeros((0, encoder.dimension), np.float32)
        arrays[f"{encoder.feature}:present"] = np.array([row is not None for row in rows], np.bool_)
    content = save_arrays(arrays, metadata(encoded, with_text=with_text))
    partial = path.with_name(f"{path.name}.part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"--output {path}: can't be written ({error.strerror})") from error


def metadata(encoded: Encoded, *, with_text: bool = False) -> dict[str, str]:
    """Gives the file's header: everything but the numbers, as JSON in strings."""
    utterances = []
    for one in encoded.utterances:
        row: dict[str, Any] = {
            "id": one.id,
            "speaker": one.speaker,
            "start_s": one.start_ns / NS_PER_S,
            "end_s": one.end_ns / NS_PER_S,
            "closed_by": one.closed_by,
        }
        utterances.append(row | {"words": one.text} if with_text else row)
    features = {
        encoder.feature: {
            "modality": encoder.modality,
            "version": int(encoder.feature.rpartition("@")[2] or 0),
            "dimension": encoder.dimension,
            "names": list(getattr(encoder, "names", ())),
        }
        for encoder in encoded.encoders
    }
    return {
        "format": FORMAT,
        "mer_agent": __version__,
        "utterances": json.dumps(utterances, ensure_ascii=False),
        "features": json.dumps(features),
    }


def _encoders(settings: Settings, wanted: Sequence[str], with_text: bool, say: Callable[[str], None]) -> list[Encoder]:
    """Loads what is wanted; of "everything", what can't be loaded for want of weights is named and left out."""
    told = settings.encoders
    if wanted:
        return [base.create(feature, told.device, told.precision) for feature in dict.fromkeys(wanted)]
    found = []
    for feature in base.features():
        if feature == WORDS_FEATURE and not with_text:
            continue
        try:
            found.append(base.create(feature, told.device, told.precision))
        except WeightsError as error:
            say(f"without {feature}: {error}")
    return found


def _words(
    settings: Settings, encoders: Sequence[Encoder], with_text: bool, say: Callable[[str], None]
) -> Engine | _NoWords:
    """Gives the recogniser if it is of use; what only hears it beside the words can do without."""
    reads = with_text or any(encoder.modality == "text" for encoder in encoders)
    listeners = [encoder.feature for encoder in encoders if base.hears_recogniser(encoder)]
    if not reads and not listeners:
        return _NoWords()
    try:
        return engines.create(settings.transcriber, weights.path)
    except WeightsError as error:
        if reads:
            raise
        say(f"{', '.join(listeners)} without what the recogniser hears: {error}")
        return _NoWords()


class _NoWords(Words):
    """Nobody asked for words."""

    async def transcribe(self, segment: Segment) -> Transcript:
        return Transcript("")


class _Notebook:
    """Stands where the fusion model stands live, and writes down what that would read."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, NDArray[np.float32]]] = {}

    def append(self, utterance_id: str, speaker: int | None, features: Mapping[str, Any]) -> Judgement:
        self.rows[utterance_id] = {feature: vector.numpy() for feature, vector in features.items()}
        nothing: Any = np.zeros(0, np.float32)  # of a fusion model's tensors none is needed, so neither is torch
        return Judgement(nothing, 0, (), ())

    def preview(self, speaker: int | None, features: Mapping[str, Any]) -> Judgement:
        """Nobody asks for it."""
        raise NotImplementedError

    def why(self, speaker: int | None, features: Mapping[str, Any]) -> Why:
        """Nobody wants to know."""
        raise NotImplementedError

    def forget(self, speaker: int) -> int:
        """Nobody asks for that, either."""
        raise NotImplementedError

    def reset(self) -> None:
        """Nor for that."""
        raise NotImplementedError

    def revise(self, utterance_id: str, speaker: int | None, features: Mapping[str, Any]) -> None:
        """Nothing comes late."""
