"""For chatbots: the emotions of the people who speak, as they are recognised, and a way to speak to the agent.

    async for emotion in EmotionStream("mqtt://127.0.0.1:1883"):
        print(emotion.speaker, emotion.label, emotion.confidence)

Needs aiomqtt and pydantic, no model. `SyncEmotionStream` is the same without asyncio, and `mer_agent.client.testing`
an agent without a model for a chatbot's own tests.
"""

from __future__ import annotations

from mer_agent.client import testing
from mer_agent.client.emotion_stream import EmotionStream
from mer_agent.client.mood import Mood
from mer_agent.client.sync_stream import SyncEmotionStream
from mer_agent.errors import AnswerError, BrokerError
from mer_agent.wire.contract import AnswerMessage, CommandName, SpeakerState, TurnMessage
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.schema import EmotionMessage, StatusMessage

__all__ = [
    "AnswerError",
    "AnswerMessage",
    "BrokerError",
    "CommandName",
    "EmotionMessage",
    "EmotionStream",
    "Endpoint",
    "Mood",
    "SpeakerState",
    "StatusMessage",
    "SyncEmotionStream",
    "TurnMessage",
    "testing",
]
