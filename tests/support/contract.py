"""The published contract as a judge: does a message on a topic agree with the AsyncAPI document?"""

from __future__ import annotations

import functools
import json
import re

import jsonschema

from mer_agent.wire.asyncapi import document


@functools.cache
def _channels() -> list[tuple[re.Pattern[str], jsonschema.Draft202012Validator, bool, int]]:
    """Topic, schema, retained and QoS of all that an agent sends, read from the document as a stranger would."""
    published = document()
    found = []
    for operation in published["operations"].values():
        if operation["action"] != "send":
            continue
        channel = published["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
        (message,) = channel["messages"].values()
        name = message["$ref"].removeprefix("#/components/messages/")
        schema = {**published["components"]["messages"][name]["payload"], "components": published["components"]}
        topic = re.sub(r"\\{(\w+)\\}", "[a-z0-9_-]{1,64}", re.escape(channel["address"].removeprefix("{prefix}")))
        mqtt = operation["bindings"]["mqtt"]
        validator = jsonschema.Draft202012Validator(schema)
        found.append((re.compile(f".+{topic}"), validator, mqtt["retain"], mqtt["qos"]))
    return found


def check(topic: str, payload: str, *, retain: bool, qos: int) -> None:
    """Raises AssertionError or jsonschema's ValidationError where the document doesn't foresee this message."""
    content = json.loads(payload)
    if "specversion" in content:
        content = content["data"]
    for pattern, validator, retained, wanted_qos in _channels():
        if pattern.fullmatch(topic):
            assert (retain, qos) == (retained, wanted_qos), f"{topic}: retained {retain}, QoS {qos}"
            validator.validate(content)
            return
    raise AssertionError(f"{topic} is in no channel of the AsyncAPI document")
