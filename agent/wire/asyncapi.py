"""The contract as machines read it: JSON Schema of every message, and an AsyncAPI 3 document of every topic.

Both are made from the pydantic models. Copies lie in the package (`schemas.json`, `asyncapi.json`), for those who don't
run Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from mer_agent import __version__
from mer_agent.wire.contract import AnswerMessage, CapabilitiesMessage, CommandMessage, SessionMessage, TurnMessage
from mer_agent.wire.schema import SCHEMA, EmotionMessage, StatusMessage, Topics, Wire

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Channel:
    """A kind of topic, as seen from the agent."""

    name: str
    address: str
    model: type[Wire]
    action: Literal["send", "receive"]
    qos: int
    retained: bool
    summary: str


_SESSION = "{prefix}/{agent}/{session}"
CHANNELS = (
    Channel("status", "{prefix}/{agent}/status", StatusMessage, "send", 1, True, "how the agent is; its last will"),
    Channel("capabilities", "{prefix}/{agent}/capabilities", CapabilitiesMessage, "send", 1, True, "what it can do"),
    Channel("session", f"{_SESSION}/session", SessionMessage, "send", 1, False, "started, speakers, ended"),
    Channel(
        "final", f"{_SESSION}/emotion/{{speaker}}/final", EmotionMessage, "send", 1, False,
        "the emotion of an utterance that has ended, and later revisions of it",
    ),
    Channel(
        "partial", f"{_SESSION}/emotion/{{speaker}}/partial", EmotionMessage, "send", 0, False,
        "a guess while the utterance goes on",
    ),
    Channel("turn", f"{_SESSION}/turn", TurnMessage, "receive", 1, False, "words past the microphone"),
    Channel("command", f"{_SESSION}/command", CommandMessage, "receive", 1, False, "something to do"),
    Channel("answer", f"{_SESSION}/answer", AnswerMessage, "send", 1, False, "what became of a command or a turn"),
    Channel("answerTo", f"{_SESSION}/answer/{{asker}}", AnswerMessage, "send", 1, False, "the same, for one asker"),
)  # fmt: skip
"""Every topic there is, in the order of the documentation."""

_PARAMETERS = {
    "prefix": {"description": "How every topic begins: the setting `mqtt.prefix`.", "default": SCHEMA},
    "agent": {"description": "Name of the agent: the setting `agent.name`.", "default": "agent"},
    "session": {"description": "Id of the session; the retained status tells it."},
    "speaker": {"description": "speaker-0, speaker-1 ... in order of appearance, system, user, or unknown."},
    "asker": {"description": "Chosen by who asks."},
}


def json_schemas() -> Mapping[str, dict[str, Any]]:
    """JSON Schema (2020-12) of each message by its name: `emotion`, `status`, `turn` ..."""
    return {_name(model): {"$schema": DIALECT, **_complete(model.model_json_schema())} for model in _models()}


def document() -> dict[str, Any]:
    """The AsyncAPI 3 document: what the agent sends and receives, where, and how."""
    _, found = models_json_schema(
        [(model, "validation") for model in _models()], ref_template="#/components/schemas/{model}"
    )
    titles = {model.__name__ for model in _models()}
    schemas = {name: _complete(one) if name in titles else one for name, one in found["$defs"].items()}
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "mer-agent",
            "version": __version__,
            "description": "Emotions of the people in a conversation, utterance by utterance, over MQTT.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "embedded": {"host": "127.0.0.1:1883", "protocol": "mqtt", "description": "The broker inside the agent."}
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": {f"{channel.action}-{channel.name}": _operation(channel) for channel in CHANNELS},
        "components": {
            "messages": {
                _name(model): {
                    "name": _name(model),
                    "contentType": "application/json",
                    "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
                }
                for model in _models()
            },
            "schemas": schemas,
        },
    }


def channel_of(topic: str, topics: Topics) -> Channel | None:
    """The channel that a topic of this prefix belongs to, None if there is none."""
    begin = f"{topics.prefix}/"
    if not topic.startswith(begin):
        return None
    got = topic.removeprefix(begin).split("/")
    for channel in CHANNELS:
        wanted = channel.address.removeprefix("{prefix}/").split("/")
        if len(wanted) == len(got) and all(w.startswith("{") or w == g for w, g in zip(wanted, got, strict=True)):
            return channel
    return None


def _models() -> list[type[Wire]]:
    return list(dict.fromkeys(channel.model for channel in CHANNELS))


def _name(model: type[Wire]) -> str:
    return model.__name__.removesuffix("Message").lower()


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    """The version must be there even though a default exists for those who build messages in Python."""
    return {**schema, "required": ["schema", *schema.get("required", ())]}


def _channel(channel: Channel) -> dict[str, Any]:
    names = [part[1:-1] for part in channel.address.split("/") if part.startswith("{")]
    return {
        "address": channel.address,
        "description": channel.summary,
        "parameters": {name: _PARAMETERS[name] for name in names},
        "messages": {_name(channel.model): {"$ref": f"#/components/messages/{_name(channel.model)}"}},
    }


def _operation(channel: Channel) -> dict[str, Any]:
    return {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": channel.summary,
        "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retained}},
    }
