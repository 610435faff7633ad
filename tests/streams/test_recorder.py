"""What is recorded is what a replay hears, whatever happened meanwhile."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support.recording import CHUNK_NS, chunk, gone, picture, replayed, sound

from mer_agent.errors import InputError
from mer_agent.streams import recorder as module
from mer_agent.streams.recorder import Recorder
from mer_agent.streams.replay import open_media
from mer_agent.streams.session import Manifest, Spoken, SpokenWord, read_manifest, read_words
from mer_agent.streams.types import NS_PER_S, AudioChunk, VideoFrame


def record(
    folder: Path, captured: Iterable[AudioChunk | VideoFrame], manifest: Manifest | None = None
) -> list[AudioChunk | VideoFrame]:
    """Records, and gives what an agent would hear meanwhile."""
    recorder = Recorder(folder, manifest or Manifest())
    heard = []
    for item in captured:
        while recorder._queue.qsize() > 100:
            time.sleep(0.001)
        heard.append(recorder.take(item))
    recorder.close()
    assert not recorder.lost
    return heard


def test_a_replay_hears_the_chunks_that_were_captured(tmp_path: Path) -> None:
    captured = [chunk(number, 437_123_456 + number * CHUNK_NS) for number in range(200)]
    live = sound(record(tmp_path / "session", captured))
    heard = sound(replayed(tmp_path / "session"))
    assert [(one.start_ns, len(one.samples)) for one in heard] == [(one.start_ns, 512) for one in captured]
    for one, meanwhile, other in zip(heard, live, captured, strict=True):
        np.testing.assert_array_equal(one.samples, meanwhile.samples)
        np.testing.assert_allclose(one.samples, other.samples, atol=2**-23)  # 24 bits
    assert not any(one.discontinuity for one in heard)
    assert read_manifest(tmp_path / "session").ended_ns == captured[-1].end_ns
    assert (tmp_path / "session").stat().st_mode & 0o077 == 0, "nobody else may look"


def test_gaps_drift_and_a_microphone_that_went_away_are_replayed_where_they_were(tmp_path: Path) -> None:
    drifting = [chunk(number, round(number * CHUNK_NS * 1.0004)) for number in range(120)]
    at_ns = drifting[-1].end_ns
    lost = [chunk(number, at_ns + NS_PER_S + number * CHUNK_NS) for number in range(130, 140)]  # by its numbers
    marked = [chunk(140, lost[-1].end_ns + 77_000_000, discontinuity=True), chunk(141, lost[-1].end_ns + 109_000_000)]
    away = gone(marked[-1].end_ns + 5 * NS_PER_S)
    back = [chunk(142, away.start_ns + NS_PER_S, discontinuity=True), chunk(143, away.start_ns + NS_PER_S + CHUNK_NS)]
    captured = [*drifting, *lost, *marked, away, *back, gone(back[-1].end_ns + NS_PER_S)]
    record(tmp_path / "session", captured)
    heard = sound(replayed(tmp_path / "session"))
    assert [len(one.samples) for one in heard] == [len(one.samples) for one in captured]
    assert [one.start_ns for one in heard] == [one.start_ns for one in captured]
    assert [at for at, one in enumerate(heard) if one.discontinuity] == [120, 130, 132, 133, 135]
    np.testing.assert_allclose(heard[-2].samples, captured[-2].samples, atol=2**-23)


def test_pictures_keep_their_times_and_none_is_left_out(tmp_path: Path) -> None:
    times_ns = [round(start_s * NS_PER_S) for start_s in (0.3371, 0.4004, 0.5031, 0.6999, 0.7002, 3.2, 3.31)]
    seen = [picture(number, at_ns) for number, at_ns in enumerate(times_ns)]
    speech = [chunk(number, 100_000_000 + number * CHUNK_NS) for number in range(110)]
    record(tmp_path / "session", [*seen[:5], *speech, *seen[5:]])
    pictures = [item for item in replayed(tmp_path / "session") if isinstance(item, VideoFrame)]
    assert [one.captured_ns // 1_000_000 for one in pictures] == [at_ns // 1_000_000 for at_ns in times_ns]
    for one, other in zip(pictures, seen, strict=True):
        assert one.image.shape == other.image.shape
        assert np.abs(one.image.astype(int) - other.image).mean() < 6


def test_pictures_are_seen_as_they_are_replayed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "session", Manifest())
    recorder.take(chunk(0, 0))
    seen = [recorder.see(picture(number, 337_123_456 + number * 99_876_543)) for number in range(60)]
    recorder.close()
    pictures = [item for item in replayed(tmp_path / "session") if isinstance(item, VideoFrame)]
    assert [one.captured_ns for one in pictures] == [one.captured_ns for one in seen]
    for one, other in zip(pictures, seen, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    assert (pictures[0].image != picture(0, 337_123_456).image).any(), "VP9 loses something"


def test_a_picture_that_can_t_be_kept_is_seen_as_it_is_and_ends_the_recording(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "session", Manifest())
    known, broken = picture(0, 0), picture(1, 100_000_000)
    recorder.see(known)
    broken = replace(broken, image=broken.image[:, :, :1])
    assert recorder.see(broken) is broken
    while not recorder._stopped:
        time.sleep(0.001)
    later = picture(2, 200_000_000)
    assert recorder.see(later) is later
    recorder.close()


def test_microphones_of_named_speakers_stay_apart(tmp_path: Path) -> None:
    captured = [chunk(number, number * CHUNK_NS, source=f"audio-{mic}") for number in range(40) for mic in (0, 1)]
    record(tmp_path / "session", captured, Manifest(speakers={"audio-0": "Ann", "audio-1": None}))
    assert open_media(tmp_path / "session").speakers == {"audio-0": "Ann", "audio-1": None}
    items = replayed(tmp_path / "session")
    assert len(sound(items, "audio-0")) == len(sound(items, "audio-1")) == 40


def test_words_are_there_at_once_and_in_order_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    recorder = Recorder(folder, Manifest())
    word = SpokenWord(text="good", start_ns=5, end_ns=9, probability=0.5)
    recorder.spoken("u2", Spoken(speaker="speaker-0", text="morning", start_ns=50, end_ns=90))
    recorder.spoken("u1", Spoken(speaker="speaker-1", text="god", start_ns=5, end_ns=9))
    recorder.judged('{"a": 1}')
    while not (folder / "predictions.jsonl").is_file():
        time.sleep(0.01)
    assert [spoken.text for spoken in read_words(folder)] == ["morning", "god"]
    recorder.spoken("u1", Spoken(speaker="speaker-1", text="good", start_ns=5, end_ns=9, words=(word,)))
    recorder.close()
    assert [spoken.text for spoken in read_words(folder)] == ["good", "morning"]
    assert read_words(folder)[0].words == (word,)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match="isn't empty; name a new folder"):
        Recorder(tmp_path, Manifest())
    with pytest.raises(InputError, match="can't be written"):
        Recorder(tmp_path / "holiday.jpg" / "x", Manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_without_room_on_the_disk_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**30, 2**30, 2**20))
    with pytest.raises(InputError, match="room for 1 MB only; 256 are needed"):
        Recorder(tmp_path / "session", Manifest())


def test_a_disk_that_fills_up_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    states: list[str] = []
    recorder = Recorder(tmp_path / "session", Manifest(), states.append)
    for number in range(60):
        recorder.take(chunk(number, number * CHUNK_NS))
    while recorder._queue.qsize():
        time.sleep(0.001)
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**30, 2**30, 2**20))
    for number in range(60, 100):
        recorder.take(chunk(number, number * CHUNK_NS))
    recorder.close()
    assert states == ["recording", "stopped"]
    assert "stopped (the disk is full)" in caplog.text
    assert len(sound(replayed(tmp_path / "session"))) == 60


def test_a_write_that_fails_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    """The operating system itself refuses to let the file grow, as a full disk does."""
    script = """
import resource, sys, time, logging
logging.basicConfig()
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.recording import chunk
from mer_agent.streams.recorder import Manifest, Recorder
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
states = []
recorder = Recorder(Path(sys.argv[2]), Manifest(), states.append)
for number in range(300):
    recorder.take(chunk(number, number * 32_000_000))
    time.sleep(0.001)
recorder.close()
print(states)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, Path(__file__).parents[1], tmp_path / "session"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['recording', 'stopped']"
    assert "File too large" in done.stderr
    assert len(sound(replayed(tmp_path / "session"))) > 30


def test_a_recording_that_is_killed_is_replayed_up_to_its_last_second(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    script = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.recording import chunk, picture
from mer_agent.streams.recorder import Manifest, Recorder
recorder = Recorder(Path(sys.argv[2]), Manifest())
number = 0
while True:
    recorder.take(chunk(number, number * 32_000_000))
    if number % 3 == 0:
        recorder.take(picture(number // 3, number * 32_000_000))
    recorder.judged('{"half": "a line"}')
    number += 1
    while recorder._queue.qsize() > 3:  # faster than real, but no faster than the disk
        time.sleep(0.001)
    print(number, flush=True)
"""
    killed = subprocess.Popen(
        [sys.executable, "-c", script, Path(__file__).parents[1], folder], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    for line in killed.stdout:
        if (count := int(line)) == 500:
            os.kill(killed.pid, signal.SIGKILL)
            break
    killed.wait()
    killed.stdout.close()
    assert read_manifest(folder).ended_ns is None
    items = replayed(folder)
    assert 500 - 32 <= len(sound(items)) <= count + 100, "no more than a second of sound is missing"
    last_ns = max(item.captured_ns for item in items if isinstance(item, VideoFrame))
    assert last_ns > 500 * CHUNK_NS - 2.5 * NS_PER_S


def test_a_disk_that_is_too_slow_costs_sound_and_the_gap_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    recorder = Recorder(tmp_path / "session", Manifest())
    for number in range(400):
        recorder.take(chunk(number, number * CHUNK_NS))
    while recorder._queue.qsize():
        time.sleep(0.001)
    recorder.take(chunk(400, 400 * CHUNK_NS))
    recorder.close()
    heard = sound(replayed(tmp_path / "session"))
    assert recorder.lost > 0
    assert len(heard) == 401 - recorder.lost
    assert heard[-1].start_ns == 400 * CHUNK_NS
    assert any(one.discontinuity for one in heard)
    assert caplog.text.count("writing is too slow") == 1
