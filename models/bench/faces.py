"""What faces cost: decoding a picture, finding faces in it or following them, cutting them out, encoding a crop.

Times are this thread's own CPU time, on one thread, so that other programs don't count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mer_agent.encoders import weights
from mer_agent.encoders.densenet import DenseNet, DenseShape, normalise
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.media import probe, video_frames
from mer_agent.streams.types import VideoFrame

EMOTIONS = 8


def bench(media: Path, rate_hz: float = 10.0) -> dict[str, Any]:
    """Measures the way of faces through the agent on a real recording.

    The network is a fresh one of the shipped size: what it costs doesn't depend on what it has learned.

    Args:
        media: a video with faces.
        rate_hz: pictures looked at in a second.

    Returns:
        `decode_ms` for each picture looked at, whatever had to be decoded for it; `detect_ms`, a picture in which
        faces were looked for; `follow_ms`, one in which they were followed, crops included; `encode_ms` for each crop
        alone and `encode_batch_ms` for each in a batch; `ratio`, the share of one core that one face takes in all.

    Raises:
        MediaError: the file can't be read or holds no pictures.
        WeightsError: the detector is not pulled.
    """
    info = probe(media).video
    with _one_thread():
        begun = time.thread_time_ns()
        frames = list(video_frames(media, rate_hz=rate_hz))
        decode_ms = (time.thread_time_ns() - begun) / 1e6 / max(len(frames), 1)
        yunet = weights.path("yunet")
        detecting, seen = _watch(FaceWatcher(yunet, detect_every_s=0.0), frames)
        following, _ = _watch(FaceWatcher(yunet, detect_every_s=1e9), frames)
        working, _ = _watch(FaceWatcher(yunet), frames)
        single_ms, batch_ms = _encode(seen)
    faces = statistics.fmean(len(frame.faces or ()) for frame in seen)
    share = rate_hz * (decode_ms + statistics.fmean(working) + batch_ms) / 1000
    return {
        "picture": f"{info.width}x{info.height}" if info else None,
        "pictures": len(frames),
        "rate_hz": rate_hz,
        "faces_each": round(faces, 2),
        "decode_ms": round(decode_ms, 2),
        "detect_ms": round(statistics.median(detecting), 2),
        "follow_ms": round(statistics.median(following), 2),
        "look_ms": round(statistics.fmean(working), 2),
        "encode_ms": round(single_ms, 2),
        "encode_batch_ms": round(batch_ms, 2),
        "ratio": round(share, 3),
    }


def _watch(watcher: FaceWatcher, frames: list[VideoFrame]) -> tuple[list[float], list[VideoFrame]]:
    """Gives the milliseconds of each picture, and the pictures with their faces."""
    times_ms, seen = [], []
    for frame in frames:
        begun = time.thread_time_ns()
        seen.append(watcher.see(frame))
        times_ms.append((time.thread_time_ns() - begun) / 1e6)
    return times_ms, seen


@torch.inference_mode()
def _encode(frames: list[VideoFrame], batch: int = 32, repeats: int = 5) -> tuple[float, float]:
    """Gives the milliseconds of a crop alone, and in a batch."""
    crops = [face.crop for frame in frames for face in frame.faces or ()] or [np.zeros((48, 48), np.uint8)]
    network = DenseNet(EMOTIONS, DenseShape()).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    some = torch.from_numpy(np.stack((crops * batch)[:batch])).unsqueeze(1)
    each_ms = []
    for size in (1, batch):
        network.features(normalise(some[:size]))
        begun = time.thread_time_ns()
        for _ in range(repeats):
            network.features(normalise(some[:size]))
        each_ms.append((time.thread_time_ns() - begun) / 1e6 / repeats / size)
    return each_ms[0], each_ms[1]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
