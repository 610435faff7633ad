"""A chatbot in the terminal whose tone follows the emotion of what you type.

    make chatbot                                      # starts a broker and an agent, needs nothing else
    python examples/chatbot.py --mqtt mqtt://HOST     # with an agent that runs already, such as `mer-agent chat`

What you type goes to the agent as a user's turn, its emotion comes back over MQTT, the reply is chosen by it, and the
reply goes to the agent as the system's turn: the next emotion is judged with the whole conversation as context.

Replies are rules. With CHATBOT_URL (and CHATBOT_MODEL, OPENAI_API_KEY) they come from any OpenAI-compatible server,
which is then sent what you type: CHATBOT_URL=http://127.0.0.1:11434/v1 CHATBOT_MODEL=llama3.2 make chatbot
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable

from emotion_prompt import SURE, prompt_block

from mer_agent.client import EmotionMessage, EmotionStream, Mood
from mer_agent.errors import FaultError, MerError

JUDGED_S = 10.0
"""How long a reply waits for the emotion; then it goes without."""
LIKELY = 0.3
"""Of seven emotions, one that is less likely than this is no reason for a tone."""
PERSONA = "You are a warm, brief companion. Answer in one or two sentences."

Reply = Callable[[str, EmotionMessage | None, Mood | None], Awaitable[str]]

_REPLIES = {
    "joy": "That is lovely to hear! What made it so good?",
    "excited": "How exciting! Tell me more.",
    "surprise": "You didn't see that coming, did you? Tell me more.",
    "sadness": "I am sorry. I am here, if you want to say more about it.",
    "fear": "That sounds frightening. Are you safe?",
    "disgust": "Ugh, I can see why that puts you off. What was it?",
    "anger": "That sounds maddening, and you have every right to say so. What happened?",
    "frustrated": "That must be tiring. Which part of it is the worst?",
    "neutral": "I see. And how is that for you?",
}
_REPLIES |= {"happy": _REPLIES["joy"], "sad": _REPLIES["sadness"], "angry": _REPLIES["anger"]}  # as `iemocap6` says it
_UNSURE = "I am not sure how you mean that. How do you feel about it?"


async def rule(text: str, emotion: EmotionMessage | None, mood: Mood | None) -> str:
    """The reply by rules: the emotion chooses it, and a mood that turns is noticed."""
    if emotion is None or emotion.label is None or emotion.confidence < LIKELY:
        return _UNSURE
    reply = _REPLIES.get(emotion.label, _UNSURE)
    if emotion.confidence < SURE:
        reply = f"If I read you right: {reply[0].lower() if not reply.startswith('I ') else 'I'}{reply[1:]}"
    if mood is not None and mood.trend is not None and mood.trend > 0.8 and mood.pleasantness > 0:
        reply = f"It is good to hear you sound brighter. {reply}"
    return reply


class LanguageModel:
    """Replies of an OpenAI-compatible server, which is told of the emotion in its prompt."""

    def __init__(self, url: str, model: str, key: str) -> None:
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._said: list[dict[str, str]] = []

    async def __call__(self, text: str, emotion: EmotionMessage | None, mood: Mood | None) -> str:
        """The reply to what was typed."""
        system = {"role": "system", "content": f"{PERSONA}\n\n{prompt_block(emotion, mood)}"}
        self._said = [*self._said[-20:], {"role": "user", "content": text}]
        answer = await asyncio.to_thread(self._post, {"model": self._model, "messages": [system, *self._said]})
        reply = str(answer["choices"][0]["message"]["content"]).strip()
        self._said.append({"role": "assistant", "content": reply})
        return reply

    def _post(self, body: dict[str, object]) -> dict[str, list[dict[str, dict[str, str]]]]:
        request = urllib.request.Request(self._url, json.dumps(body).encode(), self._headers)  # noqa: S310 - the user's
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer: dict[str, list[dict[str, dict[str, str]]]] = json.load(response)
        return answer


async def converse(stream: EmotionStream, reply: Reply, lines: AsyncIterator[str], show: Callable[[str], None]) -> None:
    """Answers each line until there is none left."""
    async for text in lines:
        if not (text := text.strip()):
            continue
        emotion = await judged(stream, text)
        mood = stream.mood("user")
        show(f"      [{_described(emotion, mood)}]")
        try:
            answer = await reply(text, emotion, mood)
        except (OSError, KeyError, IndexError, ValueError) as error:
            show(f"      [the language model failed: {type(error).__name__}; answering by rule]")
            answer = await rule(text, emotion, mood)
        show(f"bot > {answer}")
        await stream.send_turn(answer)


async def judged(stream: EmotionStream, text: str) -> EmotionMessage | None:
    """Sends what the user wrote, and gives its emotion; None if there is none in time."""
    turn = await stream.send_turn(text, role="user")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(JUDGED_S):
            while True:
                event = await stream.next_event()
                if isinstance(event, EmotionMessage) and event.utterance == f"turn-{turn}":
                    return event
    return None


def _described(emotion: EmotionMessage | None, mood: Mood | None) -> str:
    if emotion is None or emotion.label is None:
        return "no emotion"
    described = f"{emotion.label} {emotion.confidence:.0%}"
    if mood is not None and mood.trend is not None:
        described += f", mood {mood.label} {'↗' if mood.trend > 0.3 else '↘' if mood.trend < -0.3 else '→'}"
    return described


async def typed(prompt: str) -> AsyncIterator[str]:
    """The lines that are typed, or read from a pipe."""
    while True:
        if sys.stdin.isatty():
            sys.stdout.write(prompt)
            sys.stdout.flush()
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            return
        if not sys.stdin.isatty():
            sys.stdout.write(f"{prompt}{line}")
        yield line


@contextlib.asynccontextmanager
async def agent(url: str | None) -> AsyncIterator[str]:
    """Where an agent is: the given broker, or one that is started here for the length of the block, with an agent."""
    if url:
        yield url
        return
    from mer_agent.wire.broker import EmbeddedBroker

    async with EmbeddedBroker(0) as broker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mer_agent.cli",
            "--mqtt",
            broker.url,
            "chat",
            "--quiet",
            stdin=asyncio.subprocess.DEVNULL,
        )
        main_task = asyncio.current_task()
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(lambda _: main_task and main_task.cancel())
        try:
            yield broker.url
        except asyncio.CancelledError:
            if ended.done():
                raise FaultError("the agent has ended; what it said is above") from None
            raise
        finally:
            main_task = None
            if process.returncode is None:
                process.terminate()
            await ended


async def main() -> None:
    """Holds a conversation."""
    options = argparse.ArgumentParser(description="A chatbot whose tone follows your emotion.")
    options.add_argument("--mqtt", metavar="URL", help="broker of an agent that runs already")
    url, model = os.environ.get("CHATBOT_URL", ""), os.environ.get("CHATBOT_MODEL", "gpt-4o-mini")
    reply: Reply = LanguageModel(url, model, os.environ.get("OPENAI_API_KEY", "")) if url else rule

    def show(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    async with agent(options.parse_args().mqtt) as broker, EmotionStream(broker, answer_s=60.0) as stream:
        show("Say how you are; end with Ctrl-D. [In brackets: what the agent makes of it.]")
        await converse(stream, reply, typed("you > "), show)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except MerError as error:
        sys.exit(f"chatbot: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
