"""The whole path on real weights: a recorded session in, schema v1 out, at any speed, never from the future."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from support import needs

from mer_agent.client import EmotionStream
from mer_agent.config import settings as config
from mer_agent.run import Summary, replay
from mer_agent.wire.schema import EmotionMessage

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
GOLDEN = SESSION / "predictions.jsonl"

pytestmark = pytest.mark.real_weights


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    for name in needs.AGENT:
        needs.weights(name)


def play(path: Path, *, real_time: bool = False) -> tuple[list[EmotionMessage], Summary]:
    messages: list[EmotionMessage] = []
    loaded = config.load(assignments=["agent.session=s1"])
    summary = asyncio.run(replay(loaded.settings, path, real_time=real_time, sinks=[messages.append]))
    return [message for message in messages if message.kind != "partial"], summary


def judged(messages: Sequence[EmotionMessage]) -> list[dict[str, Any]]:
    """What the agent thinks, without how long it took and what the clock on the wall showed."""
    clocks = {"timings_ms", "delay_ms", "started_at", "ended_at", "seq"}  # guesses on the way count, too
    return [message.model_dump(exclude=clocks) for message in messages]


@pytest.fixture(scope="module")
def at_full_speed() -> list[EmotionMessage]:
    return play(SESSION)[0]


def test_a_recorded_session_gives_the_golden_predictions(at_full_speed: list[EmotionMessage]) -> None:
    golden = [EmotionMessage.from_json(line) for line in GOLDEN.read_text().splitlines()]
    assert [one.utterance for one in at_full_speed] == [one.utterance for one in golden]
    for now, then in zip(at_full_speed, golden, strict=True):
        assert abs(now.start_ns - then.start_ns) <= 64_000_000
        assert now.speaker == then.speaker
        # Another processor rounds otherwise, and may hear another word where the voice is unclear.
        assert now.distribution == pytest.approx(then.distribution, abs=0.15)
    assert sum(now.text == then.text for now, then in zip(at_full_speed, golden, strict=True)) >= 0.8 * len(golden)


def test_words_and_speakers_agree_with_what_was_recorded(at_full_speed: list[EmotionMessage]) -> None:
    truth = [json.loads(line) for line in (SESSION / "words.jsonl").read_text().splitlines()]
    heard: dict[str, set[str]] = {}
    for message in at_full_speed:
        middle = (message.start_ns + message.end_ns) // 2
        (turn,) = (turn for turn in truth if turn["start_ns"] - 3e8 <= middle <= turn["end_ns"] + 3e8)
        heard.setdefault(turn["speaker"], set()).add(message.speaker)
    assert heard == {"Ben": {"speaker-0"}, "Anna": {"speaker-1"}}
    said = {word.strip(".,!?").lower() for message in at_full_speed for word in (message.text or "").split()}
    meant = {word.strip(".,!?").lower() for turn in truth for word in turn["text"].split()}
    assert len(said & meant) / len(meant) > 0.8


def test_the_same_recording_twice_gives_the_same_predictions(at_full_speed: list[EmotionMessage]) -> None:
    assert judged(play(SESSION)[0]) == judged(at_full_speed)


@pytest.mark.realtime
def test_real_speed_gives_the_same_predictions_as_full_speed(at_full_speed: list[EmotionMessage]) -> None:
    messages, summary = play(SESSION, real_time=True)
    assert judged(messages) == judged(at_full_speed)
    assert summary.work_s >= messages[-1].end_ns / 1e9
    assert all(message.delay_ms is not None and message.delay_ms > 0 for message in messages)
    assert all(message.delay_ms is None for message in at_full_speed)


def keep_begin(whole: Path, begin: Path, seconds: float) -> None:
    """Writes the begin of a recording of one stream, as it is encoded."""
    with av.open(str(whole)) as source, av.open(str(begin), "w") as target:
        stream = target.add_stream_from_template(source.streams[0])
        for packet in source.demux(source.streams[0]):
            if packet.pts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = stream
                target.mux(packet)


def test_nothing_that_comes_later_changes_a_published_prediction(
    at_full_speed: list[EmotionMessage], tmp_path: Path
) -> None:
    shutil.copy(SESSION / "manifest.json", tmp_path)
    for name in ("audio-0.flac", "video-0.mkv"):
        keep_begin(SESSION / name, tmp_path / name, 12)
    first_half, _ = play(tmp_path)
    # Those whose end was declared, hangover included, before the cut.
    closed = [one for one in judged(first_half) if one["closed_by"] == "pause"]
    assert len(closed) >= 4
    assert closed == judged(at_full_speed)[: len(closed)]


def test_a_subscriber_gets_what_the_agent_thinks_but_no_words(at_full_speed: list[EmotionMessage]) -> None:
    received: list[EmotionMessage] = []

    async def both() -> None:
        from mer_agent.wire.broker import EmbeddedBroker

        async with EmbeddedBroker(0) as broker:
            stream = EmotionStream(broker.url, patience_s=20)

            async def subscribe() -> None:
                async for message in stream:
                    received.append(message)
                    if len(received) == len(at_full_speed):
                        return

            loaded = config.load(assignments=[f"mqtt.url={broker.url}", "agent.session=s1"])
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                tasks.create_task(subscribe())
                tasks.create_task(replay(loaded.settings, SESSION, real_time=False))

    asyncio.run(both())
    assert [one.text for one in received] == [None] * len(at_full_speed)
    assert judged(received) == [{**one, "text": None} for one in judged(at_full_speed)]
