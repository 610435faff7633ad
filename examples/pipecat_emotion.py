"""A Pipecat processor that puts the user's emotion into the context before the language model answers.

    Pipeline([transport.input(), stt, EmotionProcessor(stream), aggregator.user(), llm, tts, transport.output()])

Place it before the user's context aggregator. What the user said is sent on as it came; before it goes a message with
the emotion, which doesn't make the model answer. The stream must be open (`async with`).
"""

from __future__ import annotations

from emotion_prompt import prompt_block
from pipecat.frames.frames import Frame, LLMMessagesAppendFrame, TranscriptionFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from mer_agent.client import EmotionStream


class EmotionProcessor(FrameProcessor):
    """Adds the emotion of the person who speaks.

    Args:
        stream: where emotions come from.
        speaker: who; None: whoever spoke last.
    """

    def __init__(self, stream: EmotionStream, speaker: str | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._speaker = speaker
        self._told: tuple[str, int] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Sends every frame on."""
        await super().process_frame(frame, direction)
        emotion = self._stream.latest(self._speaker)
        if isinstance(frame, TranscriptionFrame) and emotion is not None:
            news = (emotion.utterance, emotion.revision)
            if news != self._told:  # one that the model knows already needn't be told again
                self._told = news
                block = prompt_block(emotion, self._stream.mood(self._speaker))
                await self.push_frame(LLMMessagesAppendFrame([{"role": "system", "content": block}], run_llm=False))
        await self.push_frame(frame, direction)
