"""What the agent remembers of one session, and how a new utterance becomes a prediction from it.

The encoders and the model are fixed; everything that changes with the conversation (who was heard, what was said, the
speaker graph) is here. Nothing in this file waits: the agent runs it on the inference thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from mer_agent.encoders.base import Encoder
from mer_agent.streams.speakers import SpeakerGuess, SpeakerTracker
from mer_agent.streams.types import MODALITIES, Prediction, Turn, Utterance

if TYPE_CHECKING:
    from mer_agent.models.stream import Judgement  # not for real: it brings torch, which takes seconds

log = logging.getLogger(__name__)

SPEAKER_FEATURE = "audio/ge2e@1"
"""The feature by which voices are told apart: the fusion model reads it too, so it is computed once."""

PAST_TURNS = 10
"""Turns that a context-aware text encoder may look back on: the window of the speaker graph."""


class GraphStream(Protocol):
    """The fusion model's side of one conversation (`models.stream`)."""

    def append(self, utterance_id: str, speaker: int | None, features: Mapping[str, Any]) -> Judgement:
        """Adds an utterance to the speaker graph and judges it."""
        ...


@dataclass(frozen=True, slots=True)
class Percept:
    """The features of an utterance as far as they are known, what they cost, and which encoders failed."""

    features: Mapping[str, Any]
    timings_ms: Mapping[str, float]
    failed: tuple[str, ...] = ()

    def after(self, **stages_ms: float) -> Percept:
        """The same with the milliseconds of the stages before it."""
        return replace(self, timings_ms={**stages_ms, **self.timings_ms})


class Conversation:
    """One session: `hear` what needs no words, then `judge` when the words are there.

    `seats` names the speaker of each source of sound that is one speaker's own.
    """

    def __init__(
        self,
        stream: GraphStream,
        encoders: Sequence[Encoder],
        speakers: SpeakerTracker,
        *,
        labels: Sequence[str],
        label_set: str,
        model: str,
        seats: Mapping[str, int] | None = None,
    ) -> None:
        self._stream = stream
        self._encoders = tuple(encoders)
        self._speakers = speakers
        self._labels = tuple(labels)
        self._label_set = label_set
        self._model = model
        self._seats = dict(seats or {})
        self._past: deque[Turn] = deque(maxlen=PAST_TURNS)

    @property
    def sees(self) -> bool:
        """Whether any encoder reads pictures; if not, none need be decoded."""
        return any(encoder.modality == "visual" for encoder in self._encoders)

    def hear(self, utterance: Utterance) -> Percept:
        """Encodes voice and face, which can be done while the words are still being recognised."""
        return self._encode(utterance, [encoder for encoder in self._encoders if encoder.modality != "text"])

    def judge(self, utterance: Utterance, heard: Percept) -> Prediction:
        """Finds the speaker, encodes the words, extends the graph and gives the emotion.

        An encoder that fails costs its modality, a model that fails costs this prediction; both are said in
        `degraded`, and the conversation goes on.
        """
        timings_ms = dict(heard.timings_ms)
        begun = time.perf_counter()
        guess = self._who(utterance, heard)
        timings_ms["speaker"] = _since_ms(begun)
        utterance = replace(utterance, speaker=guess.speaker, speaker_confidence=guess.confidence)
        read = self._encode(utterance, [encoder for encoder in self._encoders if encoder.modality == "text"])
        features = {**heard.features, **read.features}
        failed = [*heard.failed, *read.failed]
        timings_ms |= read.timings_ms
        begun = time.perf_counter()
        judgement = None
        try:
            judgement = self._stream.append(utterance.id, utterance.speaker, features)
        except Exception as error:
            # One utterance is lost, not the session. An error's message could quote the words, so its kind must do.
            log.error("The model %s failed on %s (%s)", self._model, utterance.id, type(error).__name__)
            failed.append(self._model)
        timings_ms["fusion"] = _since_ms(begun)
        if utterance.text:
            self._past.append(Turn(utterance.speaker, utterance.text))
        distribution = dict(zip(self._labels, judgement.probabilities.tolist(), strict=True)) if judgement else {}
        label = max(distribution, key=distribution.__getitem__, default=None)
        used = judgement.used if judgement else ()
        return Prediction(
            utterance=utterance,
            kind="final",
            revision=0,
            label_set=self._label_set,
            distribution=distribution,
            label=label,
            confidence=distribution[label] if label else 0.0,
            modalities_used=used,
            modalities_missing=tuple(modality for modality in MODALITIES if modality not in used),
            context_length=judgement.context_length if judgement else 0,
            model=self._model,
            timings_ms=timings_ms,
            degraded=f"failed: {', '.join(failed)}" if failed else None,
        )

    def _who(self, utterance: Utterance, heard: Percept) -> SpeakerGuess:
        """Whose microphone it is, where everybody has one; else whose voice it is."""
        if utterance.source in self._seats:
            return SpeakerGuess(self._seats[utterance.source], 1.0)
        return self._speakers.identify(heard.features.get(SPEAKER_FEATURE), utterance.duration_s)

    def _encode(self, utterance: Utterance, encoders: Sequence[Encoder]) -> Percept:
        features, timings_ms, failed = {}, {}, []
        past = [tuple(self._past)]
        for encoder in encoders:
            begun = time.perf_counter()
            try:
                (vector,) = encoder.encode([utterance], past)
                if vector is not None:
                    features[encoder.feature] = vector
            except Exception as error:
                log.error("The encoder %s failed on %s (%s)", encoder.feature, utterance.id, type(error).__name__)
                failed.append(encoder.feature)
            timings_ms[encoder.feature] = _since_ms(begun)
        return Percept(features, timings_ms, tuple(failed))


def _since_ms(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
