"""A dialogue system and the running agent, on real weights: turns in, emotions out, commands obeyed and answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support import needs
from support.mosquitto import mosquitto

from mer_agent.config import settings as config
from mer_agent.run import replay
from mer_agent.wire import mqtt
from mer_agent.wire.connection import Connection
from mer_agent.wire.contract import AnswerMessage, CapabilitiesMessage, SessionMessage
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.schema import EmotionMessage, Topics

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
TOPICS = Topics("agent", "s1")

pytestmark = [pytest.mark.real_weights, pytest.mark.broker, pytest.mark.realtime]


class DialogueSystem:
    """Sends, and waits for what comes back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._arrivals = connection.deliveries()
        self._asked = 0

    async def send(self, topic: str, **fields: Any) -> None:
        await self._connection.publish(topic, json.dumps(fields), qos=1)

    async def wait(self, topic: str, **wanted: Any) -> dict[str, Any]:
        """The next message on the topic with such fields."""
        async for delivery in self._arrivals:
            payload: dict[str, Any] = json.loads(delivery.payload)
            if delivery.topic == topic and all(payload.get(name) == value for name, value in wanted.items()):
                return payload
        raise AssertionError("the broker has gone")

    async def ask(self, command: str, **fields: Any) -> AnswerMessage:
        self._asked += 1
        await self.send(TOPICS.command, command=command, id=f"c{self._asked}", **fields)
        return AnswerMessage.model_validate(await self.wait(TOPICS.answer(), id=f"c{self._asked}"))


async def test_a_dialogue_system_talks_to_the_running_agent(tmp_path: Path) -> None:
    for name in needs.AGENT:
        needs.weights(name)
    with mosquitto(tmp_path) as broker:
        settings = config.load(assignments=[f"mqtt.url={broker.url}", "agent.session=s1"]).settings
        async with (
            asyncio.timeout(120),  # on a busy machine; seconds otherwise
            asyncio.TaskGroup() as tasks,
            mqtt.connect(Endpoint("127.0.0.1", broker.port)) as connection,
        ):
            await connection.subscribe("mer/v1/agent/#")
            system = DialogueSystem(connection)
            session = tasks.create_task(replay(settings, SESSION, real_time=True))
            capabilities = CapabilitiesMessage.model_validate(await system.wait(TOPICS.capabilities))
            assert capabilities.label_set
            assert {model.role for model in capabilities.models} >= {"fusion", "words", "text", "audio"}
            assert all(model.sha256 for model in capabilities.models if model.role in ("fusion", "words"))
            SessionMessage.model_validate(await system.wait(TOPICS.news, event="started"))

            await system.send(TOPICS.turn, id="t1", role="system", text="How was your day?")
            await system.send(TOPICS.turn, id="t2", role="user", text="It was wonderful, I am so happy!")
            written = EmotionMessage.model_validate(await system.wait(TOPICS.emotion("user")))
            assert (written.modalities_used, written.context_length, written.text) == (("text",), 1, None)
            spoken = EmotionMessage.model_validate(await system.wait(TOPICS.emotion("speaker-0")))
            assert spoken.context_length == 2

            assert (await system.ask("rename", speaker="speaker-0", name="Ben")).ok
            states = {state.speaker: state for state in (await system.ask("snapshot")).speakers}
            assert set(states) >= {"system", "user", "speaker-0"}
            assert (states["user"].label, states["speaker-0"].name) == (written.label, "Ben")
            assert (await system.ask("pause")).ok
            assert (await system.ask("forget", speaker="speaker-0")).ok
            assert (await system.ask("start")).ok
            assert (await system.ask("reset")).ok
            assert (await system.ask("rename", speaker="nobody")).reason == "no such speaker"
            assert (await system.ask("stop")).ok
            await system.wait(TOPICS.status, state="stopping")
            await system.wait(TOPICS.news, event="ended")
            await system.wait(TOPICS.status, state="offline")
            await session
