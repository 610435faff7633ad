from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.mosquitto import free_port

from mer_agent.client import AnswerError, BrokerError, SyncEmotionStream
from mer_agent.client.testing import FakeAgent, emotion
from mer_agent.wire.broker import EmbeddedBroker


@contextmanager
def agent_elsewhere() -> Iterator[tuple[str, FakeAgent, asyncio.AbstractEventLoop]]:
    """A broker and an agent in another thread, as a program without asyncio would meet them."""
    there: list[tuple[str, FakeAgent, asyncio.AbstractEventLoop]] = []
    ready, done = threading.Event(), threading.Event()

    async def main() -> None:
        async with EmbeddedBroker(0) as broker, FakeAgent(broker.url) as agent:
            there.append((broker.url, agent, asyncio.get_running_loop()))
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(10)
        yield there[0]
    finally:
        done.set()
        thread.join()


def test_all_of_it_without_asyncio() -> None:
    with agent_elsewhere() as (url, agent, loop), SyncEmotionStream(url) as stream:
        assert stream.next(timeout_s=0.05) is None
        for label in ("sad", "happy"):
            asyncio.run_coroutine_threadsafe(agent.say(emotion(label)), loop).result(10)
        assert [heard.label for _, heard in zip(range(2), stream, strict=False)] == ["sad", "happy"]
        latest, mood = stream.latest("speaker-0"), stream.mood("speaker-0", 60)
        assert latest is not None
        assert latest.label == "happy"
        assert mood is not None
        assert mood.trend == pytest.approx(1.6)
        stream.send_turn("Good.", role="system")
        assert stream.command("snapshot").ok
        assert agent.turns[0].text == "Good."
        assert stream.statuses["desk"].state == "ready"
        agent.refuse = "no"
        with pytest.raises(AnswerError, match="no"):
            stream.command("pause")


def test_no_broker_and_no_with() -> None:
    stream = SyncEmotionStream(f"mqtt://127.0.0.1:{free_port()}")
    with pytest.raises(RuntimeError, match="with"):
        stream.latest()
    with pytest.raises(BrokerError, match="refused"), stream:
        pass
    assert not any(thread.name == "emotions" for thread in threading.enumerate())
