"""`mer-agent bench mqtt`: from `publish` to the reader's hands, beside plain aiomqtt in the same run.

Both ways are measured in turns, one message each, on one event loop over loopback: ours from an `EmotionMessage` to the
`EmotionMessage` that a chatbot gets, and plain aiomqtt from ready bytes to bytes. Both put the same on the wire: topics
and filters of the same shape, the same payload, and with MQTT 5 the same properties. All sockets have TCP_NODELAY.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import aiomqtt

from mer_agent.client.emotion_stream import EmotionStream
from mer_agent.client.testing import emotion
from mer_agent.errors import BrokerError
from mer_agent.wire import mqtt
from mer_agent.wire.broker import EmbeddedBroker
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.envelope import Trace, seal
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import EmotionMessage, Kind, Topics

LATENCY_ROUNDS = 500
RATE_MESSAGES = 1000
DAY_S = 86_400
UTTERANCE_S = 3.0
"""In the simulated day somebody says something this often, and a guess goes out before it."""
WARM_UP = 50

Measure = Callable[[], Awaitable[float]]


async def bench(
    rounds: int = LATENCY_ROUNDS, messages: int = RATE_MESSAGES, day_s: int = DAY_S, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measures against Mosquitto, where it is installed, and the embedded broker.

    Args:
        rounds: messages for each latency.
        messages: messages for each rate.
        day_s: length of the simulated session.
        say: told what is being measured.

    Returns:
        `ratio`: the largest ratio of our median latency to that of plain aiomqtt. `brokers`: broker -> QoS -> `ours`
        and `plain` with `p50_ms`, `p95_ms`, `p99_ms` and messages `per_s`, and their `ratio`. `day`: utterances and
        guesses of a simulated session, and by how much the peak memory grew after its first hour.
    """
    brokers: dict[str, Any] = {}
    for name in ("mosquitto", "embedded"):
        if name == "mosquitto" and _mosquitto() is None:
            say("Mosquitto is not installed; only the embedded broker is measured")
            continue
        async with _running(name) as endpoint:
            brokers[name] = {}
            for qos in (0, 1):
                say(f"{name}, QoS {qos} ...")
                brokers[name][f"qos{qos}"] = await _compare(endpoint, qos, rounds, messages)
    day_broker = next(iter(brokers))
    say(f"{day_s / 3600:.0f} hours at {day_broker} ...")
    async with _running(day_broker) as endpoint:
        day = await _day(endpoint, day_s)
    ratio = max(figures["ratio"] for by_qos in brokers.values() for figures in by_qos.values())
    return {"ratio": ratio, "rounds": rounds, "brokers": brokers, "day": day}


async def _compare(endpoint: Endpoint, qos: int, rounds: int, messages: int) -> dict[str, Any]:
    """Latencies and rates of both ways at one broker."""
    kind: Kind = "final" if qos else "partial"
    async with _ours(endpoint) as (publisher, stream), _plain(endpoint) as (sender, arriving):
        topic = Topics("plain", "s1").emotion("speaker-0", kind)
        payload, details = seal(_message(0, kind).without_text(), topic, "plain", Trace().span())
        details = replace(details, expiry_s=30)
        count = 0

        async def send_plain() -> None:
            properties = mqtt.publish_properties(details) if endpoint.version == "5" else None
            await sender.publish(topic, payload, qos=qos, properties=properties)

        async def ours() -> float:
            nonlocal count
            count += 1
            message = _message(count, kind)
            begun = time.perf_counter()
            publisher.publish(message)
            while not isinstance(got := await stream.next_event(), EmotionMessage) or got.seq != count:
                pass
            return time.perf_counter() - begun

        async def plain() -> float:
            begun = time.perf_counter()
            sending = asyncio.create_task(send_plain())
            await arriving()
            took = time.perf_counter() - begun
            await sending
            return took

        async def many_ours() -> float:
            begun, got = time.perf_counter(), 0
            made = [_message(count + number, kind) for number in range(1, messages + 1)]

            async def send() -> None:
                for message in made:
                    await publisher.publish_wait(message)

            sending = asyncio.create_task(send())
            async with asyncio.timeout(120):
                while got < messages:
                    got += isinstance(await stream.next_event(), EmotionMessage)
            await sending
            return messages / (time.perf_counter() - begun)

        async def many_plain() -> float:
            begun = time.perf_counter()

            async def send() -> None:
                for _ in range(messages):
                    await send_plain()

            sending = asyncio.create_task(send())
            async with asyncio.timeout(120):
                for _ in range(messages):
                    await arriving()
            await sending
            return messages / (time.perf_counter() - begun)

        for _ in range(WARM_UP):
            await ours()
            await plain()
        taken = [(await ours(), await plain()) for _ in range(rounds)]
        figures = {
            "ours": _percentiles([one for one, _ in taken]) | {"per_s": await many_ours()},
            "plain": _percentiles([one for _, one in taken]) | {"per_s": await many_plain()},
        }
        return figures | {"ratio": figures["ours"]["p50_ms"] / figures["plain"]["p50_ms"]}


async def _day(endpoint: Endpoint, day_s: int) -> dict[str, Any]:
    """A session of a day at full speed: publisher, broker, and a chatbot that reads and remembers."""
    utterances = int(day_s / UTTERANCE_S)
    async with _ours(endpoint) as (publisher, stream):
        begun, first_hour_mb = time.perf_counter(), 0.0
        for number in range(utterances):
            await publisher.publish_wait(_message(2 * number, "partial"))
            await publisher.publish_wait(_message(2 * number + 1, "final"))
            while not isinstance(got := await stream.next_event(), EmotionMessage) or got.seq != 2 * number + 1:
                pass
            stream.mood(got.speaker)
            if number == min(utterances - 1, int(3600 / UTTERANCE_S)):
                first_hour_mb = _peak_mb()
        return {
            "utterances": utterances,
            "guesses": utterances,
            "took_s": time.perf_counter() - begun,
            "peak_memory_mb": _peak_mb(),
            "growth_after_first_hour_mb": _peak_mb() - first_hour_mb,
            "lost": publisher.counts.lost + stream.overflowed,
        }


@contextlib.asynccontextmanager
async def _ours(endpoint: Endpoint) -> AsyncIterator[tuple[Publisher, EmotionStream]]:
    publisher = Publisher(endpoint, Topics("bench", "s1"))
    stream = EmotionStream(endpoint, agent="bench", partial=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run())
        await publisher.wait_connected()
        async with stream:
            yield publisher, stream
        await publisher.drain()


@contextlib.asynccontextmanager
async def _plain(endpoint: Endpoint) -> AsyncIterator[tuple[aiomqtt.Client, Callable[[], Awaitable[Any]]]]:
    def client() -> aiomqtt.Client:
        five = endpoint.version == "5"
        return aiomqtt.Client(
            endpoint.host,
            endpoint.port,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    async with client() as sender, client() as receiver:
        filters = Topics("plain")
        for pattern in (filters.status, filters.emotion(), filters.emotion(kind="partial")):
            await receiver.subscribe(pattern, qos=1)
        arriving = aiter(receiver.messages)
        yield sender, lambda: anext(arriving)


def _message(number: int, kind: Kind) -> EmotionMessage:
    made = emotion(text="this and that")
    return made.model_copy(
        update={"agent": "bench", "session": "s1", "seq": number, "utterance": f"u{number:06d}", "kind": kind}
    )


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{share}_ms": 1000 * cuts[share - 1] for share in (50, 95, 99)}


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _mosquitto() -> str | None:
    # Debian puts daemons where a plain user's PATH doesn't look.
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextlib.asynccontextmanager
async def _running(broker: str) -> AsyncIterator[Endpoint]:
    """A broker of its own on loopback."""
    if broker == "embedded":
        async with EmbeddedBroker(0) as embedded:
            yield Endpoint("127.0.0.1", embedded.port, version="3.1.1")
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        config.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        config.flush()
        process = await asyncio.create_subprocess_exec(
            str(_mosquitto()), "-c", config.name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            await _wait_for(port)
            yield Endpoint("127.0.0.1", port, version="5")
        finally:
            process.kill()
            await process.wait()


async def _wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.05)
    raise BrokerError("Mosquitto doesn't start; is its configuration allowed here?")
