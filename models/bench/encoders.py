"""`mer-agent bench encoders`: utterances a second of each encoder, one by one and in a batch, on the devices here.

An utterance is three seconds of made-up speech, twelve words, thirty pictures whose face was cut out already (that is
the watcher's work, `bench faces`), and what the recogniser heard of it (that is done when the words are found). What an
encoder computes depends on lengths, not on what is said.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mer_agent.encoders import base
from mer_agent.encoders.base import Encoder
from mer_agent.encoders.whisper_steps import RECOGNISER
from mer_agent.errors import WeightsError
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Face, Hearing, Transcript, Turn, Utterance, VideoFrame

SECONDS = 3
BATCH = 16
_REPEATS = 5
_TEXT = "I really did not expect to see you here so early today"
_PAST = (Turn(0, "Hello there."), Turn(1, "Oh, it is you again."))


def bench(say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measures every encoder whose weights are here.

    Returns:
        `ratio`: time of all encoders for one utterance on the CPU over its length; `encoders`: feature -> device ->
        `single_ms`, `single_per_s`, `batch_per_s`; the machine's name, threads, and what was left out.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    found: dict[str, dict[str, dict[str, float]]] = {}
    missing = []
    for feature in base.features():
        for device in devices:
            try:
                encoder = base.create(feature, device)
            except WeightsError as error:
                missing.append(feature)
                say(f"without {feature}: {error}")
                break
            found.setdefault(feature, {})[device] = measure(encoder)
            say(f"{feature} on {device}: {found[feature][device]['single_ms']:.1f} ms")
    return {
        "ratio": sum(of["cpu"]["single_ms"] for of in found.values()) / (SECONDS * 1000),
        "encoders": found,
        "missing": missing,
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "utterance_s": SECONDS,
        "batch": BATCH,
    }


def measure(encoder: Encoder) -> dict[str, float]:
    """Gives the median over some repeats."""
    _timed(encoder, _utterances(1))  # warm
    single_s = statistics.median(_timed(encoder, _utterances(1)) for _ in range(_REPEATS))
    batch_s = statistics.median(_timed(encoder, _utterances(BATCH)) for _ in range(3))
    return {
        "single_ms": round(single_s * 1000, 2),
        "single_per_s": round(1 / single_s, 1),
        "batch_per_s": round(BATCH / batch_s, 1),
    }


def machine() -> dict[str, str]:
    """Gives the names of processor and GPU."""
    cpu = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        lines = listed.read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return {"cpu": cpu} | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def _timed(encoder: Encoder, utterances: Sequence[Utterance]) -> float:
    begun = time.perf_counter()
    encoder.encode(utterances, [_PAST] * len(utterances))  # the result is on the CPU, so a GPU has ended, too
    return time.perf_counter() - begun


def _utterances(count: int) -> list[Utterance]:
    """New sound each time, so that nothing kept for an earlier call can be given back."""
    random = np.random.default_rng()
    at = np.arange(SECONDS * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    voice = sum(np.sin(2 * np.pi * 130 * k * at) / k for k in range(1, 20)) * (0.55 + 0.45 * np.sin(8 * np.pi * at))
    crops = random.integers(0, 256, (30, 48, 48), dtype=np.uint8)
    frames = tuple(
        VideoFrame(np.zeros((0, 0, 3), np.uint8), i * NS_PER_S // 10, i, faces=(Face(0, crop, (0.3,) * 4, 0.9, 0.1),))
        for i, crop in enumerate(crops)
    )
    heard = Hearing(RECOGNISER, random.standard_normal((SECONDS * 1000 // 80, 512), dtype=np.float32))
    return [
        Utterance(
            f"u{i}",
            0,
            0,
            SECONDS * NS_PER_S,
            audio=(0.1 * voice + 0.003 * random.standard_normal(len(at))).astype(np.float32),
            frames=frames,
            transcript=Transcript(_TEXT),
            hearing=heard,
        )
        for i in range(count)
    ]
