"""`mer-agent bench latency`: from the end of speech to the emotion, beside two ways that wait for silence first.

The same sound is played at real speed to each of them, one after the other, each in a process of its own:

- `agent`: the agent; its predictions are taken by a subscriber in another process, over MQTT;
- `sequential`: the same models without streaming: 0.5 s of silence, then words, encoders and fusion in turn;
- `whisperstreaming`: whisper_streaming with the same words model; it only transcribes, and commits words on which two
  looks in a row agree (`peer_whisperstreaming`);
- `realtimestt`: RealtimeSTT with the same words model and 0.5 s of silence; it only transcribes (`peer_realtimestt`).

The sound is made of recordings: their utterances in turn, each followed by a pause, so that everybody hears the same
ends. Latency counts from the last voiced frame before such a pause; what is published before that is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import statistics
import sys
import tempfile
import wave
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_agent.bench import peers
from mer_agent.bench.pipelines import PIPELINES
from mer_agent.client import EmotionStream, StatusMessage
from mer_agent.config.settings import AUTO, AgentSettings, MqttSettings, SegmenterSettings, Settings
from mer_agent.encoders import weights
from mer_agent.errors import FaultError, MediaError
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.engines import processors
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ
from mer_agent.streams.vad import SileroVad

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAUSE_S = 1.2
"""Between two utterances: enough for everybody to notice, at 0.5 s of silence, before the next one begins."""
TAIL_S = 5.0
"""Silence at the end, in which the last words are found."""
NEAR_S = 0.25
"""So far may an end of speech lie from the one that is meant: voice activity detectors differ by a few frames."""
QUIET = 1e-4
"""Noise in the pauses, root mean square: digital silence is no silence that a detector has learned."""
CALM_LOAD = 1.5
"""Load of the machine from which figures say more about the other processes."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A result, in seconds since the sound began."""

    end_s: float
    """The end of speech that it is about."""
    delivered_s: float


@dataclass(slots=True)
class Heard:
    """What one system delivered, and at what price."""

    deliveries: list[Delivery] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    cpu_s: float | None = None
    load: float = 0.0


def latency(
    settings: Settings,
    media: Sequence[Path],
    length_s: float = 120.0,
    systems: Sequence[str] = ("agent", "sequential", "whisperstreaming", "realtimestt"),
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measures the systems one after the other.

    Returns:
        `ratio`: our p50 over the p50 of the last system, over the ends of speech that both delivered; beside it
        `ratio_p95`, and for each system `p50_s`, `p95_s`, `missed`, `cpu_s` (from ready to the end) and the `load` of
        the machine when it began.

    Raises:
        MediaError: a recording can't be played, or holds no speech.
        FaultError: a system failed.
    """
    with tempfile.TemporaryDirectory(prefix="mer-agent-") as folder:
        path = Path(folder) / "conversation.wav"
        ends_s, whole_s = compose(media, path, length_s)
        heard = {}
        for name in systems:
            say(f"{name}: {whole_s:.0f} s at real speed ...")
            command = _command(name, path, say)
            heard[name] = asyncio.run(_listen(name, command, settings, ends_s))
            if heard[name].load > CALM_LOAD:
                say(f"the machine had a load of {heard[name].load:.1f}: measure again when it is idle")
    return {
        "media_s": whole_s,
        "ends": len(ends_s),
        "words": settings.transcriber.weights,
        "cores": processors(),
        **compare(ends_s, heard),
    }


def compare(ends_s: Sequence[float], heard: Mapping[str, Heard]) -> dict[str, Any]:
    """The figures of all systems; each ratio is that of the first system to another one."""
    delays = {name: delays_s(ends_s, one.deliveries) for name, one in heard.items()}
    figures: dict[str, Any] = {"systems": {}, "ratios": {}}
    ours = next(iter(heard))
    for name, one in heard.items():
        found = [delay for delay in delays[name] if delay is not None]
        figures["systems"][name] = {
            "p50_s": _percentile(found, 50),
            "p95_s": _percentile(found, 95),
            "missed": len(ends_s) - len(found),
            "delays_s": delays[name],
            "cpu_s": one.cpu_s,
            "load": one.load,
            "kinds": dict(one.kinds),
            "stages_ms": {stage: statistics.median(values) for stage, values in one.stages_ms.items()},
        }
        both = [
            (mine, other) for mine, other in zip(delays[ours], delays[name], strict=True) if None not in (mine, other)
        ]
        if name != ours and both:
            mine, others = [np.array(side, float) for side in zip(*both, strict=True)]
            ratio = {f"p{q}": float(np.percentile(mine, q) / np.percentile(others, q)) for q in (50, 95)}
            figures["ratios"][name] = {**ratio, "ends": len(both)}
    if figures["ratios"]:
        last = list(figures["ratios"].values())[-1]
        figures["ratio"], figures["ratio_p95"] = last["p50"], last["p95"]
    return figures


def delays_s(ends_s: Sequence[float], deliveries: Sequence[Delivery]) -> list[float | None]:
    """For each end of speech, how long after it its result came; None: no result is about it."""
    delays: list[float | None] = [None] * len(ends_s)
    for delivery in deliveries:
        nearest = min(range(len(ends_s)), key=lambda at: abs(ends_s[at] - delivery.end_s))
        if delays[nearest] is None and abs(ends_s[nearest] - delivery.end_s) <= NEAR_S:
            delays[nearest] = delivery.delivered_s - ends_s[nearest]
    return delays


def compose(media: Sequence[Path], path: Path, length_s: float) -> tuple[list[float], float]:
    """Writes a conversation of the recordings' utterances, taken from each in turn, over again until it is full.

    Returns:
        where speech ends, and how long it all is, in seconds.

    Raises:
        MediaError: a recording can't be played, or holds no speech.
    """
    detector = SileroVad()
    spoken = [_utterances(recording, detector) for recording in media]
    random = np.random.default_rng(0)
    parts: list[NDArray[np.float32]] = [_quiet(random, PAUSE_S)]
    ends_s: list[float] = []
    at = len(parts[0])
    for turn in itertools.count():
        said = spoken[turn % len(spoken)]
        audio, end = said[turn // len(spoken) % len(said)]
        pause = _quiet(random, PAUSE_S)
        if ends_s and (at + len(audio) + len(pause)) / SAMPLE_RATE_HZ > length_s:
            break
        ends_s.append((at + end) / SAMPLE_RATE_HZ)
        parts += [audio, pause]
        at += len(audio) + len(pause)
    parts.append(_quiet(random, TAIL_S))
    samples = np.concatenate(parts)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return ends_s, len(samples) / SAMPLE_RATE_HZ


def _utterances(recording: Path, detector: SileroVad) -> list[tuple[NDArray[np.float32], int]]:
    """Sound of each utterance and the sample at which its speech ends; those cut for their length are left out."""
    cutter = SpeechCutter(detector.stream, SegmenterSettings())
    segments = [segment for chunk in audio_chunks(recording) for segment in cutter.push(chunk)]
    found = [
        (segment.audio, (segment.end_ns - segment.audio_start_ns) * SAMPLE_RATE_HZ // NS_PER_S)
        for before, segment in itertools.pairwise([None, *segments])
        if segment and segment.closed_by == "pause" and not (before and before.closed_by == "longest")
    ]
    if not found:
        raise MediaError(f"{recording}: nobody says anything in it that is followed by a pause")
    return found


def _quiet(random: np.random.Generator, length_s: float) -> NDArray[np.float32]:
    return (QUIET * random.standard_normal(round(length_s * SAMPLE_RATE_HZ))).astype(np.float32)


def _command(name: str, path: Path, say: Callable[[str], None]) -> list[str]:
    """Starts a system: it writes lines of JSON, `ready` first and `end` last, with its results in between."""
    if name in PIPELINES:
        return [sys.executable, "-m", "mer_agent.bench.pipelines", name, str(path)]
    return [str(peers.python(name, say)), str(peers.script(name)), str(path)]


async def _listen(name: str, command: Sequence[str], settings: Settings, ends_s: Sequence[float]) -> Heard:
    port = _free_port()
    settings = settings.model_copy(
        update={"mqtt": MqttSettings(port=port), "agent": AgentSettings(name="bench", session="latency")}
    )
    words = settings.transcriber
    given = json.loads(settings.model_dump_json()) | {
        "words": {
            "path": str(weights.path(words.weights)),
            "compute_type": words.compute_type,
            # The others are told what the agent finds out.
            "language": "en" if words.language == AUTO else words.language,
        },
    }
    found = Heard(load=os.getloadavg()[0])
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise FaultError(f"{name} has no pipes")
    complaints = asyncio.create_task(stderr.read())
    stdin.write(json.dumps(given).encode())
    stdin.close()
    subscriber: asyncio.Task[None] | None = None
    ready_cpu_s: float | None = None
    async for line in _lines(stdout):
        if "ready" in line:
            ready_cpu_s = cpu_s(process.pid)
            if name == "agent":
                subscriber = asyncio.create_task(_subscribe(f"mqtt://127.0.0.1:{port}", found))
        elif "end" in line:
            spent_s = cpu_s(process.pid)
            found.cpu_s = None if spent_s is None or ready_cpu_s is None else spent_s - ready_cpu_s
        else:
            found.kinds["final"] += 1
            # Who doesn't know when speech ended knows at least when he noticed.
            end_s = line.get("end_s")
            if end_s is None:
                end_s = max((end for end in ends_s if end <= line["noticed_s"]), default=0.0)
            found.deliveries.append(Delivery(end_s, line["delivered_s"]))
    code = await process.wait()
    if subscriber is not None:
        subscriber.cancel()
        await asyncio.gather(subscriber, return_exceptions=True)
    if code:
        reason = (await complaints).decode(errors="replace").strip().splitlines()[-1:]
        raise FaultError(f"{name} failed: {' '.join(reason) or f'exit code {code}'}")
    return found


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    async for line in reader:
        with contextlib.suppress(ValueError):  # other programs also say other things
            parsed = json.loads(line)
            if isinstance(parsed, dict):
                yield parsed


async def _subscribe(url: str, found: Heard) -> None:
    """Takes down when each prediction is in the hands of a reader."""
    stream = EmotionStream(url, partial=True)
    async for message in stream.events():
        if isinstance(message, StatusMessage):
            if message.state == "offline":
                return
            continue
        late_s = (datetime.now(UTC) - message.ended_at).total_seconds()
        found.kinds[message.kind] += 1
        if message.kind == "final":
            end_s = message.end_ns / NS_PER_S
            found.deliveries.append(Delivery(end_s, end_s + late_s))
            for stage, ms in message.timings_ms.items():
                found.stages_ms.setdefault(stage, []).append(ms)


def cpu_s(pid: int) -> float | None:
    """CPU time of a process and of all that it started and that still run; None where `/proc` doesn't tell."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            # Its own time, and that of children which have ended.
            spent[int(stat.parent.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    if pid not in spent:
        return None
    mine = {pid}
    while more := {child for child, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(spent[each] for each in mine)


def _percentile(values: Sequence[float], q: int) -> float | None:
    return float(np.percentile(values, q)) if values else None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
