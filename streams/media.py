"""What is in one media file, and its pictures; `sound.py` gives its sound. Both are on the container's own time.

Whatever FFmpeg reads can be read (by PyAV, which carries FFmpeg with it). A file that can't be used at
all is a `MediaError` before anything plays. Damage further in is skipped, counted in `Damage`, and marked as a
discontinuity in the sound.
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_agent.errors import MediaError, MissingExtraError
from mer_agent.streams.types import NS_PER_S, VideoFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_SIDE_PX = 640
"""Larger pictures are scaled down to this; a face is found in it well enough, and memory stays small."""

_TRIES = 100
"""Damaged packets in a row after which a stream is given up."""
_NOT_MEDIA = "is not media that can be read, or is damaged from the start"


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The sound of a file as it is stored."""

    codec: str
    rate_hz: int
    channels: int


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The pictures of a file as they are stored. `rate_hz` is 0 when the file doesn't say."""

    codec: str
    width: int
    height: int
    rate_hz: float


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a media file holds. `duration_ns` is what its header says, None when it says nothing."""

    path: Path
    duration_ns: int | None
    audio: AudioInfo | None
    video: VideoInfo | None


@dataclass(slots=True)
class Damage:
    """What was wrong with a recording that could be used all the same."""

    packets: int = 0
    """Damaged packets that were skipped."""
    gaps: int = 0
    """Places where sound is missing, or where the time stamps start again."""
    not_finite: int = 0
    """Samples that were NaN or infinite and became silence."""
    missing_ns: int = 0
    """How much sooner the sound ends than the header says."""

    def lines(self) -> list[str]:
        """One line for each kind of damage, for people."""
        found = (
            (self.packets, f"damaged packets skipped: {self.packets}"),
            (self.gaps, f"gaps in the sound: {self.gaps}"),
            (self.not_finite, f"samples that are no numbers, taken as silence: {self.not_finite}"),
            (self.missing_ns, f"ends {self.missing_ns / NS_PER_S:.1f} s sooner than its header says"),
        )
        return [line for count, line in found if count]


def probe(path: Path) -> FileInfo:
    """Says what a media file holds, after decoding the first of its sound.

    Raises:
        MediaError: the file is missing, is not media, is damaged from the start, or can't be read.
    """
    with opened(path) as container:
        audio = video = None
        if (stream := audio_stream(container)) is not None:
            if next(decoded(container, stream, Damage()), None) is None:
                raise MediaError(f"{path}: its sound is empty or damaged from the start")
            audio = AudioInfo(stream.codec_context.name, stream.rate, stream.channels)
        if (stream := _video_stream(container)) is not None:
            context = stream.codec_context
            video = VideoInfo(context.name, context.width, context.height, float(stream.average_rate or 0))
        if audio is None and video is None:
            raise MediaError(f"{path}: {_NOT_MEDIA}")
        duration_ns = None if container.duration is None else container.duration * 1000
        return FileInfo(path, duration_ns, audio, video)


def video_frames(
    path: Path,
    *,
    start_ns: int = 0,
    source: str = "video-0",
    rate_hz: float | None = None,
    damage: Damage | None = None,
) -> Generator[VideoFrame, None, None]:
    """Gives the pictures of a file as RGB, at most `rate_hz` of them a second, at most 640 pixels wide or high.

    Args:
        path: the file.
        start_ns: session time of the file's own time 0.
        source: name for the frames.
        rate_hz: keep only the first picture in each 1 / rate_hz; None keeps all.
        damage: is filled in while the pictures are read.

    Raises:
        MediaError: the file can't be opened or holds no pictures.
    """
    with opened(path) as container:
        stream = _video_stream(container)
        if stream is None:
            raise MediaError(f"{path}: holds no pictures")
        stream.thread_type = "NONE"  # sound and words need the cores more
        origin_ns, sequence, last_slot, last_ns = zero_ns(container), 0, None, None
        for frame in decoded(container, stream, damage if damage is not None else Damage()):
            if frame.pts is None:
                continue  # a picture without a time belongs to no utterance
            at_ns = stamp_ns(frame) - origin_ns
            if last_ns is not None and at_ns <= last_ns:
                continue
            # In session time, as a camera counts: a recording of its pictures then keeps them all.
            slot = None if rate_hz is None else int((start_ns + at_ns) * rate_hz // NS_PER_S)
            if slot is not None and slot == last_slot:
                continue
            last_slot, last_ns = slot, at_ns
            yield VideoFrame(rgb(frame), start_ns + at_ns, sequence, source)
            sequence += 1


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open container; whatever goes wrong on the way is one clear line."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading media needs PyAV: pip install 'mer-agent[agent]'") from error
    check_exists(path)
    if not path.is_file():
        raise MediaError(f"{path}: not a regular file")
    try:
        # A playlist could name other files or the network: only this one file may be read.
        container = av.open(str(path.resolve()), options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except PermissionError as error:
        raise MediaError(f"{path}: may not be read; check its permissions") from error
    except (av.FFmpegError, ValueError, OSError) as error:
        what = "is empty" if path.stat().st_size == 0 else _NOT_MEDIA
        raise MediaError(f"{path}: {what}") from error
    with container:
        yield container


def check_exists(path: Path) -> None:
    """Raises a `MediaError` that names similar files when there is nothing at `path`."""
    try:
        if path.exists():
            return
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        raise MediaError(f"{path}: may not be read; check its permissions") from error
    similar = difflib.get_close_matches(path.name, near, n=3)
    hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
    raise MediaError(f"{path}: no such file or folder{hint}")


def audio_stream(container: Any) -> Any:
    """The stream of sound that a player would choose, or None."""
    return _decodable(container.streams.best("audio"))


def _video_stream(container: Any) -> Any:
    """The stream of pictures that a player would choose, or None."""
    from av.stream import Disposition

    stream = _decodable(container.streams.best("video"))
    # The cover picture of a song is stored as a video stream too.
    return None if stream is None or Disposition.attached_pic in stream.disposition else stream


def _decodable(stream: Any) -> Any:
    """The stream, or None when there is none or nobody knows its codec."""
    return None if stream is None or stream.codec_context is None else stream


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """Gives the frames of one stream; what can't be decoded is skipped and counted."""
    import av

    failed = 0  # in a row
    packets = container.demux(stream)
    while failed < _TRIES:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.EOFError:
            return
        except av.FFmpegError:
            failed += 1
            damage.packets += 1
            packets = container.demux(stream)  # an iterator that raised is used up; the file goes on where it was
            continue
        if frames:
            failed = 0
        yield from frames


def rgb(frame: Any) -> NDArray[np.uint8]:
    """The picture upright in RGB, uint8 [height, width, 3], scaled down where it is large."""
    scale = min(1.0, LONGEST_SIDE_PX / max(frame.width, frame.height))
    size = {"width": max(1, round(frame.width * scale)), "height": max(1, round(frame.height * scale))}
    image: NDArray[np.uint8] = frame.reformat(**size, format="rgb24").to_ndarray()
    turns = round(frame.rotation / 90) % 4  # a phone films sideways and says so
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def zero_ns(container: Any) -> int:
    """The container's own time 0: where the earliest of its streams begins."""
    return int(container.start_time or 0) * 1000


def stamp_ns(frame: Any) -> int:
    """The container's time of a decoded frame."""
    base: Fraction = frame.time_base
    return int(frame.pts * NS_PER_S * base.numerator // base.denominator)
