"""Writes what the agent hears and sees, and what it makes of it, as a session folder (`session`) while it goes on.

    take, see, spoken, judged -> a bounded queue -> one thread -> audio-N.flac, video-N.mkv, *.jsonl

Sound has 24 bits, to which it is rounded before anybody hears it: a recogniser may find another word where a sample
differs in its last bit. Likewise a picture loses what VP9 loses before anybody looks at it: whatever the compression, a
face would be cut out a little elsewhere. Where the samples lie in time is written beside them. Whatever is finished (a
quarter of a second of sound, a second of pictures, a line) goes to the operating system at once: a process that is
killed loses no more than that. A disk that is full, or nearly, ends the recording and nothing else.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TextIO, TypeVar

import numpy as np

from mer_agent.errors import FaultError, InputError
from mer_agent.streams.media import rgb
from mer_agent.streams.session import (
    PREDICTIONS,
    WORDS,
    Anchor,
    Manifest,
    Recorded,
    Spoken,
    clock_file,
    write_session,
)
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk, VideoFrame

log = logging.getLogger(__name__)

Captured = TypeVar("Captured", AudioChunk, VideoFrame, AudioChunk | VideoFrame)

State = Literal["recording", "stopped"]

NEEDED_BYTES = 256 * 2**20
"""Room that must be on the disk to begin: more than an hour of sound, or of pictures."""
SPARE_BYTES = 64 * 2**20
"""Room that is left to others: a recording ends here."""
WAITING = 256
"""Chunks and pictures that may wait for the disk, six seconds; later ones are left out, and the gap is marked."""
_LOOK_S = 2.0
"""How often the disk's room is looked at."""
_CLOSE_S = 2.0
_PLAYABLE_MS = 2000
"""From here on the first pictures are surely on the disk."""
_NS_PER_MS = 1_000_000
_FULL = 2.0**23
"""Of 24 bits; float32 holds them all."""


class Recorder:
    """A recording that goes on. Its methods return at once and may be called until it is closed.

    Args:
        folder: is made; must hold nothing yet.
        manifest: of what is known before anything was heard.
        report: takes "recording", and "stopped" if it has to end early; from any thread.

    Attributes:
        lost: chunks and pictures that were left out because writing was too slow.

    Raises:
        InputError: the folder can't be made, isn't empty, or its disk has no room.
    """

    def __init__(self, folder: Path, manifest: Manifest, report: Callable[[State], None] = lambda state: None) -> None:
        self.lost = 0
        self._folder = prepare(folder)
        self._manifest = manifest
        self._report = report
        self._files: dict[str, _Sound | _Pictures] = {}
        self._words: dict[str, Spoken] = {}
        self._lines: dict[str, TextIO] = {}
        self._queue = SimpleQueue[Callable[[], None] | None]()
        self._stopped = False
        self._looked_s = time.monotonic()
        self._last_ns = 0
        write_session(folder, manifest)
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()
        report("recording")

    def take(self, captured: Captured) -> Captured:
        """Takes sound, and gives it as it will be replayed, bit for bit; or a picture that nobody looks at (`see`)."""
        if isinstance(captured, AudioChunk):
            samples = np.round(captured.samples.astype(np.float64) * _FULL).clip(-_FULL, _FULL - 1) / _FULL
            captured = replace(captured, samples=samples.astype(np.float32))
        item = captured
        if self._has_room():
            self._queue.put(lambda: self._add(item))
        return captured

    def see(self, picture: VideoFrame) -> VideoFrame:
        """Takes a picture and gives it as it will be replayed, bit for bit; takes some milliseconds, so not on a loop.

        A picture that isn't recorded any more comes back as it is.
        """
        if self._stopped or not self._has_room():
            return picture
        try:
            file = self._files.get(picture.source)
            if not isinstance(file, _Pictures):
                file = self._files[picture.source] = _Pictures(self._folder, picture)
            packets = file.encode(picture)
            kept = file.decode(packets, picture)
        except Exception as error:
            self._queue.put(partial(self._give_up, error))
            return picture
        self._queue.put(lambda: self._store(file, packets))
        return kept

    def judged(self, line: str) -> None:
        """Takes a prediction, as a line of JSON."""
        self._queue.put(lambda: self._line(PREDICTIONS, line))

    def spoken(self, utterance_id: str, spoken: Spoken) -> None:
        """Takes the words of an utterance; later ones replace those before when the recording is closed."""

        def write() -> None:
            if self._words.get(utterance_id) != spoken:
                self._words[utterance_id] = spoken
                self._line(WORDS, spoken.to_json())

        self._queue.put(write)

    def close(self) -> None:
        """Finishes the files; waits for them for two seconds at most."""
        self._queue.put(None)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            log.warning("recording: writing is too slow to finish %s; it can be replayed all the same", self._folder)

    def _has_room(self) -> bool:
        """Whether one more chunk or picture may wait; counts those that may not."""
        if self._queue.qsize() < WAITING:
            return True
        if not self.lost:
            log.warning("recording: writing is too slow; some sound or pictures are left out")
        self.lost += 1
        return False

    def _write(self) -> None:
        """Writes what comes; the body of the thread."""
        while (step := self._queue.get()) is not None:
            if self._stopped:
                continue
            try:
                self._look_for_room()
                step()
            except Exception as error:  # PyAV has errors of many kinds, and none may end more than the recording
                self._give_up(error)
        if not self._stopped:
            try:
                self._finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._stopped = True
        reason = getattr(error, "strerror", None) or (str(error) if isinstance(error, FaultError) else repr(error))
        log.error("recording: stopped (%s); what is in %s can be replayed, the agent goes on", reason, self._folder)
        for file in [*self._files.values(), *self._lines.values()]:
            try:
                file.close()
            except Exception as again:
                log.debug("recording: %r", again)
        self._report("stopped")

    def _finish(self) -> None:
        for file in (*self._files.values(), *self._lines.values()):
            file.close()
        for recorded in self._files.values():
            self._list(recorded)
        words = sorted(self._words.values(), key=lambda spoken: spoken.start_ns)
        self._manifest = self._manifest.model_copy(update={"ended_ns": self._last_ns})
        write_session(self._folder, self._manifest, words)

    def _look_for_room(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        if shutil.disk_usage(self._folder).free < SPARE_BYTES:
            raise FaultError("the disk is full")

    def _line(self, name: str, line: str) -> None:
        if name not in self._lines:
            self._lines[name] = (self._folder / name).open("a", encoding="utf-8")
        self._lines[name].write(line + "\n")
        self._lines[name].flush()

    def _add(self, captured: AudioChunk | VideoFrame) -> None:
        file = self._files.get(captured.source)
        if isinstance(captured, AudioChunk):
            if file is None and not len(captured.samples):
                return  # gone before it was ever heard
            file = file or _Sound(self._folder, captured)
            self._last_ns = max(self._last_ns, captured.end_ns)
        else:
            file = file or _Pictures(self._folder, captured)
        self._files[captured.source] = file
        self._store(file, file.encode(captured))  # type: ignore[arg-type]  # a source gives either sound or pictures

    def _store(self, file: _Sound | _Pictures, packets: Any) -> None:
        file.write(packets)
        if self._list(file):
            write_session(self._folder, self._manifest)

    def _list(self, file: _Sound | _Pictures) -> bool:
        """Names a file in the manifest once it can be played; says whether it is new there."""
        recorded = Recorded(file=file.name, start_ns=file.start_ns)
        known: tuple[Recorded, ...] = getattr(self._manifest, file.kind)
        if not file.playable or recorded in known:
            return False
        listed = sorted((*known, recorded), key=lambda one: one.file)
        self._manifest = self._manifest.model_copy(update={file.kind: tuple(listed)})
        return True


class _Sound:
    """One microphone's file: its samples one after the other, and beside it where they lie in time."""

    kind = "audio"

    def __init__(self, folder: Path, first: AudioChunk) -> None:
        import av  # takes a quarter of a second, so not before it is needed

        self.name = f"{first.source}.flac"
        self.start_ns = max(0, first.start_ns)
        self.playable = False
        self._frame = av.AudioFrame
        self._clock = (folder / clock_file(first.source)).open("w", encoding="utf-8")
        self._container: Any = av.open(str(folder / self.name), "w", options={"flush_packets": "1"})
        self._stream: Any = self._container.add_stream("flac", rate=SAMPLE_RATE_HZ, format="s32", layout="mono")
        self._samples = 0
        self._next = first.sequence
        self._anchor: Anchor | None = None

    def encode(self, chunk: AudioChunk) -> Any:
        """Gives what is to be appended for a chunk; one without samples says that the microphone has gone."""
        if not len(chunk.samples):
            self._note(Anchor(sample=self._samples, at_ns=chunk.start_ns, gone=True))
            return []
        broken = self._anchor is not None and (chunk.discontinuity or chunk.sequence != self._next)
        self._next = chunk.sequence + 1
        if self._anchor is None or broken or chunk.start_ns != self._expected_ns():
            self._anchor = Anchor(sample=self._samples, at_ns=max(0, chunk.start_ns), broken=broken)
            self._note(self._anchor)
        # FFmpeg's FLAC takes the upper 24 of 32 bits; `take` has left no others.
        whole = (chunk.samples.astype(np.float64) * _FULL).astype(np.int32) << 8
        frame = self._frame.from_ndarray(whole[None], format="s32", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, self._samples
        self._samples += len(whole)
        return self._stream.encode(frame)

    def write(self, packets: Any) -> None:
        """Appends what was encoded."""
        self._container.mux(packets)
        self.playable = self.playable or bool(packets)

    def close(self) -> None:
        """Finishes the file."""
        try:
            self.write(self._stream.encode(None))
        finally:
            self._container.close()
            self._clock.close()

    def _expected_ns(self) -> int:
        assert self._anchor is not None  # noqa: S101
        return self._anchor.at_ns + (self._samples - self._anchor.sample) * NS_PER_S // SAMPLE_RATE_HZ

    def _note(self, anchor: Anchor) -> None:
        self._clock.write(anchor.model_dump_json(exclude_defaults=True) + "\n")
        self._clock.flush()


class _Pictures:
    """One camera's file: VP9, quickly made, stamped to the millisecond; one thread may encode while another writes."""

    kind = "video"

    def __init__(self, folder: Path, first: VideoFrame) -> None:
        import av

        self.name = f"{first.source}.mkv"
        self.start_ns = first.captured_ns // _NS_PER_MS * _NS_PER_MS
        self.playable = False
        self._frame = av.VideoFrame
        # A cluster is written when it is full: that is what a crash loses.
        options = {"flush_packets": "1", "cluster_time_limit": "1000"}
        self._container: Any = av.open(str(folder / self.name), "w", options=options)
        speed = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "crf": "28", "b": "0", "g": "50"}
        self._stream: Any = self._container.add_stream("libvpx-vp9", rate=1000, options=speed)
        self._stream.height, self._stream.width = first.image.shape[:2]
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._decoder: Any = av.CodecContext.create("vp9", "r")
        self._decoder.thread_count = 1
        self._encoding = threading.Lock()
        self._closed = False
        self._at_ms = -1

    def encode(self, picture: VideoFrame) -> Any:
        """Gives what is to be appended for a picture, in the size of the first one."""
        at_ms = (picture.captured_ns - self.start_ns) // _NS_PER_MS
        frame = self._frame.from_ndarray(picture.image, format="rgb24")
        frame = frame.reformat(width=self._stream.width, height=self._stream.height, format="yuv420p")
        with self._encoding:
            if self._closed or at_ms <= self._at_ms:
                return []
            self._at_ms = frame.pts = at_ms
            frame.time_base = Fraction(1, 1000)
            return self._stream.encode(frame)

    def decode(self, packets: Any, picture: VideoFrame) -> VideoFrame:
        """Gives the picture as its packets show it, which are those of all pictures so far, one after the other."""
        shown = [frame for packet in packets for frame in self._decoder.decode(packet)]
        if not shown:
            return picture
        return replace(picture, image=rgb(shown[-1]), captured_ns=self.start_ns + self._at_ms * _NS_PER_MS)

    def write(self, packets: Any) -> None:
        """Appends what was encoded."""
        self._container.mux(packets)
        self.playable = self._at_ms > _PLAYABLE_MS

    def close(self) -> None:
        """Finishes the file."""
        try:
            with self._encoding:
                self._closed = True
                self._container.mux(self._stream.encode(None))
            self.playable = True
        finally:
            self._container.close()


def prepare(folder: Path) -> Path:
    """Gives the folder, made, empty and with room on its disk.

    Raises:
        InputError: it isn't.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it will hold faces and voices
        if any(folder.iterdir()):
            raise InputError(f"--record {folder}: isn't empty; name a new folder")
        free = shutil.disk_usage(folder).free
        probe = folder / "probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"--record {folder}: can't be written ({error.strerror})") from error
    if free < NEEDED_BYTES:
        raise InputError(
            f"--record {folder}: its disk has room for {free >> 20} MB only; {NEEDED_BYTES >> 20} are needed"
        )
    return folder
