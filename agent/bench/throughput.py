"""`mer-agent bench throughput`: how much faster than real time the agent is, and what each stage costs.

Each run is a fresh process, so that its cold start and its peak memory are its own; the median run counts.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mer_agent.config.settings import MqttSettings, Settings
from mer_agent.errors import FaultError
from mer_agent.run import replay
from mer_agent.streams.engines import processors
from mer_agent.streams.replay import open_media
from mer_agent.terminal import report


def throughput(settings: Settings, media: Path, runs: int = 3) -> dict[str, Any]:
    """Measures `--replay media --speed max`.

    Returns:
        `ratio`: real-time factor, seconds of work for each second of sound; below 1 is faster than real time.
        Beside it `cold_start_s` (process start to ready), `peak_memory_mb`, `stage_share` (stage -> share of the sum
        of all stages' times), and every run by itself.

    Raises:
        MediaError: the recording can't be played.
        FaultError: a run failed.
    """
    open_media(media)  # what can't be played is said here, not three processes later
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
        "cores": processors(),
        "runs": measured,
    }


def _measure(settings: Settings, media: Path) -> dict[str, Any]:
    begun = time.monotonic()
    done = subprocess.run(  # noqa: S603  # this very program
        [sys.executable, "-m", "mer_agent.bench.throughput", str(media)],
        input=settings.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:]
        raise FaultError(f"a run of {media.name} failed: {' '.join(reason) or f'exit code {done.returncode}'}")
    run: dict[str, Any] = json.loads(done.stdout)
    run["cold_start_s"] = run.pop("ready_at_s") - begun
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
        "peak_memory_mb": _peak_memory_mb(),
    }


def _peak_memory_mb() -> float:
    import resource  # not on Windows, where this bench doesn't run

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)  # macOS counts in bytes, Linux in KiB


def _main() -> int:
    """One run, for `_measure`: settings on standard input, figures on standard output."""
    try:
        figures = asyncio.run(_run(Settings.model_validate_json(sys.stdin.read()), Path(sys.argv[1])))
    except Exception as error:
        return report(error)
    sys.stdout.write(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
