from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.messages import SESSION_STARTED, message, prediction

from mer_agent.errors import ConfigError
from mer_agent.wire.asyncapi import json_schemas
from mer_agent.wire.schema import (
    EmotionMessage,
    StatusMessage,
    Topics,
    matches,
    speaker_id,
    to_message,
)


def altered(**changes: object) -> str:
    return json.dumps(json.loads(message().to_json()) | changes)


def test_a_prediction_becomes_a_message() -> None:
    sent = to_message(
        prediction(4, speaker=1), agent="desk", session="s1", seq=7, session_started=SESSION_STARTED, delay_ms=812.3456
    )
    payload = json.loads(sent.to_json())
    assert payload["schema"] == "mer/v1"
    assert payload["seq"] == 7
    assert payload["utterance"] == "u000004"
    assert payload["speaker"] == "speaker-1"
    assert payload["started_at"] == "2026-03-01T12:00:12Z"
    assert payload["ended_at"] == "2026-03-01T12:00:14Z"
    assert (payload["start_ns"], payload["end_ns"]) == (12_000_000_000, 14_000_000_000)
    assert payload["text"] == "what a day"
    assert payload["distribution"] == {"happy": 0.7, "neutral": 0.2, "sad": 0.1}
    assert payload["modalities_missing"] == ["visual"]
    assert payload["delay_ms"] == 812.346
    assert payload["timings_ms"] == {"words": 310.25, "fusion": 1.5}
    assert payload["valence"] is None
    assert payload["explanation"] is None


def test_the_delay_of_the_timings_is_used_when_none_is_given() -> None:
    assert message().delay_ms == 640.0


def test_a_replay_at_full_speed_has_no_delay() -> None:
    assert message(timings_ms={"words": 3.0}).delay_ms is None


def test_wall_times_are_in_utc_whatever_the_session_s_zone() -> None:
    started = SESSION_STARTED.astimezone(timezone(timedelta(hours=5)))
    sent = to_message(prediction(), agent="a", session="s", seq=0, session_started=started)
    assert json.loads(sent.to_json())["ended_at"] == "2026-03-01T12:00:02Z"


def test_a_message_survives_the_wire() -> None:
    sent = message(3)
    assert EmotionMessage.from_json(sent.to_json()) == sent


def test_without_text_nothing_of_the_words_is_left() -> None:
    sent = message(text="the secret word").model_copy(update={"explanation": "said: secret"}).without_text()
    assert "secret" not in sent.to_json()
    assert "text" not in json.loads(sent.to_json())


def test_an_unknown_speaker_is_called_unknown() -> None:
    assert message(speaker=None).speaker == "unknown"
    assert speaker_id(3) == "speaker-3"


def test_readers_ignore_what_they_dont_know() -> None:
    assert EmotionMessage.from_json(altered(mood_of_the_room="tense")) == message()


def test_a_label_may_be_any_string() -> None:
    read = EmotionMessage.from_json(altered(label="wistful", distribution={"wistful": 0.6, "glad": 0.4}))
    assert read.label == "wistful"


def test_a_model_may_abstain() -> None:
    assert EmotionMessage.from_json(altered(label=None)).label is None


def test_an_utterance_that_could_not_be_judged_has_no_distribution_but_a_reason() -> None:
    sent = message(distribution={}, label=None, confidence=0.0, degraded="failed: iemocap6")
    assert EmotionMessage.from_json(sent.to_json()).distribution == {}
    with pytest.raises(ValidationError, match="degraded"):
        message(distribution={}, label=None, confidence=0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "mer/v2"},
        {"distribution": {"happy": 0.7}},
        {"distribution": {"happy": 1.2}},
        {"label": "bored"},
        {"confidence": 1.5},
        {"start_ns": 9_000_000_000},
        {"started_at": "2026-03-01T12:00:00"},
        {"speaker": "Ada Lovelace"},
        {"agent": "a/b"},
        {"session": "+"},
        {"seq": -1},
        {"utterance": ""},
        {"kind": "guess"},
    ],
)
def test_what_is_not_schema_v1_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="1 validation error"):
        EmotionMessage.from_json(altered(**changes))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_are_finite(number: float) -> None:
    with pytest.raises(ValidationError):
        EmotionMessage.from_json(altered(delay_ms=number))
    with pytest.raises(ValidationError):
        message(timings_ms={"words": number})


def test_errors_dont_quote_what_they_read() -> None:
    with pytest.raises(ValidationError) as caught:
        EmotionMessage.from_json(altered(text=["a secret"], seq="secret"))
    assert "secret" not in str(caught.value)


def test_messages_dont_change() -> None:
    with pytest.raises(ValidationError):
        message().label = "sad"  # type: ignore[misc]


def test_payloads_validate_against_the_published_schemas() -> None:
    schemas = json_schemas()
    emotion = jsonschema.Draft202012Validator(schemas["emotion"])
    emotion.validate(json.loads(message().to_json()))
    emotion.validate(json.loads(message().without_text().to_json()))
    for field in ("schema", "agent", "distribution", "label", "started_at"):
        payload = json.loads(message().to_json())
        del payload[field]
        assert not emotion.is_valid(payload), field
    status = StatusMessage(agent="desk", state="ready", version="0.1.0", since=datetime.now(UTC))
    jsonschema.Draft202012Validator(schemas["status"]).validate(json.loads(status.to_json()))


@pytest.mark.parametrize("name", ["emotion", "status"])
def test_the_payloads_in_the_docs_are_what_the_code_makes(name: str) -> None:
    docs = (Path(__file__).parents[3] / "docs" / "mqtt.md").read_text(encoding="utf-8")
    shown = docs.split(f"<!-- example: {name} -->\n```json\n")[1].split("```")[0]
    status = StatusMessage(
        agent="desk",
        state="ready",
        session="s1",
        sources={"audio-0": "ok", "video-0": "no frames for 3 s"},
        version="0.1.0",
        since=SESSION_STARTED,
    )
    made = {"emotion": message(4, speaker=1), "status": status}[name]
    assert shown == json.dumps(json.loads(made.to_json()), indent=2) + "\n"


def test_topics() -> None:
    topics = Topics("desk", "s1")
    assert topics.status == "mer/v1/desk/status"
    assert topics.capabilities == "mer/v1/desk/capabilities"
    assert topics.news == "mer/v1/desk/s1/session"
    assert topics.turn == "mer/v1/desk/s1/turn"
    assert topics.command == "mer/v1/desk/s1/command"
    assert topics.answer() == "mer/v1/desk/s1/answer"
    assert topics.answer("bot") == "mer/v1/desk/s1/answer/bot"
    assert topics.emotion("speaker-0") == "mer/v1/desk/s1/emotion/speaker-0/final"
    assert topics.emotion("speaker-0", "revision") == topics.emotion("speaker-0", "final")
    assert topics.emotion("unknown", "partial") == "mer/v1/desk/s1/emotion/unknown/partial"
    assert Topics(prefix="home/mer").emotion() == "home/mer/+/+/emotion/+/final"


@pytest.mark.parametrize("segment", ["", "a/b", "#", "a+", "Ada", "ä", "a" * 65, "a\n"])
def test_a_bad_topic_segment_is_refused(segment: str) -> None:
    with pytest.raises(ConfigError):
        Topics(segment, "s1")
    with pytest.raises(ConfigError):
        Topics("desk", "s1").emotion(segment)


def test_filters_match_topics() -> None:
    assert matches("mer/v1/+/status", "mer/v1/desk/status")
    assert not matches("mer/v1/+/status", "mer/v1/desk/s1/status")
    assert not matches("mer/v1/+/status", "mer/v2/desk/status")


@given(st.binary(max_size=300))
def test_no_payload_does_more_than_fail_to_validate(payload: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's ValidationError is one, and its text varies
        EmotionMessage.from_json(payload)
