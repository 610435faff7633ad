"""What docs/chatbots.md shows is run as it is printed."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import needs, npm

from mer_agent.client.testing import FakeAgent, emotion
from mer_agent.wire.broker import EmbeddedBroker

PAGE = (Path(__file__).parents[2] / "docs" / "chatbots.md").read_text(encoding="utf-8")


def printed(language: str, mark: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    (found,) = [block for block in blocks if mark in block]
    return found


async def first_line(broker: EmbeddedBroker, agent: FakeAgent, *command: str, cwd: Path | None = None) -> str:
    """What a program prints first when somebody is happy again and again: when it listens is its own secret."""
    program = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=cwd)
    assert program.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = asyncio.create_task(program.stdout.readline())
            while not line.done():
                await agent.say(emotion("happy"))
                await asyncio.wait({line}, timeout=0.05)
            return line.result().decode()
    finally:
        program.kill()
        await program.wait()


@pytest.mark.parametrize("mark", ["async with EmotionStream", "SyncEmotionStream("])
async def test_python(mark: str) -> None:
    async with EmbeddedBroker(0) as broker, FakeAgent(broker.url) as agent:
        code = printed("python", mark).replace("1883", str(broker.port))
        line = await first_line(broker, agent, sys.executable, "-u", "-c", code)
        assert "happy" in line
        assert "Mood(" in line
        if "send_turn" in code:
            assert [turn.role for turn in agent.turns] == ["system", "user"]


@pytest.mark.node
async def test_javascript() -> None:
    folder = await asyncio.to_thread(npm.folder)
    async with EmbeddedBroker(0) as broker, FakeAgent(broker.url) as agent:
        code = printed("js", "mqtt.connect").replace("1883", str(broker.port))
        node = [needs.program("node"), "--input-type=module", "--eval", code]
        assert (await first_line(broker, agent, *node, cwd=folder)).split() == ["speaker-0", "happy", "0.8"]


def test_the_testing_example_imports_what_there_is() -> None:
    compile(printed("python", "FakeAgent("), "docs/chatbots.md", "exec")
