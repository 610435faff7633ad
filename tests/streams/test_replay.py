import asyncio
import json
import logging
import math
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.media_files import tone, write_media, write_sound

from mer_agent.errors import MediaError
from mer_agent.streams import replay
from mer_agent.streams.clock import RealClock, VirtualClock
from mer_agent.streams.mailbox import Mailbox
from mer_agent.streams.replay import ReplaySource, open_media
from mer_agent.streams.types import AudioChunk, VideoFrame

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"

Captured = AudioChunk | VideoFrame


async def play(source: ReplaySource, capacity: int = 4, with_video: bool = True) -> list[Captured]:
    """Everything that a source gives into one mailbox."""
    mailbox = Mailbox[Captured](capacity, "block")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(source.run(mailbox, mailbox if with_video else None))
        items = [item async for item in mailbox]
    assert mailbox.lost == 0
    return items


def times(items: list[Captured]) -> list[int]:
    return [item.end_ns if isinstance(item, AudioChunk) else item.captured_ns for item in items]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_media(tmp_path / "film.mkv", sound=tone(2.0), codec="flac", pictures=20, sound_start_s=0.3)


async def test_sound_and_pictures_come_in_order_of_capture(film: Path) -> None:
    items = await play(ReplaySource(film, clock=VirtualClock(), speed=math.inf))
    assert times(items) == sorted(times(items))
    frames = [item for item in items if isinstance(item, VideoFrame)]
    assert [frame.captured_ns for frame in frames] == [n * 200_000_000 for n in range(10)]
    chunks = [item for item in items if isinstance(item, AudioChunk)]
    assert chunks[0].start_ns == 300_000_000
    assert sum(len(chunk.samples) for chunk in chunks) == 32_000


async def test_pictures_are_only_decoded_for_somebody(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("decoded pictures that nobody asked for")

    monkeypatch.setattr(replay, "video_frames", never)
    items = await play(ReplaySource(film, clock=VirtualClock(), speed=math.inf), with_video=False)
    assert {type(item) for item in items} == {AudioChunk}


async def test_two_mailboxes_can_be_filled_apart(film: Path) -> None:
    sound, pictures = Mailbox[AudioChunk](4, "block"), Mailbox[VideoFrame](4, "block")
    source = ReplaySource(film, clock=VirtualClock(), speed=math.inf, video_rate_hz=None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(source.run(sound, pictures))

        async def look() -> int:
            return len([frame async for frame in pictures])

        seen = tasks.create_task(look())
        heard = [chunk async for chunk in sound]
    assert seen.result() == 20
    assert len(heard) == 63


async def test_at_full_speed_the_clock_shows_media_time(film: Path) -> None:
    clock = VirtualClock()
    mailbox = Mailbox[Captured](1, "block")
    source = ReplaySource(film, clock=clock, speed=math.inf)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(source.run(mailbox, mailbox))
        async for item in mailbox:
            assert clock.now_ns() >= times([item])[0]
    assert clock.now_ns() == 2_300_000_000


async def test_at_real_speed_nothing_comes_before_it_was_captured(film: Path) -> None:
    clock = VirtualClock()  # real speed on a clock that we move
    mailbox = Mailbox[Captured](200, "block")
    task = asyncio.create_task(ReplaySource(film, clock=clock, speed=1.0).run(mailbox, mailbox))
    for now_ms in range(0, 2400, 50):
        clock.advance_to(now_ms * 1_000_000)
        for _ in range(200):  # the decoder is a real thread
            await asyncio.sleep(0.001)
            if task.done() or (clock.next_due_ns or 0) > clock.now_ns():
                break
        delivered = mailbox.accepted
        expected = 1 + min(9, now_ms // 200) + min(63, max(0, (now_ms - 300) // 32))
        assert delivered in (expected, 73)
    await asyncio.wait_for(task, 5)
    assert mailbox.accepted == 73


@pytest.mark.realtime
async def test_real_speed_is_real(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(1.0))
    clock = RealClock()
    mailbox = Mailbox[AudioChunk](4, "block")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ReplaySource(path, clock=clock).run(mailbox))
        late_ns = [clock.now_ns() - chunk.end_ns async for chunk in mailbox]
    assert min(late_ns) >= 0
    assert np.median(late_ns) < 100_000_000
    assert clock.now_ns() >= 1_000_000_000


@pytest.mark.realtime
async def test_every_speed_gives_the_same(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", sound=tone(0.6), codec="flac", pictures=6)
    fast = await play(ReplaySource(path, clock=VirtualClock(), speed=math.inf))
    again = await play(ReplaySource(path, clock=VirtualClock(), speed=math.inf), capacity=1)
    real = await play(ReplaySource(path, clock=RealClock(), speed=1.0))
    for other in (again, real):
        assert len(other) == len(fast)
        for one, two in zip(fast, other, strict=True):
            assert type(one) is type(two)
            if isinstance(one, AudioChunk) and isinstance(two, AudioChunk):
                assert (one.start_ns, one.sequence) == (two.start_ns, two.sequence)
                np.testing.assert_array_equal(one.samples, two.samples)
            elif isinstance(one, VideoFrame) and isinstance(two, VideoFrame):
                assert one.captured_ns == two.captured_ns
                np.testing.assert_array_equal(one.image, two.image)


async def test_decoding_happens_in_a_thread_of_its_own(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    decode = replay.audio_chunks

    def spied(*args: object, **options: object):  # type: ignore[no-untyped-def]
        for chunk in decode(*args, **options):  # type: ignore[arg-type]
            threads.add(threading.current_thread().name)
            yield chunk

    monkeypatch.setattr(replay, "audio_chunks", spied)
    await play(ReplaySource(film, clock=VirtualClock(), speed=math.inf))
    assert len(threads) == 1
    assert threads.pop().startswith("replay")


async def test_a_full_mailbox_holds_the_replay_back(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "long.wav", tone(60.0))
    mailbox = Mailbox[AudioChunk](4, "block")
    source = ReplaySource(path, clock=(clock := VirtualClock()), speed=math.inf)
    task = asyncio.create_task(source.run(mailbox))
    while not mailbox.full:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert mailbox.accepted == 4
    assert clock.now_ns() == 5 * 32_000_000  # the one that waits to get in
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mailbox.closed


async def test_closing_the_mailbox_stops_the_replay_without_an_error(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "long.wav", tone(60.0))
    mailbox = Mailbox[AudioChunk](4, "block")
    task = asyncio.create_task(ReplaySource(path, clock=VirtualClock(), speed=math.inf).run(mailbox))
    for _ in range(10):
        await mailbox.get()
    mailbox.close()
    await asyncio.wait_for(task, 5)
    assert len([chunk async for chunk in mailbox]) <= 4
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("replay") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the decoder's thread goes on"
        await asyncio.sleep(0.01)


async def test_a_session_folder_is_played(tmp_path: Path) -> None:
    recording = open_media(SESSION)
    assert [track.source for track in (*recording.audio, *recording.video)] == ["audio-0", "video-0"]
    assert recording.language == "en"
    source = ReplaySource(SESSION, clock=VirtualClock(), speed=math.inf)
    items = await play(source, capacity=64)
    assert times(items) == sorted(times(items))
    seconds = sum(len(item.samples) for item in items if isinstance(item, AudioChunk)) / 16_000
    assert recording.duration_ns == pytest.approx(seconds * 1e9, abs=1e6)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    assert len(frames) == pytest.approx(5 * seconds, abs=1)
    assert frames[0].image.shape == (180, 320, 3)
    assert source.degradations == []


async def test_several_microphones_keep_their_names_and_starts(tmp_path: Path) -> None:
    for number in (0, 1):
        write_media(tmp_path / f"audio-{number}.flac", sound=tone(1.0), codec="flac")
    manifest = {"audio": [{"file": "audio-0.flac"}, {"file": "audio-1.flac", "start_ns": 500_000_000}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    items = await play(ReplaySource(tmp_path, clock=VirtualClock(), speed=math.inf))
    assert times(items) == sorted(times(items))
    starts = {"audio-0": 0, "audio-1": 500_000_000}
    for source, start_ns in starts.items():
        mine = [item for item in items if item.source == source]
        assert times(mine)[-1] == start_ns + 1_000_000_000
    assert open_media(tmp_path).duration_ns == 1_500_000_000


async def test_damage_is_told_but_not_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = tone(1.0)
    sound[0, 100:110] = np.nan
    source = ReplaySource(write_sound(tmp_path / "a.wav", sound), clock=VirtualClock(), speed=math.inf)
    with caplog.at_level(logging.WARNING):
        items = await play(source)
    assert len(items) == 32
    assert source.degradations == ["audio-0: samples that are no numbers, taken as silence: 10"]
    assert [record.message for record in caplog.records] == [f"recording damaged: {source.degradations[0]}"]


@pytest.mark.parametrize("kind", ["missing", "text", "silent film", "folder", "session without its sound", "empty"])
def test_what_cannot_be_played_is_refused_at_once_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "input.wav"
    if kind == "text":
        path.write_text("This is not sound.\n" * 100)
    elif kind == "silent film":
        path = write_media(tmp_path / "film.mp4", pictures=5)
    elif kind == "folder":
        path = tmp_path
    elif kind == "session without its sound":
        path = tmp_path / "copy"
        shutil.copytree(SESSION, path)
        (path / "audio-0.flac").write_bytes(b"fLaC")
    elif kind == "empty":
        path.touch()
    with pytest.raises(MediaError) as caught:
        ReplaySource(path, clock=RealClock())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if kind == "silent film":
        assert "holds no sound" in str(caught.value)


def test_other_speeds_and_clocks_are_refused(film: Path) -> None:
    with pytest.raises(ValueError, match="speed"):
        ReplaySource(film, clock=RealClock(), speed=2.0)
    with pytest.raises(ValueError, match="VirtualClock"):
        ReplaySource(film, clock=RealClock(), speed=math.inf)
