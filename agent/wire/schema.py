"""What travels over MQTT: schema v1, the topics it travels on, and the way from a `Prediction` to a message.

Changes within `mer/v1` are additive, and readers ignore what they don't know. Words and names of people stand in
payloads only, never in a topic. This module needs pydantic and nothing else, so that a reader needs no model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import from_json

from mer_agent.config.settings import Probability, TopicSegment
from mer_agent.errors import ConfigError
from mer_agent.streams.clock import wall_time
from mer_agent.streams.types import Prediction

SCHEMA: Literal["mer/v1"] = "mer/v1"
SUM_TOLERANCE = 1e-3
"""How far the probabilities of a distribution may be from 1 in all: room for rounding, not for mistakes."""

Kind = Literal["partial", "final", "revision"]
State = Literal["starting", "ready", "degraded", "stopping", "offline"]
Milliseconds = Annotated[float, Field(ge=0)]
SignedUnit = Annotated[float, Field(ge=-1, le=1)]


class Wire(BaseModel):
    """What all messages have in common: they are frozen, hold finite numbers only and name their schema."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        hide_input_in_errors=True,  # an error may be logged, and the input may be somebody's words
    )

    # Called `schema` on the wire; pydantic has a method of that name.
    schema_version: Literal["mer/v1"] = Field(default=SCHEMA, alias="schema", description="version of this format")

    def to_json(self) -> str:
        """The payload: one line of JSON. A text that isn't published is absent, everything else is always there."""
        withheld = {"text"} if getattr(self, "text", "") is None else None
        return self.model_dump_json(by_alias=True, exclude=withheld)

    @classmethod
    def from_json(cls, payload: str | bytes) -> Self:
        """Reads a payload, in a CloudEvents envelope too.

        Raises:
            ValueError: whatever is wrong with it (pydantic's ValidationError is one).
        """
        if b"specversion" in (payload if isinstance(payload, bytes) else payload.encode(errors="replace")):
            event = from_json(payload)
            if isinstance(event, dict) and "specversion" in event:
                return cls.model_validate(event.get("data"))
        return cls.model_validate_json(payload)


class Message(Wire):
    """What an agent says."""

    agent: TopicSegment = Field(description="name of the agent, as in the topic")


class Why(BaseModel):
    """By how much the label's probability falls without each modality and each earlier utterance."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    modalities: dict[str, SignedUnit] = Field(description="of text, audio and visual, those that were there")
    turns: dict[str, SignedUnit] = Field(description="ids of earlier utterances")


class EmotionMessage(Message):
    """The emotion of one utterance, with everything a reader needs in order to weigh it."""

    kind: Kind = Field(description="partial: may still change; final; revision: replaces a final one of the same id")
    seq: int = Field(ge=0, description="counts the predictions of a session from 0; a gap means that some were lost")
    session: TopicSegment = Field(description="id of the session, as in the topic")
    utterance: str = Field(min_length=1, max_length=128, description="stable id; a revision bears the same one")
    revision: int = Field(ge=0, description="0 for the first final prediction, then counting up")
    speaker: TopicSegment = Field(description="who spoke, as in the topic: speaker-0, speaker-1 ... or unknown")
    speaker_name: str | None = Field(default=None, description="name to show, if somebody gave one")
    speaker_confidence: Probability = Field(description="how sure it is who spoke")
    overlap: bool | None = Field(default=None, description="whether somebody else spoke meanwhile; null: not known")
    started_at: AwareDatetime = Field(description="when the speech began, ISO 8601 in UTC")
    ended_at: AwareDatetime = Field(description="when the speech ended, ISO 8601 in UTC")
    start_ns: int = Field(ge=0, description="when the speech began, in ns since the session's start")
    end_ns: int = Field(ge=0, description="when the speech ended, in ns since the session's start")
    text: str | None = Field(default=None, description="the words; absent unless the agent was told to publish them")
    language: str | None = Field(default=None, description="code of the language of the words, if somebody knows")
    label_set: str = Field(description="name of the set of labels")
    label: str | None = Field(description="the likeliest label of the set; null: the model abstained")
    distribution: dict[str, Probability] = Field(description="label to probability; empty: could not be judged")
    confidence: Probability = Field(description="probability of the label")
    valence: SignedUnit | None = Field(default=None, description="-1 unpleasant to 1 pleasant, if the model tells")
    arousal: SignedUnit | None = Field(default=None, description="-1 calm to 1 excited, if the model tells")
    why: Why | None = Field(default=None, description="what moved the label, if the agent was told to say it")
    explanation: str | None = Field(default=None, description="why, in words, if the model tells; may quote the text")
    modalities_used: tuple[str, ...] = Field(description="of text, audio and visual, those that were judged")
    modalities_missing: tuple[str, ...] = Field(description="of text, audio and visual, those that were not there")
    context_length: int = Field(ge=0, description="how many earlier utterances the model saw")
    model: str = Field(description="id of the model")
    timings_ms: dict[str, Milliseconds] = Field(default_factory=dict, description="work of each stage in ms")
    delay_ms: float | None = Field(default=None, description="end of speech to publishing; null: not in real time")
    closed_by: str = Field(description="why the utterance ended: pause, longest, end")
    degraded: str | None = Field(default=None, description="why this prediction is worth less than usual")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.end_ns < self.start_ns:
            raise ValueError("the utterance ends before it begins")
        if not self.distribution:
            if self.degraded is None:
                raise ValueError("an empty distribution needs a reason in `degraded`")
        elif abs(math.fsum(self.distribution.values()) - 1) > SUM_TOLERANCE:
            raise ValueError("the probabilities don't sum to 1")
        elif self.label is not None and self.label not in self.distribution:
            raise ValueError("the label is not one of the distribution's")
        return self

    def without_text(self) -> Self:
        """The same message without the words, and without an explanation that may quote them."""
        if self.text is None and self.explanation is None:
            return self
        return self.model_copy(update={"text": None, "explanation": None})


class StatusMessage(Message):
    """How an agent is. It is retained, so it holds nothing personal."""

    state: State = Field(description="what the agent does; offline is also its last will")
    session: TopicSegment | None = Field(default=None, description="id of the session that runs")
    sources: dict[str, str] = Field(default_factory=dict, description="source to its health, in a word or two")
    version: str = Field(description="version of mer-agent")
    since: AwareDatetime | None = Field(default=None, description="when the state began; null in the last will")
    messages_lost: int = Field(default=0, ge=0, description="predictions dropped since the start: too old, or no room")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of an agent and a session; `+` for either gives subscription filters that match any."""

    agent: str = "+"
    session: str = "+"
    prefix: str = SCHEMA

    def __post_init__(self) -> None:
        for segment in (self.agent, self.session):
            _checked(segment)

    @property
    def status(self) -> str:
        """Where the retained `StatusMessage` is."""
        return f"{self.prefix}/{self.agent}/status"

    @property
    def capabilities(self) -> str:
        """Where the retained `CapabilitiesMessage` is."""
        return f"{self.prefix}/{self.agent}/capabilities"

    @property
    def news(self) -> str:
        """Where `SessionMessage`s go."""
        return f"{self.prefix}/{self.agent}/{self.session}/session"

    @property
    def turn(self) -> str:
        """Where the agent reads `TurnMessage`s."""
        return f"{self.prefix}/{self.agent}/{self.session}/turn"

    @property
    def command(self) -> str:
        """Where the agent reads `CommandMessage`s."""
        return f"{self.prefix}/{self.agent}/{self.session}/command"

    def answer(self, asker: str = "") -> str:
        """Where `AnswerMessage`s go; `asker` gives one asker a topic of its own."""
        topic = f"{self.prefix}/{self.agent}/{self.session}/answer"
        return f"{topic}/{_checked(asker)}" if asker else topic

    def emotion(self, speaker: str = "+", kind: Kind = "final") -> str:
        """Where a speaker's `EmotionMessage`s are; a revision goes where the final one went."""
        last = "partial" if kind == "partial" else "final"
        return f"{self.prefix}/{self.agent}/{self.session}/emotion/{_checked(speaker)}/{last}"


@lru_cache(maxsize=256)
def matches(pattern: str, topic: str) -> bool:
    """Tells whether a topic fits a filter in which `+` stands for any one segment."""
    wanted, got = pattern.split("/"), topic.split("/")
    return len(wanted) == len(got) and all(want in ("+", have) for want, have in zip(wanted, got, strict=True))


def speaker_id(speaker: int | None) -> str:
    """A speaker as topics and payloads call it: `speaker-0`, or `unknown`."""
    return "unknown" if speaker is None else f"speaker-{speaker}"


def to_message(
    prediction: Prediction,
    *,
    agent: str,
    session: str,
    seq: int,
    session_started: datetime,
    delay_ms: float | None = None,
    speaker: str | None = None,
    speaker_name: str | None = None,
) -> EmotionMessage:
    """Puts a prediction into the form in which it travels, words included (`without_text` takes them out).

    Args:
        prediction: what the model said.
        agent: name of the agent.
        session: id of the session.
        seq: how many predictions of this session came before.
        session_started: wall time at capture time 0; the only place at which the two clocks meet.
        delay_ms: end of speech to now; None where the clock isn't real, as in a replay at full speed. Without it
            the timing `delay` of the prediction is used, if it has one.
        speaker: who spoke, as topics say it; None: after the speaker's number.
        speaker_name: name to show.
    """
    utterance = prediction.utterance
    timings_ms = {stage: round(ms, 3) for stage, ms in prediction.timings_ms.items() if stage != "delay"}
    if delay_ms is None:
        delay_ms = prediction.timings_ms.get("delay")
    return EmotionMessage(
        agent=agent,
        kind=prediction.kind,
        seq=seq,
        session=session,
        utterance=utterance.id,
        revision=prediction.revision,
        speaker=speaker or speaker_id(utterance.speaker),
        speaker_name=speaker_name,
        speaker_confidence=utterance.speaker_confidence,
        overlap=utterance.overlap,
        started_at=wall_time(session_started, utterance.start_ns),
        ended_at=wall_time(session_started, utterance.end_ns),
        start_ns=utterance.start_ns,
        end_ns=utterance.end_ns,
        text=utterance.text or None,
        language=utterance.transcript.language if utterance.transcript else None,
        label_set=prediction.label_set,
        label=prediction.label,
        distribution={label: round(float(p), 6) for label, p in prediction.distribution.items()},
        confidence=round(float(prediction.confidence), 6),
        valence=None if prediction.valence is None else round(float(prediction.valence), 4),
        arousal=None if prediction.arousal is None else round(float(prediction.arousal), 4),
        why=None if prediction.why is None else _rounded(prediction.why),
        modalities_used=prediction.modalities_used,
        modalities_missing=prediction.modalities_missing,
        context_length=prediction.context_length,
        model=prediction.model,
        timings_ms=timings_ms,
        delay_ms=None if delay_ms is None else round(delay_ms, 3),
        closed_by=utterance.closed_by,
        degraded=prediction.degraded,
    )


def _rounded(why: Mapping[str, Mapping[str, float]]) -> Why:
    return Why(**{part: {name: round(float(value), 4) for name, value in own.items()} for part, own in why.items()})


def _checked(segment: str) -> str:
    if segment != "+" and not re.fullmatch(r"[a-z0-9_-]{1,64}", segment):
        raise ConfigError(f"{segment!r} can't stand in a topic; use 1 to 64 of a-z, 0-9, _ and -")
    return segment
