"""For chatbots: the emotions of the people who speak, as they are recognised, and a way to speak to the agent.

    async for emotion in EmotionStream("mqtt://127.0.0.1:1883"):
        print(emotion.speaker, emotion.label, emotion.confidence)

Needs aiomqtt and pydantic, no model. `SyncEmotionStream` is the same without asyncio, and `mer_agent.client.testing`
an agent without a model for a chatbot's own tests.
"""

from __future__ import annotations

import sys

from mer_agent import client_testing as testing
from mer_agent.contract import AnswerMessage, CommandName, SpeakerState, TurnMessage
from mer_agent.emotion_stream import EmotionStream
from mer_agent.endpoint import Endpoint
from mer_agent.errors import AnswerError, BrokerError
from mer_agent.mood import Mood
from mer_agent.schema import EmotionMessage, StatusMessage
from mer_agent.sync_stream import SyncEmotionStream

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

# As os.path is: `import mer_agent.client.testing` works without a folder of its own.
sys.modules[f"{__name__}.testing"] = testing
