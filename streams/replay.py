"""Plays a recording as if it were captured now: a media file, or a recorded session folder.

At real speed each chunk of sound is handed over when the clock has passed its end, and each picture when the clock has
reached it. At full speed they go as fast as the mailboxes take them, and the virtual clock shows media time. Stamps are
media time and items come in the same order either way, so every speed gives the same utterances.

To keep sound and pictures in exactly that order up to the consumer, give `run` one mailbox for both.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from mer_agent.errors import MediaError
from mer_agent.streams.clock import SessionClock, VirtualClock
from mer_agent.streams.mailbox import MailboxClosedError, Sink
from mer_agent.streams.media import Damage, FileInfo, check_exists, probe, video_frames
from mer_agent.streams.session import Anchor, read_clock, read_manifest
from mer_agent.streams.sound import anchored_chunks, audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk, VideoFrame

log = logging.getLogger(__name__)

_BATCH = 16
"""Items decoded at once: a third of a second. Two such batches are in memory at most."""


@dataclass(frozen=True, slots=True)
class Track:
    """One stream of a recording: a source of sound or of pictures."""

    source: str
    file: FileInfo
    start_ns: int = 0
    """Session time of the file's own time 0."""
    anchors: tuple[Anchor, ...] = ()
    """Where sound lies in time, if that is known more closely."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What can be replayed. Several sources of sound stay apart; their chunks carry the source's name."""

    path: Path
    audio: tuple[Track, ...]
    video: tuple[Track, ...]
    duration_ns: int | None
    """When the last of the sound ends, as far as the headers say."""
    started_at: datetime
    """Wall-clock time of the recording; 1970 where nobody knows it, so that two replays are alike."""
    language: str | None = None
    speakers: Mapping[str, str | None] = field(default_factory=dict)
    """Source of sound -> name of the one speaker that it is of; empty where voices have to be told apart."""


def open_media(path: Path | str) -> Recording:
    """Says what a media file or session folder holds, having made sure that it can be played.

    Raises:
        MediaError: missing (names similar files), not media, damaged from the start, or without sound.
    """
    path = Path(path)
    check_exists(path)
    if path.is_dir():
        manifest = read_manifest(path)
        audio = tuple(
            Track(a.source, _with_sound(path / a.file), a.start_ns, tuple(read_clock(path, a.source)))
            for a in manifest.audio
        )
        video = tuple(Track(v.source, _with_pictures(path / v.file), v.start_ns) for v in manifest.video)
        started_at, language, speakers = manifest.started_at, manifest.language, manifest.speakers
    else:
        file = _with_sound(path)
        audio = (Track("audio-0", file),)
        video = (Track("video-0", file),) if file.video else ()
        started_at, language = datetime.fromtimestamp(0, UTC), None
        speakers = {}
    ends = [end_ns for track in audio if (end_ns := _end_ns(track)) is not None]
    return Recording(path, audio, video, max(ends, default=None), started_at, language, speakers)


class ReplaySource:
    """A recording as a source of sound and pictures.

    Args:
        path: a media file or a session folder.
        clock: session time. For real speed it must start (show 0) when `run` does.
        speed: 1.0, real speed, or `math.inf`, as fast as the mailboxes take it (with a `VirtualClock`).
        video_rate_hz: at most so many pictures a second; None for all.

    Raises:
        MediaError: see `open_media`.
        ValueError: another speed, or full speed with a clock that can't be moved.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: SessionClock,
        speed: float = 1.0,
        video_rate_hz: float | None = 5.0,
    ) -> None:
        if speed not in (1.0, math.inf):
            raise ValueError(f"speed is 1.0 or infinite, not {speed}")
        self._media_time: VirtualClock | None = None
        if speed == math.inf:
            if not isinstance(clock, VirtualClock):
                raise ValueError("full speed needs a VirtualClock: it shows media time")
            self._media_time = clock
        self.recording = open_media(path)
        self._clock = clock
        self._video_rate_hz = video_rate_hz
        self._damage: dict[str, Damage] = {}

    @property
    def degradations(self) -> list[str]:
        """What was wrong with the recording so far, one line for each thing; complete once `run` has returned."""
        return [f"{source}: {line}" for source, damage in self._damage.items() for line in damage.lines()]

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        """Plays the recording once, then closes the mailboxes; without `video` no picture is decoded.

        It ends early, without an error, when somebody closes the mailboxes: that is how to stop it.
        """
        loop = asyncio.get_running_loop()
        items = self._items(with_video=video is not None)
        decoder = ThreadPoolExecutor(1, thread_name_prefix="replay")
        ready = loop.run_in_executor(decoder, _batch, items)
        try:
            while batch := await ready:
                ready = loop.run_in_executor(decoder, _batch, items)  # decode ahead while these are handed over
                for item in batch:
                    await self._wait(_due_ns(item))
                    if isinstance(item, AudioChunk):
                        await audio.put(item)
                    elif video is not None:
                        await video.put(item)
        except MailboxClosedError:
            log.info("replay stopped before the end")
        finally:
            ready.cancel()
            decoder.submit(items.close)  # in its own thread, after what it is doing now: it owns the open files
            decoder.shutdown(wait=False)
            audio.close()
            if video is not None:
                video.close()
            for line in self.degradations:
                log.warning("recording damaged: %s", line)

    async def _wait(self, due_ns: int) -> None:
        """At real speed waits until the item would have been captured; at full speed says that it now is."""
        if self._media_time is not None:
            self._media_time.advance_to(due_ns)
        elif due_ns > self._clock.now_ns():
            await self._clock.sleep_until(due_ns)

    def _items(self, with_video: bool) -> Generator[AudioChunk | VideoFrame, None, None]:
        """All chunks and frames in the order in which they would have been captured."""
        streams: list[Generator[AudioChunk | VideoFrame, None, None]] = []
        for track in self.recording.audio:
            damage = self._damage[track.source] = Damage()
            path = track.file.path
            streams.append(
                anchored_chunks(path, track.anchors, source=track.source, damage=damage)
                if track.anchors
                else audio_chunks(path, start_ns=track.start_ns, source=track.source, damage=damage)
            )
        for track in self.recording.video if with_video else ():
            damage = self._damage[track.source] = Damage()
            path, rate_hz = track.file.path, self._video_rate_hz
            streams.append(
                video_frames(path, start_ns=track.start_ns, source=track.source, rate_hz=rate_hz, damage=damage)
            )
        # Each stream reads its file on its own. One reader for both would have to hold back pictures for as long as
        # a badly interleaved file keeps its sound from us.
        with ExitStack() as opened:
            for stream in streams:
                opened.enter_context(closing(stream))
            yield from heapq.merge(*streams, key=_due_ns)


def _batch(items: Iterator[AudioChunk | VideoFrame]) -> list[AudioChunk | VideoFrame]:
    return list(islice(items, _BATCH))


def _due_ns(item: AudioChunk | VideoFrame) -> int:
    """When all of it has been captured."""
    return item.end_ns if isinstance(item, AudioChunk) else item.captured_ns


def _end_ns(track: Track) -> int | None:
    """When a track of sound ends, as far as its header says."""
    if track.file.duration_ns is None:
        return None
    sounding = [anchor for anchor in track.anchors if not anchor.gone]
    last = sounding[-1] if sounding else Anchor(sample=0, at_ns=track.start_ns)
    return last.at_ns + max(0, track.file.duration_ns - last.sample * NS_PER_S // SAMPLE_RATE_HZ)


def _with_sound(path: Path) -> FileInfo:
    file = probe(path)
    if file.audio is None:
        raise MediaError(f"{path}: holds no sound, and without sound there is nothing to cut into utterances")
    return file


def _with_pictures(path: Path) -> FileInfo:
    file = probe(path)
    if file.video is None:
        raise MediaError(f"{path}: holds no pictures")
    return file
