"""What the agent remembers of one session, and how a new utterance becomes a prediction from it.

The encoders and the model are fixed; everything that changes with the conversation (who was heard, what was said, the
speaker graph) is here. Nothing in this file waits: the agent runs it on the inference thread.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mer_agent.aligner import with_words
from mer_agent.encoders.base import Encoder, forget, hears_recogniser
from mer_agent.percept import Percept, Reader, encode
from mer_agent.streams.speakers import SpeakerGuess, SpeakerTracker
from mer_agent.streams.types import MODALITIES, Prediction, Transcript, Turn, Utterance

if TYPE_CHECKING:
    from mer_agent.models.stream import Judgement, Why  # not for real: it brings torch, which takes seconds

log = logging.getLogger(__name__)

SPEAKER_FEATURE = "audio/ge2e@1"
"""The feature by which voices are told apart: the fusion model reads it too, so it is computed once."""

PAST_TURNS = 10
"""Turns that a context-aware text encoder may look back on: the window of the speaker graph."""

REVISABLE = 10
"""Utterances, the latest, that can still be revised: their features are kept, their sound and pictures are not."""


class GraphStream(Protocol):
    """The fusion model's side of one conversation (`models.stream`)."""

    def append(self, utterance_id: str, speaker: int | None, features: Mapping[str, Any]) -> Judgement:
        """Adds an utterance to the speaker graph and judges it."""
        ...

    def preview(self, speaker: int | None, features: Mapping[str, Any]) -> Judgement:
        """Judges an utterance as if it ended now, and adds nothing."""
        ...

    def why(self, speaker: int | None, features: Mapping[str, Any]) -> Why:
        """Gives what moves the judgement of an utterance that is about to be added."""
        ...

    def revise(self, utterance_id: str, speaker: int | None, features: Mapping[str, Any]) -> Judgement | None:
        """Replaces an utterance and judges it anew from what came before it; None where it is too old."""
        ...

    def forget(self, speaker: int) -> int:
        """Removes all trace of a speaker."""
        ...

    def reset(self) -> None:
        """Forgets the whole conversation."""
        ...


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a revision of a prediction starts from."""

    prediction: Prediction
    features: Mapping[str, Any]
    """Those of voice and face, which stay as they are, and of the words."""
    past: tuple[Turn, ...]
    number: int
    readable: bool
    """Whether the words are in a language that the encoders read; others are no turn for those that follow."""


class Conversation:
    """One session: `hear` what needs no words, `read` the words when they are there, then `judge`.

    Meanwhile `preview` guesses without a trace, and afterwards `revise` takes what came late.

    `seats` names the speaker of each source of sound that is one speaker's own; with `why`, final predictions say what
    moved them. A label whose probability is under `abstain_below` is not given; the distribution is.
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
        why: bool = False,
        abstain_below: float = 0.0,
    ) -> None:
        self._stream = stream
        self._why = why
        self._abstain_below = abstain_below
        self._every_encoder = tuple(encoders)
        self._listeners = tuple(encoder for encoder in encoders if hears_recogniser(encoder))
        self._encoders = tuple(
            encoder for encoder in encoders if encoder.modality != "text" and not hears_recogniser(encoder)
        )
        self._reader = Reader([encoder for encoder in encoders if encoder.modality == "text"])
        self._speakers = speakers
        self._labels = tuple(labels)
        self._label_set = label_set
        self._model = model
        self._seats = dict(seats or {})
        self._past: list[tuple[int, Turn]] = []  # the latest, with the numbers of their utterances
        self._judged: OrderedDict[str, _Judged] = OrderedDict()
        self._next = 0

    @property
    def sees(self) -> bool:
        """Whether any encoder reads pictures; if not, none need be decoded."""
        return any(encoder.modality == "visual" for encoder in self._encoders)

    def hear(self, utterance: Utterance) -> Percept:
        """Encodes voice and face, which can be done while the words are still being recognised."""
        return encode(self._encoders, utterance)

    def listen(self, utterance: Utterance) -> Percept:
        """Encodes what takes the recogniser's hearing; nothing where there is no sound."""
        return Percept({}, {}) if utterance.audio is None else encode(self._listeners, utterance)

    def read(self, utterance: Utterance, heard: Percept) -> Percept:
        """Encodes the words ahead of `judge`, which need not do it if it is who it seems and no turn came meanwhile."""
        heard = self._listen(utterance, heard)
        speaker = self._who(utterance, heard, learn=False).speaker
        return replace(heard, reading=self._reader.read(replace(utterance, speaker=speaker), self._past_turns()))

    def judge(self, utterance: Utterance, heard: Percept) -> Prediction:
        """Finds the speaker, encodes the words, extends the graph and gives the emotion.

        An encoder that fails costs its modality, a model that fails costs this prediction; both are said in
        `degraded`, and the conversation goes on.
        """
        begun = time.perf_counter()
        guess = self._who(utterance, heard)
        heard = replace(heard, timings_ms={**heard.timings_ms, "speaker": _since_ms(begun)})
        return self._append(replace(utterance, speaker=guess.speaker, speaker_confidence=guess.confidence), heard)

    def add(self, utterance: Utterance) -> Prediction:
        """Takes words that came past the microphone, whose speaker is known, into the graph, and judges them."""
        return self._append(utterance, Percept({}, {}))

    def echo(self, utterance: Utterance, heard: Percept, speaker: int) -> Prediction:
        """Judges the dialogue system's own voice. Its words are in the conversation already, so nothing is added."""
        utterance = replace(utterance, speaker=speaker, speaker_confidence=1.0)
        known = self._complete(utterance, heard, self._past_turns())
        prediction = self._predict(utterance, known, "final", lambda: self._stream.preview(speaker, known.features))
        return replace(prediction, degraded=prediction.degraded or "echo: the dialogue system's own voice")

    def forget(self, speaker: int) -> None:
        """Removes all trace of a speaker: voice, words, features and place in the graph."""
        self._stream.forget(speaker)
        self._speakers.forget(speaker)
        self._reader.forget()
        self._forget_encoded()
        self._past = [(number, turn) for number, turn in self._past if turn.speaker != speaker]
        self._judged = OrderedDict(
            (id_, judged) for id_, judged in self._judged.items() if judged.prediction.utterance.speaker != speaker
        )

    def reset(self) -> None:
        """Forgets everything that was said, and who said it."""
        self._stream.reset()
        self._speakers.reset()
        self._reader.reset()
        self._past.clear()
        self._judged.clear()
        self._forget_encoded()

    def _forget_encoded(self) -> None:
        """Whose turns an encoder remembers nobody knows, so it forgets all of them; it reads them again."""
        for encoder in self._every_encoder:
            forget(encoder)

    def _append(self, utterance: Utterance, heard: Percept) -> Prediction:
        past = self._past_turns()
        known = self._complete(utterance, heard, past)
        readable = self._reader.knows(utterance, learn=True)
        moved: dict[str, Mapping[str, float]] = {}

        def judge() -> Judgement:
            if self._why:
                why = self._stream.why(utterance.speaker, known.features)
                moved.update(modalities={str(modality): by for modality, by in why.modalities.items()}, turns=why.turns)
            return self._stream.append(utterance.id, utterance.speaker, known.features)

        prediction = self._predict(utterance, known, "final", judge)
        prediction = replace(prediction, why=moved or None)
        self._next += 1
        self._remember(_Judged(_light(prediction), known.features, past, self._next, readable))
        return prediction

    def preview(self, utterance: Utterance, heard: Percept) -> Prediction:
        """Gives the emotion as if the utterance ended now; nothing is learned or remembered of it."""
        guess = self._who(utterance, heard, learn=False)
        utterance = replace(utterance, speaker=guess.speaker, speaker_confidence=guess.confidence)
        known = self._complete(utterance, heard, self._past_turns())
        return self._predict(
            utterance, known, "partial", lambda: self._stream.preview(utterance.speaker, known.features)
        )

    def revise(
        self,
        utterance_id: str,
        *,
        transcript: Transcript | None = None,
        speaker: int | None = None,
        heard: Percept | None = None,
    ) -> Prediction | None:
        """Judges an utterance again with words, or a speaker, that came late; None where nothing changes.

        What came after it plays no part: it is judged from what came before it, as it was then. Utterances that are
        judged from now on feel the change.

        Args:
            utterance_id: one of the last `REVISABLE`; others are forgotten, and stay as they are.
            transcript: the words, None if they stay.
            speaker: who it was, None if that stays.
            heard: features of its sound that had to wait for the words (`listen`), None if there are none.
        """
        judged = self._judged.get(utterance_id)
        if judged is None:
            return None
        before = judged.prediction
        utterance, features = before.utterance, dict(judged.features)
        failed: tuple[str, ...] = ()
        if speaker is not None and speaker != utterance.speaker:
            utterance = replace(utterance, speaker=speaker, speaker_confidence=1.0)
        if transcript is not None and transcript.text != utterance.text:
            utterance = replace(with_words(utterance, transcript), hearing=None)
            judged = replace(judged, readable=self._reader.knows(utterance))
            read = self._reader.read(utterance, judged.past).percept
            features = {id_: v for id_, v in features.items() if id_ not in self._reader.features}
            features |= read.features
            failed = read.failed
        if heard is not None:
            features |= heard.features
            failed = (*failed, *heard.failed)
        if utterance == before.utterance and not (heard and heard.features):
            return None
        known = Percept(features, {}, failed)
        prediction = self._predict(
            utterance, known, "revision", lambda: self._stream.revise(utterance_id, utterance.speaker, features)
        )
        if not prediction.distribution:
            return None  # it failed, or is too old for the graph: what was published stands
        prediction = replace(prediction, revision=before.revision + 1)
        self._remember(replace(judged, prediction=prediction, features=features))
        return prediction

    def _predict(
        self,
        utterance: Utterance,
        known: Percept,
        kind: Literal["partial", "final", "revision"],
        judge: Callable[[], Judgement | None],
    ) -> Prediction:
        failed = [*known.failed]
        begun = time.perf_counter()
        judgement = None
        try:
            judgement = judge()
        except Exception as error:
            # One utterance is lost, not the session. An error's message could quote the words, so its kind must do.
            log.error("The model %s failed on %s (%s)", self._model, utterance.id, type(error).__name__)
            failed.append(self._model)
        timings_ms = {**known.timings_ms, "fusion": _since_ms(begun)}
        distribution = dict(zip(self._labels, judgement.probabilities.tolist(), strict=True)) if judgement else {}
        likeliest = max(distribution, key=distribution.__getitem__, default=None)
        confidence = distribution[likeliest] if likeliest else 0.0
        used = judgement.used if judgement else ()
        return Prediction(
            utterance=utterance,
            kind=kind,
            revision=0,
            label_set=self._label_set,
            distribution=distribution,
            label=likeliest if confidence >= self._abstain_below else None,
            confidence=confidence,
            modalities_used=used,
            modalities_missing=tuple(modality for modality in MODALITIES if modality not in used),
            context_length=judgement.context_length if judgement else 0,
            model=self._model,
            timings_ms=timings_ms,
            degraded=f"failed: {', '.join(failed)}" if failed else None,
            valence=judgement.affect[0] if judgement and judgement.affect else None,
            arousal=judgement.affect[1] if judgement and judgement.affect else None,
        )

    def _remember(self, judged: _Judged) -> None:
        """Keeps what was judged for a while, and its words as a turn."""
        utterance = judged.prediction.utterance
        self._judged[utterance.id] = judged
        while len(self._judged) > REVISABLE:
            self._judged.popitem(last=False)
        turns = {number: turn for number, turn in self._past if number != judged.number}
        if utterance.text and judged.readable:
            turns[judged.number] = Turn(utterance.speaker, utterance.text)
        self._past = sorted(turns.items())[-PAST_TURNS:]

    def _complete(self, utterance: Utterance, heard: Percept, past: tuple[Turn, ...]) -> Percept:
        return self._reader.complete(utterance, self._listen(utterance, heard), past)

    def _listen(self, utterance: Utterance, heard: Percept) -> Percept:
        """Adds what takes the recogniser's hearing, unless it is there."""
        there = all(encoder.feature in heard.timings_ms for encoder in self._listeners)
        return heard if there else heard.beside(self.listen(utterance))

    def _past_turns(self) -> tuple[Turn, ...]:
        return tuple(turn for _, turn in self._past)

    def _who(self, utterance: Utterance, heard: Percept, *, learn: bool = True) -> SpeakerGuess:
        """Whose microphone it is, where everybody has one; else whose voice it is."""
        if utterance.source in self._seats:
            return SpeakerGuess(self._seats[utterance.source], 1.0)
        identify = self._speakers.identify if learn else self._speakers.recognise
        return identify(heard.features.get(SPEAKER_FEATURE), utterance.duration_s)


def _light(prediction: Prediction) -> Prediction:
    """The prediction without sound and pictures, to be kept."""
    return replace(prediction, utterance=replace(prediction.utterance, audio=None, hearing=None, frames=()))


def _since_ms(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
