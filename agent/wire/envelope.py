"""How a message is wrapped for the wire: plain JSON, or a CloudEvent (structured mode, JSON format, version 1.0)."""

from __future__ import annotations

import json
import secrets
from typing import Literal

from pydantic_core import from_json

from mer_agent.wire.connection import Details
from mer_agent.wire.schema import EmotionMessage, StatusMessage, Wire

Envelope = Literal["plain", "cloudevents"]

_CONTENT_TYPES = {"plain": "application/json", "cloudevents": "application/cloudevents+json"}


class Trace:
    """A W3C trace: one for a session, a span for each message, so that a chatbot can join its own spans to ours."""

    def __init__(self) -> None:
        self._id = secrets.token_hex(16)

    def span(self) -> str:
        """A new `traceparent`."""
        return f"00-{self._id}-{secrets.token_hex(8)}-01"


def seal(message: Wire, topic: str, envelope: Envelope, traceparent: str) -> tuple[str, Details]:
    """The payload, and what MQTT 5 says beside it.

    Args:
        message: what is said.
        topic: where it goes.
        envelope: `plain`, or `cloudevents`.
        traceparent: the message's span.
    """
    payload = message.to_json()
    details = Details(_CONTENT_TYPES[envelope], user=(("schema", message.schema_version), ("traceparent", traceparent)))
    if envelope == "plain":
        return payload, details
    kind = type(message).__name__.removesuffix("Message").lower()
    event = {
        "specversion": "1.0",
        "id": _id(message),
        "source": f"/{topic}",
        "type": f"{message.schema_version.replace('/', '.')}.{kind}",
        "datacontenttype": "application/json",
        "traceparent": traceparent,
        "data": from_json(payload),
    }
    return json.dumps(event, ensure_ascii=False, allow_nan=False), details


def _id(message: Wire) -> str:
    """Stable where the message is, so that a second sending of the same is known for what it is."""
    match message:
        case EmotionMessage():
            return f"{message.session}/{message.seq}"
        case StatusMessage(since=since) if since is not None:
            return f"{message.state}/{since.isoformat()}"
    return secrets.token_hex(8)
