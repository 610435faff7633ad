"""`mer-agent bench throughput`: how much faster than real time the agent is, and what each stage costs.

Each run is a fresh process, so that its cold start and its peak memory are its own; the median run counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mer_agent.config.settings import MqttSettings, Settings
from mer_agent.errors import FaultError
from mer_agent.run import replay


def throughput(settings: Settings, media: Path, runs: int = 3) -> dict[str, Any]:
    """Measures `--replay media --speed max`.

    Returns:
        `ratio`: real-time factor, seconds of work for each second of sound; below 1 is faster than real time.
        Beside it `cold_start_s` (process start to ready), `peak_memory_mb`, `stage_share` (stage -> share of the sum
        of all stages' times), and every run by itself.

    Raises:
        FaultError: a run failed.
    """
    # A broker of its own: a remote one would be measured, too, and a password doesn't travel to another process.
    settings = settings.model_copy(update={"mqtt": MqttSettings()})
    measured = [_measure(settings, media) for _ in range(runs)]
    middle = sorted(measured, key=lambda run: run["ratio"])[len(measured) // 2]
    return {
        "ratio": middle["ratio"],
        "cold_start_s": statistics.median(run["cold_start_s"] for run in measured),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in measured),
        "stage_share": middle["stage_share"],
        "utterances": middle["utterances"],
        "media_s": middle["media_s"],
        "words": settings.transcriber.weights,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "runs": measured,
    }


def _measure(settings: Settings, media: Path) -> dict[str, Any]:
    begun = time.monotonic()
    process = subprocess.Popen(  # noqa: S603  # this very program
        [sys.executable, "-m", "mer_agent.bench", str(media)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None  # noqa: S101  # a pipe
    assert process.stdout is not None  # noqa: S101  # a pipe
    with process.stdin as settings_pipe:
        settings_pipe.write(settings.model_dump_json())
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise FaultError(f"a run of {media.name} failed with exit code {process.returncode}")
    run: dict[str, Any] = json.loads(printed)
    run["cold_start_s"] = run.pop("ready_at_s") - begun
    # Linux counts in KiB, macOS in bytes.
    run["peak_memory_mb"] = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    return run


async def _run(settings: Settings, media: Path) -> dict[str, Any]:
    ready: list[float] = []
    summary = await replay(settings, media, real_time=False, ready=lambda: ready.append(time.monotonic()))
    stages = {stage: ms for stage, ms in summary.stages_ms.items() if stage != "endpoint"}
    total = sum(stages.values())
    return {
        "ratio": summary.work_s / summary.media_s,
        "work_s": summary.work_s,
        "media_s": summary.media_s,
        "utterances": summary.utterances,
        "stage_share": {stage: ms / total for stage, ms in stages.items()},
        "ready_at_s": ready[0],
    }


if __name__ == "__main__":
    result = asyncio.run(_run(Settings.model_validate_json(sys.stdin.read()), Path(sys.argv[1])))
    sys.stdout.write(json.dumps(result))
