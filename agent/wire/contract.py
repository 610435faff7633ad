"""What an agent and a dialogue system say to each other beside emotions: schema v1 goes on here.

    agent -> all:    what it can do, what happens to the session, answers
    agent <- system: its own turns or a chat user's, and commands

What comes in is checked to the last character before anything is done with it. Needs pydantic and no model.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from mer_agent.config.settings import Probability, TopicSegment
from mer_agent.wire.schema import Message, Wire

LARGEST_BYTES = 16 * 1024
"""A longer turn or command is refused unread."""

Role = Literal["system", "user"]
CommandName = Literal["start", "stop", "pause", "reset", "rename", "forget", "snapshot"]
Happening = Literal["started", "speakers", "ended"]
# No control characters: a name is shown in terminals and logs of others.
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class ModelInfo(Part):
    """A model that the agent runs."""

    role: str = Field(description="what it does: fusion, words, or the modality that it encodes")
    name: str = Field(description="name of its weights, or of the feature that it makes, with its version")
    sha256: str | None = Field(default=None, description="of its weights; null: the name has to do")


class CapabilitiesMessage(Message):
    """What an agent can do. It is retained, so it holds nothing personal."""

    version: str = Field(description="version of mer-agent")
    label_set: str = Field(description="name of the set of labels")
    labels: tuple[str, ...] = Field(description="every label that it can give")
    modalities: tuple[str, ...] = Field(description="of text, audio and visual, those that its models read")
    models: tuple[ModelInfo, ...] = Field(description="the models that it runs")
    commands: tuple[CommandName, ...] = Field(description="the commands that it obeys")
    publishes_text: bool = Field(description="whether the words are sent along")


class Participant(Part):
    """Somebody who takes part in a session."""

    speaker: TopicSegment = Field(description="as in topics")
    name: Name | None = Field(default=None, description="name to show, if somebody gave one")


class SessionMessage(Message):
    """What happens to a session. It names people, so it is never retained."""

    event: Happening = Field(description="started; speakers: somebody came, left or was renamed; ended")
    session: TopicSegment = Field(description="id of the session, as in the topic")
    started_at: AwareDatetime = Field(description="when the session began, ISO 8601 in UTC")
    at: AwareDatetime = Field(description="when this happened, ISO 8601 in UTC")
    at_ns: int = Field(ge=0, description="when this happened, in ns since the session's start")
    speakers: tuple[Participant, ...] = Field(default=(), description="everybody so far")


class TurnMessage(Wire):
    """Words that reach the conversation past the microphone: the dialogue system's own, or a chat user's.

    With neither `started_at` nor `ended_at` they were written. With `started_at` alone they are being spoken until the
    same id comes again with `ended_at`.
    """

    id: Id = Field(description="unique in the session; the same again changes the times and nothing else")
    role: Role = Field(description="system: the dialogue system itself; user: somebody who writes to it")
    text: str = Field(min_length=1, max_length=4000, description="the words")
    speaker: TopicSegment | None = Field(
        default=None, description="who said it; null: `system` or `user`; `speaker-0`: who is known by that voice"
    )
    speaker_name: Name | None = Field(default=None, description="name to show")
    started_at: AwareDatetime | None = Field(default=None, description="when speaking began or will begin, ISO 8601")
    ended_at: AwareDatetime | None = Field(default=None, description="when speaking ended or will end, ISO 8601")
    sent_at: AwareDatetime | None = Field(
        default=None, description="the sender's clock when this was sent: makes a wrong clock harmless"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ended_at is not None and (self.started_at is None or self.ended_at < self.started_at):
            raise ValueError("ended_at needs a started_at before it")
        if self.speaker == "unknown":
            raise ValueError("a turn's speaker can't be unknown")
        return self


class CommandMessage(Wire):
    """Something that the agent is asked to do."""

    command: CommandName = Field(
        description="start: hear again; pause: hear nothing until start; stop: end the session; reset: forget the "
        "conversation; rename, forget: a speaker; snapshot: the newest emotion of each speaker"
    )
    id: Id | None = Field(
        default=None, description="comes back in the answer; the same command with the same id is done once in 30 s"
    )
    answer_to: str | None = Field(
        default=None, max_length=256, description="topic for the answer, `.../answer` or `.../answer/<asker>`"
    )
    speaker: TopicSegment | None = Field(default=None, description="whom to rename or forget")
    name: Name | None = Field(default=None, description="the name to show from now on; null takes it away")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.speaker is not None) != (self.command in ("rename", "forget")):
            raise ValueError("rename and forget need a speaker, other commands have none")
        return self


class SpeakerState(Participant):
    """The newest emotion of a speaker, without words."""

    utterances: int = Field(ge=0, description="how many of theirs were judged")
    label: str | None = Field(default=None, description="the newest label; null: abstained, or none yet")
    distribution: dict[str, Probability] = Field(default_factory=dict, description="label to probability")
    confidence: Probability = Field(default=0.0, description="probability of the label")
    ended_at: AwareDatetime | None = Field(default=None, description="when that utterance ended, ISO 8601 in UTC")
    end_ns: int | None = Field(default=None, ge=0, description="the same in ns since the session's start")


class AnswerMessage(Message):
    """What became of a command or a turn. It may name people, so it is never retained."""

    session: TopicSegment = Field(description="id of the session, as in the topic")
    id: Id | None = Field(default=None, description="of the command or turn; null: it had none, or can't be read")
    command: CommandName | Literal["turn"] | None = Field(default=None, description="what was asked; null: unreadable")
    ok: bool = Field(description="whether it was done")
    reason: str | None = Field(default=None, description="why it was refused")
    speakers: tuple[SpeakerState, ...] = Field(default=(), description="of a snapshot")
