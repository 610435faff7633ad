"""Media files for tests, made on the spot with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def tone(seconds: float, rate: int = 16_000, hz: float = 440.0, level: float = 0.5) -> NDArray[np.float32]:
    """A sine, float32 [1, n]."""
    at = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * at)).astype(np.float32)[None]


def write_sound(
    path: Path, sound: NDArray[np.float32], rate: int = 16_000, codec: str = "pcm_f32le", start_s: float = 0.0
) -> Path:
    """Writes sound, float32 [channel, n]."""
    write_media(path, sound=sound, rate=rate, codec=codec, sound_start_s=start_s)
    return path


def write_media(
    path: Path,
    *,
    sound: NDArray[np.float32] | None = None,
    rate: int = 16_000,
    codec: str = "pcm_s16le",
    sound_start_s: float = 0.0,
    pictures: int | Sequence[NDArray[np.uint8]] = 0,
    picture_rate: int = 10,
    video_codec: str = "mpeg4",
    pixels: str | None = None,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
) -> Path:
    """Writes sound, pictures or both.

    Pictures are RGB and of one size; a number of them is as many grey ones of `size`, number n of brightness 10 * n
    modulo 250. `pixels` is FFmpeg's name of the format in which they are stored.
    """
    if isinstance(pictures, int):
        pictures = [np.full((size[1], size[0], 3), 10 * number % 250, np.uint8) for number in range(pictures)]
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if len(pictures):
            video = container.add_stream(video_codec, rate=picture_rate)
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = pixels or ("yuvj420p" if video_codec == "mjpeg" else "yuv420p")
        if sound is not None:
            audio = container.add_stream(codec, rate=rate, layout=LAYOUTS[len(sound)])
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, picture_rate)
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        if sound is not None and audio is not None:
            for at in range(0, sound.shape[1], 1024):
                packed = np.ascontiguousarray(sound[:, at : at + 1024].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=LAYOUTS[len(sound)])
                frame.sample_rate = rate
                frame.pts, frame.time_base = at + round(sound_start_s * rate), Fraction(1, rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path
