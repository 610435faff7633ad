from __future__ import annotations

import json
import re

import pytest
from support.messages import message

from mer_agent.wire.contract import TurnMessage
from mer_agent.wire.envelope import Trace, seal
from mer_agent.wire.schema import EmotionMessage, Topics

TOPIC = Topics("desk", "s1").emotion("speaker-0")


def test_plain_is_the_message_itself() -> None:
    payload, details = seal(message(3), TOPIC, "plain", "00-a-b-01")
    assert payload == message(3).to_json()
    assert details.content_type == "application/json"
    assert dict(details.user) == {"schema": "mer/v1", "traceparent": "00-a-b-01"}


def test_a_cloud_event_has_the_message_as_its_data() -> None:
    payload, details = seal(message(3), TOPIC, "cloudevents", "00-a-b-01")
    event = json.loads(payload)
    assert event.pop("data") == json.loads(message(3).to_json())
    assert event == {
        "specversion": "1.0",
        "id": "s1/3",
        "source": f"/{TOPIC}",
        "type": "mer.v1.emotion",
        "datacontenttype": "application/json",
        "traceparent": "00-a-b-01",
    }
    assert details.content_type == "application/cloudevents+json"


def test_readers_open_both() -> None:
    for envelope in ("plain", "cloudevents"):
        assert EmotionMessage.from_json(seal(message(3), TOPIC, envelope, "00-a-b-01")[0]) == message(3)


def test_words_about_cloud_events_are_words() -> None:
    turn = TurnMessage(id="1", role="user", text='my "specversion" is 1.0')
    assert TurnMessage.from_json(turn.to_json()) == turn


@pytest.mark.parametrize("payload", ['{"specversion":"1.0"}', '{"specversion":"1.0","data":7}', '["specversion"]'])
def test_an_envelope_without_a_message_is_refused(payload: str) -> None:
    with pytest.raises(ValueError, match="EmotionMessage"):
        EmotionMessage.from_json(payload)


def test_a_session_is_one_trace_of_many_spans() -> None:
    trace = Trace()
    first, second = trace.span(), trace.span()
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", first)
    assert first != second
    assert first.split("-")[1] == second.split("-")[1]
