"""A LiveKit agent that knows how the user feels: the emotion enters the context when the user's turn has ended.

    async with EmotionStream("mqtt://127.0.0.1:1883") as stream:
        await session.start(agent=EmotionAgent(stream, instructions="You are a kind assistant."), room=ctx.room)

The block is added to the context of this one answer, so that old emotions don't pile up in the conversation.
"""

from __future__ import annotations

from typing import Any

from emotion_prompt import prompt_block
from livekit.agents import Agent, llm

from mer_agent.client import EmotionStream


class EmotionAgent(Agent):
    """An `Agent` of LiveKit, with the emotion in its context.

    Args:
        stream: where emotions come from.
        speaker: who; None: whoever spoke last.
        **options: those of `Agent`.
    """

    def __init__(self, stream: EmotionStream, speaker: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._stream = stream
        self._speaker = speaker

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        """Adds the emotion before the reply is made."""
        if (emotion := self._stream.latest(self._speaker)) is not None:
            turn_ctx.add_message(role="system", content=prompt_block(emotion, self._stream.mood(self._speaker)))
