from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import needs

from mer_agent.client import EmotionMessage, EmotionStream, TurnMessage
from mer_agent.client.mood import Memory
from mer_agent.client.testing import FakeAgent, emotion
from mer_agent.wire.broker import EmbeddedBroker

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def chatbot(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    import chatbot  # type: ignore[import-not-found]

    return chatbot  # type: ignore[no-any-return]


def judge(turn: TurnMessage) -> EmotionMessage:
    label = next((label for word, label in (("awful", "sad"), ("great", "happy")) if word in turn.text), "neutral")
    return emotion(label, confidence=0.9)


async def talk(chatbot: ModuleType, reply: Any, *said: str) -> tuple[list[str], FakeAgent]:
    shown: list[str] = []

    async def lines() -> AsyncIterator[str]:
        for text in said:
            yield f"{text}\n"

    async with (
        EmbeddedBroker(0) as broker,
        asyncio.timeout(20),
        FakeAgent(broker.url, judge=judge) as agent,
        EmotionStream(broker.url) as stream,
    ):
        await chatbot.converse(stream, reply, lines(), shown.append)
    return shown, agent


async def test_the_tone_follows_the_emotion_and_the_bot_sends_its_own_turns(chatbot: ModuleType) -> None:
    shown, agent = await talk(chatbot, chatbot.rule, "This is awful.", "  ", "Now it is great!")
    assert shown[0].strip() == "[sad 90%]"
    assert "sorry" in shown[1]
    assert "happy 90%" in shown[2]
    assert "↗" in shown[2]
    assert "brighter" in shown[3]
    assert [(turn.role, turn.text) for turn in agent.turns] == [
        ("user", "This is awful."),
        ("system", shown[1].removeprefix("bot > ")),
        ("user", "Now it is great!"),
        ("system", shown[3].removeprefix("bot > ")),
    ]


@pytest.mark.parametrize("label", ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger", "excited"])
async def test_every_emotion_has_a_tone_of_its_own(chatbot: ModuleType, label: str) -> None:
    async def replies(confidence: float) -> list[str]:
        return [await chatbot.rule("", emotion(one, confidence=confidence), None) for one in (label, "neutral")]

    sure, unsure, guess = await replies(0.9), await replies(0.1), await replies(0.4)
    assert (sure[0] != sure[1]) == (label != "neutral")
    assert unsure[0] == unsure[1]
    assert guess[0].startswith("If I read you right")


@contextmanager
def language_model(answer: bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that speaks OpenAI's chat completions."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *what: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_language_model_is_told_of_the_emotion(chatbot: ModuleType) -> None:
    answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": " Poor you. "}}]}).encode()
    with language_model(answer) as (url, asked):
        shown, agent = await talk(chatbot, chatbot.LanguageModel(url, "some-model", "key"), "This is awful.", "Yes.")
    assert shown[1] == "bot > Poor you."
    assert (asked[0]["path"], asked[0]["key"], asked[0]["model"]) == (
        "/v1/chat/completions",
        "Bearer key",
        "some-model",
    )
    assert "last utterance: sad (likely)" in asked[0]["messages"][0]["content"]
    assert [message["role"] for message in asked[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert agent.turns[1].text == "Poor you."


async def test_a_language_model_that_fails_is_replaced_by_the_rules(chatbot: ModuleType) -> None:
    with language_model(b"{}") as (url, _):
        shown, _ = await talk(chatbot, chatbot.LanguageModel(url, "some-model", ""), "This is awful.")
    assert "KeyError" in shown[1]
    assert "sorry" in shown[2]


def test_the_prompt_block_says_what_is_known_and_no_more(chatbot: ModuleType) -> None:
    assert chatbot.prompt_block(None) == "<user_emotion>unknown</user_emotion>"
    memory = Memory()
    for number, label in enumerate(("happy", "happy", "sad", "sad")):
        memory.note(emotion(label, speaker="user").model_copy(update={"utterance": f"u{number}"}), number)
    block = chatbot.prompt_block(memory.latest("user"), memory.mood("user", 60, 4))
    assert "sad (likely); sad 80%, neutral 20%" in block
    assert "mood over 4 utterances" in block
    assert "getting worse" in block
    guess = chatbot.prompt_block(emotion("angry", confidence=0.4))
    assert "angry (a guess)" in guess
    assert "mood" not in guess


@pytest.mark.real_weights
def test_the_whole_conversation_runs_in_a_terminal(chatbot: ModuleType) -> None:
    for name in ("mpnet", "ge2e", "yunet"):
        needs.weights(name)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "chatbot.py")],
        input="I got the job! I am so happy I could dance.\nThis is so unfair, I am furious about it!\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    replies = [line for line in done.stdout.splitlines() if line.startswith("bot > ")]
    judged = [line for line in done.stdout.splitlines() if line.startswith("      [")]
    assert len(replies) == len(judged) == 2
    assert "joy" in judged[0], done.stdout
    for line, reply in zip(judged, replies, strict=True):
        label = line.strip(" [").split()[0]
        assert reply.endswith((chatbot._REPLIES[label][1:], chatbot._UNSURE)), done.stdout
