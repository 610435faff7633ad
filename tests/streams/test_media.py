import os
import struct
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from support.media_files import tone, write_media, write_sound

from mer_agent.errors import MediaError
from mer_agent.streams.media import LONGEST_SIDE_PX, Damage, probe, video_frames


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    path = write_media(tmp_path / "both.mkv", sound=tone(1.0, 48_000).repeat(2, 0), rate=48_000, pictures=10)
    info = probe(path)
    assert info.path == path
    assert info.audio is not None
    assert info.video is not None
    assert (info.audio.codec, info.audio.rate_hz, info.audio.channels) == ("pcm_s16le", 48_000, 2)
    assert (info.video.codec, info.video.width, info.video.height, info.video.rate_hz) == ("mpeg4", 64, 48, 10.0)
    assert info.duration_ns == pytest.approx(1e9, abs=2e7)


def test_a_missing_file_names_similar_ones(tmp_path: Path) -> None:
    write_sound(tmp_path / "interview.wav", tone(0.1))
    with pytest.raises(MediaError, match=r"intervew\.wav: no such file or folder; did you mean interview\.wav\?"):
        probe(tmp_path / "intervew.wav")
    with pytest.raises(MediaError, match=r"no such file or folder$"):
        probe(tmp_path / "no folder" / "nothing.wav")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Dear diary, nothing here is sound.\n" * 40, id="text"),
        pytest.param(b"#EXTM3U\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n", id="playlist"),
        pytest.param(bytes(range(256)) * 20, id="bytes"),
    ],
)
def test_what_is_no_media_is_refused(tmp_path: Path, content: bytes) -> None:
    write_sound(tmp_path / "other.wav", tone(0.5))
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"talk\.wav: (is not media|holds no|its sound is)"):
        probe(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    with pytest.raises(MediaError, match=r"empty\.wav: is empty"):
        probe(path)


def test_sound_of_no_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    assert path.stat().st_size > 0
    with pytest.raises(MediaError, match=r"short\.wav: its sound is empty or damaged"):
        probe(path)


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write_media(tmp_path / "cut.mp4", sound=tone(3.0), codec="aac", pictures=30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # the index stands at the end
    with pytest.raises(MediaError, match=r"cut\.mp4: is not media that can be read, or is damaged from the start"):
        probe(path)


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this platform has no pipes in its file system")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(MediaError, match="not a regular file"):
        probe(tmp_path / "pipe.wav")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "secret.wav", tone(0.1))

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", refuse)  # root, who runs tests in containers, may read everything
    with pytest.raises(MediaError, match=r"secret\.wav: may not be read"):
        probe(path)


def test_a_song_with_a_cover_has_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert probe(path).video is None


def test_pictures_come_in_rgb_with_their_times(tmp_path: Path) -> None:
    path = write_media(tmp_path / "seen.mkv", pictures=20)
    frames = list(video_frames(path, start_ns=5_000_000_000, source="video-3"))
    assert [frame.captured_ns for frame in frames] == [5_000_000_000 + n * 100_000_000 for n in range(20)]
    assert [frame.sequence for frame in frames] == list(range(20))
    assert {frame.source for frame in frames} == {"video-3"}
    assert frames[3].image.shape == (48, 64, 3)
    assert frames[3].image.dtype == np.uint8
    assert float(frames[12].image.mean()) == pytest.approx(120, abs=6)


def test_pictures_can_be_thinned_out(tmp_path: Path) -> None:
    path = write_media(tmp_path / "seen.mkv", pictures=40, picture_rate=25)
    times = [frame.captured_ns // 1_000_000 for frame in video_frames(path, rate_hz=5)]
    assert times == [0, 200, 400, 600, 800, 1000, 1200, 1400]


def test_large_pictures_are_scaled_down(tmp_path: Path) -> None:
    path = write_media(tmp_path / "large.mkv", pictures=2, size=(1280, 720))
    (height, width, _) = next(video_frames(path)).image.shape
    assert (width, height) == (LONGEST_SIDE_PX, 360)


def test_a_picture_filmed_sideways_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stored = np.zeros((32, 64, 3), np.uint8)
        stored[:8] = 255  # white along the stored top
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # ISO 14496-12: what a phone writes
    at = content.index(identity, content.index(b"tkhd"))
    path.write_bytes(content[:at] + clockwise + content[at + len(identity) :])
    image = next(video_frames(path)).image
    assert image.shape == (64, 32, 3)
    assert image[:, -8:].mean() > 200  # white along the right
    assert image[:, :20].mean() < 50


def test_damaged_pictures_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_media(tmp_path / "seen.mp4", pictures=60, video_codec="libx264", size=(320, 240))
    content = bytearray(path.read_bytes())
    at, size = len(content) // 2, len(content) // 5
    content[at : at + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(content)
    damage = Damage()
    times = [frame.captured_ns for frame in video_frames(path, damage=damage)]
    assert damage.packets > 0
    assert 20 <= len(times) < 60
    assert times == sorted(set(times))


def test_a_file_without_pictures_gives_none(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "heard.wav", tone(0.1))
    with pytest.raises(MediaError, match="no pictures"):
        next(video_frames(path))


def test_damage_is_told_in_words() -> None:
    assert Damage().lines() == []
    lines = Damage(packets=2, gaps=1, not_finite=3, missing_ns=1_500_000_000).lines()
    assert len(lines) == 4
    assert "1.5 s" in lines[3]


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, mer_agent.streams.replay, mer_agent.streams.transcriber, mer_agent.segmenter, mer_agent.aligner;"
        "print(*sorted({'torch', 'cv2', 'av', 'faster_whisper', 'onnxruntime', 'sounddevice'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
