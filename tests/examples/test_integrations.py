"""The examples for Pipecat and LiveKit, with the real packages; neither is asked for a network or a model."""

from __future__ import annotations

import asyncio

import pytest
from support import venvs

from mer_agent.client.testing import FakeAgent, emotion
from mer_agent.wire.broker import EmbeddedBroker

pytestmark = pytest.mark.integrations

HEARD = """
import asyncio, sys
from mer_agent.client import EmotionStream

async def heard():
    stream = EmotionStream(sys.argv[1])
    await stream.__aenter__()
    while stream.latest() is None:
        await asyncio.sleep(0.02)
    return stream
"""

PIPECAT = f"""
{HEARD}
from pipecat.frames.frames import LLMMessagesAppendFrame, TextFrame, TranscriptionFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.tests.utils import run_test
from pipecat_emotion import EmotionProcessor

async def main():
    stream = await heard()
    said = [TranscriptionFrame("I lost it", "ann", "now"), TextFrame("x"), TranscriptionFrame("again", "ann", "now")]
    down, _ = await run_test(EmotionProcessor(stream), frames_to_send=said)
    kinds = [type(frame).__name__ for frame in down]
    assert kinds == ["LLMMessagesAppendFrame", "TranscriptionFrame", "TextFrame", "TranscriptionFrame"], kinds
    assert down[0].run_llm is False
    print(down[0].messages[0]["content"])
    await stream.__aexit__(None, None, None)

asyncio.run(main())
"""

LIVEKIT = f"""
{HEARD}
from livekit.agents import llm
from livekit_emotion import EmotionAgent

async def main():
    stream = await heard()
    agent = EmotionAgent(stream, instructions="be kind")
    context = llm.ChatContext.empty()
    said = context.add_message(role="user", content="I lost it")
    await agent.on_user_turn_completed(context, said)
    print(context.items[-1].role, context.items[-1].text_content)
    await stream.__aexit__(None, None, None)

asyncio.run(main())
"""


@pytest.mark.parametrize("script", [PIPECAT, LIVEKIT], ids=["pipecat", "livekit"])
async def test_the_emotion_reaches_the_model_s_context(script: str) -> None:
    await asyncio.to_thread(venvs.folder)
    async with EmbeddedBroker(0) as broker, FakeAgent(broker.url) as agent:
        running = asyncio.create_task(asyncio.to_thread(venvs.run, script, broker.url))
        while not running.done():
            await agent.say(emotion("sad"))
            await asyncio.wait({running}, timeout=0.2)
        assert "last utterance: sad (likely); sad 80%, neutral 20%" in running.result()
