from __future__ import annotations

import asyncio
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console
from support.messages import message
from support.mosquitto import free_port

from mer_agent import listen as listen_module
from mer_agent.errors import BrokerError
from mer_agent.listen import arrival_delay_ms, coloured_line, listen, plain_line
from mer_agent.wire.broker import EmbeddedBroker
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import EmotionMessage, Topics


async def heard(messages: list[EmotionMessage], *, terminal: bool = False, **options: Any) -> tuple[int, str]:
    """What `listen` counts and prints while an agent sends these and goes."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120, highlight=False)
    async with EmbeddedBroker(0) as broker, asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        publisher = Publisher(Endpoint.parse(broker.url), Topics("desk", "s1"), publish_text=True)
        tasks.create_task(publisher.run())
        await publisher.wait_connected()
        publisher.set_status("ready")
        listening = tasks.create_task(listen(broker.url, until_offline=True, console=console, **options))
        await asyncio.sleep(0.2)
        for emotion in messages:
            publisher.publish(emotion)
        await publisher.drain()
        return await listening, output.getvalue()


async def test_each_utterance_is_a_plain_line_in_a_pipe_and_it_ends_with_the_agent() -> None:
    count, output = await heard([message(0), message(1, speaker=1, text="and what a night")])
    assert count == 2
    first, second = output.splitlines()
    assert first.startswith("speaker-0  happy  0.70  ")
    assert first.endswith(" ms  what a day")
    assert second.startswith("speaker-1  happy  0.70  ")
    assert second.endswith(" ms  and what a night")


async def test_json_lines_are_the_messages_themselves() -> None:
    _, output = await heard([message(0), message(1)], json_lines=True, terminal=True)
    assert [EmotionMessage.from_json(line) for line in output.splitlines()] == [message(0), message(1)]
    assert json.loads(output.splitlines()[0])["schema"] == "mer/v1"


async def test_a_terminal_shows_colours_a_bar_and_the_agent_s_state() -> None:
    _, output = await heard([message(0)], terminal=True)
    assert "███████░░░" in output
    assert "\x1b[32m" in output  # green: happy
    assert "desk is ready" in output
    assert "desk is offline" in output


async def test_only_the_speaker_that_was_asked_for() -> None:
    count, output = await heard([message(0), message(1, speaker=1)], speaker="speaker-1")
    assert count == 1
    assert output.startswith("speaker-1")


async def test_an_offline_from_an_earlier_run_does_not_end_it() -> None:
    async with EmbeddedBroker(0) as broker, asyncio.timeout(10):
        for run in range(2):
            async with asyncio.TaskGroup() as tasks:
                if run == 1:
                    listening = tasks.create_task(
                        listen(broker.url, until_offline=True, console=Console(file=io.StringIO()))
                    )
                    await asyncio.sleep(0.2)
                    assert not listening.done()
                publisher = Publisher(Endpoint.parse(broker.url), Topics("desk", "s1"))
                tasks.create_task(publisher.run())
                await publisher.wait_connected()
                publisher.publish(message(run))
                await publisher.drain()
        assert await listening == 1


async def test_it_ends_when_the_broker_is_gone_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen_module, "PATIENCE_S", 0.2)
    async with asyncio.timeout(10):
        async with EmbeddedBroker(0) as broker:
            listening = asyncio.create_task(listen(broker.url, until_offline=True, console=Console(file=io.StringIO())))
            publisher = Publisher(Endpoint.parse(broker.url), Topics("desk", "s1"))
            publishing = asyncio.create_task(publisher.run())
            await asyncio.sleep(0.3)
            publisher.publish(message())
            await asyncio.sleep(0.2)
        assert not listening.done()
        assert await listening == 1
        await publisher.drain(deadline_s=0.1)
        await publishing


async def test_nobody_listens() -> None:
    with pytest.raises(BrokerError, match="connection refused"):
        await listen(f"mqtt://127.0.0.1:{free_port()}", until_offline=True)


def test_the_delay_is_from_the_end_of_speech_to_the_arrival() -> None:
    arrived = message().ended_at + timedelta(milliseconds=812)
    assert arrival_delay_ms(message(), arrived) == 812
    assert "+812 ms" in coloured_line(message(), arrived).plain


def test_there_is_no_delay_when_the_agent_does_not_work_in_real_time() -> None:
    hurried = message(timings_ms={})
    assert " ms" not in plain_line(hurried, hurried.ended_at)
    assert " ms" not in coloured_line(hurried, hurried.ended_at).plain


def test_abstaining_degraded_and_revised_are_said() -> None:
    failed = message(distribution={}, label=None, confidence=0.0, degraded="failed: iemocap6")
    assert plain_line(failed, failed.ended_at).startswith("speaker-0  -  0.00  0 ms  (failed: iemocap6)")
    assert "(not sure)" in coloured_line(failed, failed.ended_at).plain
    assert "revised" in coloured_line(message(kind="revision", revision=1), failed.ended_at).plain


def test_nothing_that_arrives_can_steer_the_terminal() -> None:
    hostile = message(text="\x1b[2Jhello\r\n[red]x", label="\x1b[31m", distribution={"\x1b[31m": 1.0})
    for line in (plain_line(hostile, hostile.ended_at), coloured_line(hostile, hostile.ended_at).plain):
        assert line.isprintable()
        assert "[red]x" in line


def test_words_that_are_not_published_are_not_missed() -> None:
    silent = message().without_text()
    assert plain_line(silent, silent.ended_at).endswith(" ms")
