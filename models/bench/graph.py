"""What an utterance costs in graph and fusion, early and late in a conversation: it should cost the same."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mer_agent.models.registry import LiveModel
from mer_agent.models.stream import Stream


def bench(
    model: LiveModel,
    lengths: Sequence[int] = (10, 1_000, 100_000),
    *,
    repeats: int = 400,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Measures the time of one `append` after `lengths` utterances of one conversation.

    The conversation is really walked, append by append. At each length it is copied whole, and in the end every copy
    takes one more utterance, over and over, each time from a fresh copy; the lengths take turns, so that whatever
    else the machine does meets them alike.

    Times are this thread's own CPU time, on one torch thread, so that other programs don't count.

    Returns:
        `ratio`: median time at the last length over that at the first (1 = flat); `median_us` and `p95_us` by length;
        and how long the walk took.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _bench(model, lengths, repeats, progress)
    finally:
        torch.set_num_threads(threads)


def _bench(
    model: LiveModel, lengths: Sequence[int], repeats: int, progress: Callable[[int], None] | None
) -> dict[str, Any]:
    torch.manual_seed(0)
    turns = [{spec.id: torch.randn(spec.dimension) for spec in model.specs} for _ in range(64)]
    stream = model.stream()
    copies: dict[int, Stream] = {}
    started = time.perf_counter()
    for number in range(max(lengths) + 1):
        if number in lengths:
            copies[number] = _copy(stream)
        if number < max(lengths):
            stream.append(f"u{number}", number % 2, turns[number % len(turns)])
        if progress and number % 1000 == 0:
            progress(number)
    walked_s = time.perf_counter() - started
    times_ns: dict[int, list[int]] = {length: [] for length in lengths}
    for repeat in range(repeats):
        order = list(lengths) if repeat % 2 else list(reversed(lengths))
        for length in order:
            fresh = _copy(copies[length])
            fresh.preview(0, turns[0])  # warms the caches that copying has emptied
            before = time.thread_time_ns()
            fresh.append("next", repeat % 2, turns[repeat % len(turns)])
            times_ns[length].append(time.thread_time_ns() - before)
    median_us = {length: statistics.median(times) / 1e3 for length, times in times_ns.items()}
    return {
        "ratio": round(median_us[max(lengths)] / median_us[min(lengths)], 4),
        "median_us": {str(k): round(v, 1) for k, v in median_us.items()},
        "p95_us": {str(k): round(sorted(v)[int(0.95 * len(v))] / 1e3, 1) for k, v in times_ns.items()},
        "repeats": repeats,
        "walked_s": round(walked_s, 1),
        "walked_us_per_utterance": round(walked_s / max(lengths) * 1e6, 1),
    }


def _copy(stream: Stream) -> Stream:
    """Gives a copy of all that a stream holds, beside the model that it shares."""
    parts = [stream._model, *stream._graphs._rounds]
    return copy.deepcopy(stream, {id(part): part for part in parts})
