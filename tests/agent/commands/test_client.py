from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from support.messages import message

from mer_agent.client import EmotionStream
from mer_agent.wire.broker import EmbeddedBroker


async def test_a_recording_is_published_without_any_model(tmp_path: Path) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text("".join(message(number).to_json() + "\n" for number in range(3)), encoding="utf-8")
    async with EmbeddedBroker(0) as broker, asyncio.timeout(20), EmotionStream(broker.url) as stream:
        command = ["-m", "mer_agent.cli", "publish", str(file), "--mqtt", broker.url, "--speed", "max"]
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=subprocess.PIPE)
        assert [(await anext(aiter(stream))).seq for _ in range(3)] == [0, 1, 2]
        _, said = await process.communicate()
    assert process.returncode == 0
    assert b"3 predictions published" in said


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary\n", encoding="utf-8")
    command = [sys.executable, "-m", "mer_agent.cli", "publish", str(tmp_path / "notes.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "line 1: no prediction" in done.stderr
    assert "diary" not in done.stderr
