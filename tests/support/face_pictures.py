"""Pictures of a real face for tests: the catalogue's sample video, a man in a car, 176x144."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from support import needs

from mer_agent.streams.media import video_frames
from mer_agent.streams.types import NS_PER_S, VideoFrame

Picture = NDArray[np.uint8]


@functools.cache
def sample_frames() -> tuple[VideoFrame, ...]:
    """Ten pictures a second of the sample video, forty of them."""
    return tuple(video_frames(needs.weights("sample-face") / "carphone_pristine.mp4", rate_hz=10))


def sample() -> Picture:
    """One picture with one face, 144x176."""
    return sample_frames()[0].image


def scaled(picture: Picture, width: int, height: int) -> Picture:
    """The picture in another size, each pixel the nearest one."""
    rows = (np.arange(height) + 0.5) * picture.shape[0] / height
    columns = (np.arange(width) + 0.5) * picture.shape[1] / width
    return np.ascontiguousarray(picture[rows.astype(int)][:, columns.astype(int)])


def video(*pictures: Picture, rate_hz: float = 10.0) -> list[VideoFrame]:
    """Frames of one camera."""
    return [VideoFrame(picture, round(n * NS_PER_S / rate_hz), n) for n, picture in enumerate(pictures)]
