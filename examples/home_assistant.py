"""Home Assistant finds the agent by itself: one device, a sensor for each speaker's emotion, one for the agent's state.

    python examples/home_assistant.py --mqtt mqtt://broker.local --agent agent --speaker speaker-0 --speaker user

Publishes one retained message of MQTT device discovery (https://www.home-assistant.io/integrations/mqtt/) and ends;
with --remove the device goes away. The message names topics and nothing personal; the emotions that Home Assistant then
reads stay in its own history.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

from mer_agent import __version__
from mer_agent.wire import mqtt
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.schema import Topics


def discovery_topic(agent: str, prefix: str = "homeassistant") -> str:
    """Where Home Assistant looks for the device."""
    return f"{prefix}/device/mer_{agent}/config"


def discovery(agent: str, speakers: Sequence[str]) -> dict[str, Any]:
    """The payload of device discovery."""
    topics = Topics(agent)  # of any session: each start of the agent has another
    components: dict[str, Any] = {
        "state": {
            "platform": "sensor",
            "unique_id": f"mer_{agent}_state",
            "name": "State",
            "device_class": "enum",
            "options": ["starting", "ready", "degraded", "stopping", "offline"],
            "entity_category": "diagnostic",
            "state_topic": topics.status,
            "value_template": "{{ value_json.state }}",
        }
    }
    there = {
        "topic": topics.status,
        "value_template": "{{ 'online' if value_json.state in ('ready', 'degraded') else 'offline' }}",
    }
    for speaker in speakers:
        own = {"platform": "sensor", "state_topic": topics.emotion(speaker), "qos": 1, "availability": [there]}
        components[f"{speaker}_emotion"] = own | {
            "unique_id": f"mer_{agent}_{speaker}_emotion",
            "name": f"{speaker} emotion",
            "icon": "mdi:emoticon-outline",
            "value_template": "{{ value_json.label or 'unknown' }}",
            "json_attributes_topic": topics.emotion(speaker),
            "json_attributes_template": "{{ value_json.distribution | tojson }}",
        }
        components[f"{speaker}_confidence"] = own | {
            "unique_id": f"mer_{agent}_{speaker}_confidence",
            "name": f"{speaker} confidence",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "suggested_display_precision": 0,
            "value_template": "{{ value_json.confidence * 100 }}",
        }
    return {
        "device": {"identifiers": [f"mer_{agent}"], "name": f"Emotions ({agent})", "sw_version": __version__},
        "origin": {"name": "mer-agent", "sw_version": __version__},
        "components": components,
    }


async def announce(endpoint: Endpoint, agent: str, speakers: Sequence[str], *, remove: bool = False) -> None:
    """Publishes it, retained, as Home Assistant wants it; an empty payload removes the device."""
    payload = "" if remove else json.dumps(discovery(agent, speakers))
    async with mqtt.connect(endpoint) as connection:
        await connection.publish(discovery_topic(agent), payload, qos=1, retain=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Tell Home Assistant of an agent.")
    options.add_argument("--mqtt", metavar="URL", default="mqtt://127.0.0.1:1883")
    options.add_argument("--agent", default="agent")
    options.add_argument("--speaker", action="append", help="as in topics; may be given several times")
    options.add_argument("--remove", action="store_true")
    given = options.parse_args()
    login = {"username": os.environ.get("MER_MQTT_USERNAME", ""), "password": os.environ.get("MER_MQTT_PASSWORD", "")}
    where = Endpoint.parse(given.mqtt, **login)
    asyncio.run(announce(where, given.agent, given.speaker or ["speaker-0"], remove=given.remove))
