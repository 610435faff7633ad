"""Home Assistant, the Lab Streaming Layer and ROS: what each of them gets."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mer_agent.client import EmotionMessage, EmotionStream
from mer_agent.client.testing import FakeAgent, emotion
from mer_agent.wire import mqtt
from mer_agent.wire.broker import EmbeddedBroker
from mer_agent.wire.endpoint import Endpoint

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def example(name: str) -> ModuleType:
    return importlib.import_module(name)


async def test_home_assistant_discovers_a_device_with_its_sensors() -> None:
    home_assistant = example("home_assistant")
    async with EmbeddedBroker(0) as broker, asyncio.timeout(20):
        endpoint = Endpoint.parse(broker.url)
        await home_assistant.announce(endpoint, "desk", ["speaker-0", "user"])
        async with mqtt.connect(endpoint) as connection:
            await connection.subscribe("homeassistant/device/+/config")
            found = await anext(connection.deliveries())
        assert (found.topic, found.retained) == ("homeassistant/device/mer_desk/config", True)
        config = json.loads(found.payload)
        # https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload: device and origin are required,
        # each component has a platform and an id that no other has.
        assert {"device", "origin", "components"} == set(config)
        assert config["device"]["identifiers"]
        assert config["origin"]["name"]
        components = config["components"].values()
        assert all(one["platform"] == "sensor" and one["state_topic"] for one in components)
        assert len({one["unique_id"] for one in components}) == len(components) == 5

        # What the sensors name is there.
        async with FakeAgent(endpoint) as agent, mqtt.connect(endpoint) as reader:
            sensor = config["components"]["user_emotion"]
            await reader.subscribe(sensor["state_topic"], sensor["availability"][0]["topic"])
            await agent.say(emotion("sad", speaker="user"))
            payloads: list[dict[str, Any]] = []
            async for delivery in reader.deliveries():
                payloads.append(json.loads(delivery.payload))
                if any("label" in one for one in payloads) and any("state" in one for one in payloads):
                    break
            assert [one["label"] for one in payloads if "label" in one] == ["sad"]

        await home_assistant.announce(endpoint, "desk", [], remove=True)
        async with mqtt.connect(endpoint) as connection:
            await connection.subscribe("homeassistant/device/+/config")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await anext(connection.deliveries())


async def test_emotions_reach_the_lab_streaming_layer() -> None:
    import pylsl

    lsl_bridge = example("lsl_bridge")
    async with EmbeddedBroker(0) as broker, asyncio.timeout(60), FakeAgent(broker.url, session="lsl") as agent:
        stream = EmotionStream(broker.url)
        bridging = asyncio.create_task(lsl_bridge.bridge(stream))
        await stream.subscribed.wait()
        await agent.say(emotion("sad"))
        (found,) = await asyncio.to_thread(pylsl.resolve_byprop, "source_id", "desk/lsl/speaker-0", 1, 20.0)
        assert (found.name(), found.type(), found.channel_count()) == ("mer-agent speaker-0", "Emotion", 2)
        inlet = pylsl.StreamInlet(found)
        await asyncio.to_thread(inlet.open_stream, 20.0)
        await agent.say(emotion("sad", confidence=0.9))
        sample, stamp = await asyncio.to_thread(inlet.pull_sample, 20.0)
        assert sample == pytest.approx([0.1, 0.9])  # neutral, sad
        assert abs(pylsl.local_clock() - stamp) < 20
        channel = inlet.info().desc().child("channels").child("channel")
        assert [channel.child_value("label"), channel.next_sibling().child_value("label")] == ["neutral", "sad"]
        inlet.close_stream()
        bridging.cancel()
        await asyncio.gather(bridging, return_exceptions=True)


class _Node:
    """An rclpy node as far as the bridge uses one."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any]] = []

    def create_publisher(self, kind: type, topic: str, depth: int) -> Any:
        return SimpleNamespace(publish=lambda message: self.published.append((topic, message)))

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: datetime.now(UTC)))


def _message(*fields: str) -> type:
    """A ROS message: it takes the fields that it has, and no others."""

    class Message:
        __slots__ = ("header", *fields)

        def __init__(self) -> None:
            self.header = SimpleNamespace(stamp=None)

    return Message


def test_emotions_reach_ros_in_the_convention_of_ros4hri(monkeypatch: pytest.MonkeyPatch) -> None:
    # ROS comes from its own package repositories, not from pip: rclpy and hri_msgs are stand-ins with their fields.
    messages = ModuleType("hri_msgs.msg")
    messages.Expression = _message("expression", "valence", "arousal", "confidence")  # type: ignore[attr-defined]
    messages.IdsList = _message("ids")  # type: ignore[attr-defined]
    for name, module in (
        ("rclpy", ModuleType("rclpy")),
        ("hri_msgs", ModuleType("hri_msgs")),
        ("hri_msgs.msg", messages),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    node = _Node()
    bridge = example("ros_bridge").Bridge(node)

    def say(one: EmotionMessage) -> None:
        bridge.take(one)

    say(emotion("frustrated"))
    say(emotion("happy").model_copy(update={"valence": 0.5}))
    say(emotion("sad", speaker="speaker-1"))
    say(emotion("sad").model_copy(update={"label": None}))
    assert [topic for topic, _ in node.published] == [
        "/humans/voices/tracked",
        "/humans/voices/speaker0/expression",
        "/humans/voices/speaker0/expression",
        "/humans/voices/tracked",
        "/humans/voices/speaker1/expression",
    ]
    sent = [message for _, message in node.published]
    assert (sent[1].expression, sent[1].confidence, math.isnan(sent[1].valence)) == ("annoyed", 0.8, True)
    assert (sent[2].expression, sent[2].valence) == ("happy", 0.5)
    assert sent[3].ids == ["speaker0", "speaker1"]
