from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.media_files import tone, write_media, write_sound

from mer_agent.errors import MediaError
from mer_agent.streams.media import Damage, probe, video_frames
from mer_agent.streams.sound import CHUNK_SAMPLES, audio_chunks
from mer_agent.streams.types import AudioChunk


def heard(path: Path, **options: object) -> tuple[list[AudioChunk], np.ndarray, Damage]:
    damage = Damage()
    chunks = list(audio_chunks(path, damage=damage, **options))  # type: ignore[arg-type]
    return chunks, np.concatenate([chunk.samples for chunk in chunks]), damage


def test_sound_comes_in_chunks_of_32_ms_and_the_last_may_be_shorter(tmp_path: Path) -> None:
    sound = tone(1.01)
    chunks, samples, damage = heard(write_sound(tmp_path / "a.wav", sound), start_ns=7, source="audio-2")
    np.testing.assert_array_equal(samples, sound[0])
    assert [len(chunk.samples) for chunk in chunks] == [CHUNK_SAMPLES] * 31 + [288]
    assert [chunk.start_ns for chunk in chunks] == [7 + number * 32_000_000 for number in range(32)]
    assert [chunk.sequence for chunk in chunks] == list(range(32))
    assert {chunk.source for chunk in chunks} == {"audio-2"}
    assert samples.dtype == np.float32
    assert damage == Damage()
    assert not any(chunk.discontinuity for chunk in chunks)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_another_rate_keeps_length_pitch_and_place(tmp_path: Path, rate: int) -> None:
    sound = tone(2.0, rate)
    sound[:, : rate // 2] = 0  # it begins after half a second
    _, samples, _ = heard(write_sound(tmp_path / "a.wav", sound, rate))
    assert len(samples) == pytest.approx(32_000, abs=2)
    ideal = tone(2.0)[0]
    np.testing.assert_allclose(samples[9_000:31_000], ideal[9_000:31_000], atol=0.01)
    assert np.abs(samples[:7_900]).max() < 1e-3


@pytest.mark.parametrize(("channels", "rate"), [(2, 8_000), (2, 48_000), (6, 48_000)])
def test_channels_become_their_plain_average(tmp_path: Path, channels: int, rate: int) -> None:
    sound = np.zeros((channels, rate), np.float32)
    sound[-1] = tone(1.0, rate, level=0.9)[0]
    _, samples, _ = heard(write_sound(tmp_path / "a.wav", sound, rate))
    np.testing.assert_allclose(samples[500:-500], tone(1.0, level=0.9 / channels)[0][500:-500], atol=0.01)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.flac", "flac", 44_100),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.ogg", "libopus", 48_000),
        ("a.m4a", "aac", 44_100),
    ],
)
def test_common_formats_are_read(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = write_media(tmp_path / name, sound=tone(2.0, rate), rate=rate, codec=codec)
    _, samples, damage = heard(path)
    assert len(samples) == pytest.approx(32_000, abs=1_600)
    assert float(np.sqrt(np.mean(samples[4_000:28_000] ** 2))) == pytest.approx(0.5 / 2**0.5, rel=0.1)
    assert damage.lines() == []


def test_samples_that_are_no_numbers_become_silence_and_are_counted(tmp_path: Path) -> None:
    sound = tone(1.0, 48_000)
    sound[0, 24_000:24_010] = np.nan
    sound[0, 30_000] = np.inf
    sound[0, 30_001] = 1e30  # a number, but no sound
    _, samples, damage = heard(write_sound(tmp_path / "a.wav", sound, 48_000))
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.0
    assert damage.not_finite == 11
    assert damage.lines() == ["samples that are no numbers, taken as silence: 11"]
    np.testing.assert_allclose(samples[:7_900], tone(1.0)[0][:7_900], atol=0.02)


def test_sound_that_starts_later_than_the_pictures_keeps_its_time(tmp_path: Path) -> None:
    path = write_media(tmp_path / "late.mkv", sound=tone(1.0), codec="pcm_s16le", sound_start_s=1.5, pictures=25)
    chunks, _, damage = heard(path)
    assert chunks[0].start_ns == 1_500_000_000
    assert damage.gaps == 0


def test_a_gap_in_the_sound_is_marked_and_time_goes_on_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    _write_stretches(path, [(0.0, 1.0), (2.5, 1.0)])
    chunks, _, damage = heard(path)
    broken = [chunk for chunk in chunks if chunk.discontinuity]
    assert [chunk.start_ns for chunk in broken] == [2_500_000_000]
    assert max(chunk.end_ns for chunk in chunks if chunk.start_ns < 2_000_000_000) == 1_000_000_000
    assert chunks[-1].end_ns == 3_500_000_000
    assert damage.gaps == 1


@pytest.mark.parametrize("pace", [1.01, 0.99])
def test_stamps_that_drift_are_followed_without_a_break(tmp_path: Path, pace: float) -> None:
    path = tmp_path / "drift.mkv"  # the recorder's samples came 1 percent slower, or faster, than their rate says
    _write_stretches(path, [(0.0, 20.0)], pace)
    chunks, samples, damage = heard(path)
    assert len(samples) == 320_000
    assert not any(chunk.discontinuity for chunk in chunks)
    assert chunks[-1].end_ns == pytest.approx(20e9 * pace, abs=30e6)
    times = [chunk.start_ns for chunk in chunks]
    assert times == sorted(times)
    assert damage == Damage()


def test_time_never_runs_back_where_stamps_start_again(tmp_path: Path) -> None:
    one = write_media(tmp_path / "one.ts", sound=tone(5.0), codec="mp2")
    joined = tmp_path / "joined.ts"  # this format may be joined end to end
    joined.write_bytes(one.read_bytes() * 2)
    chunks, samples, damage = heard(joined)
    times = [chunk.start_ns for chunk in chunks]
    assert times == sorted(times)
    assert len(samples) == pytest.approx(160_000, abs=5_000)
    assert chunks[-1].end_ns - chunks[0].start_ns == pytest.approx(10e9, abs=0.5e9)
    assert damage.gaps == 1
    assert sum(chunk.discontinuity for chunk in chunks) == 1


def test_a_recording_that_breaks_off_is_played_up_to_there(tmp_path: Path) -> None:
    path = write_media(tmp_path / "cut.mkv", sound=tone(10.0), codec="flac", pictures=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    chunks, samples, damage = heard(path)
    assert 16_000 < len(samples) < 150_000
    assert chunks[-1].end_ns < 9_500_000_000
    assert any("sooner than its header says" in line for line in damage.lines())


def test_an_mp4_that_breaks_off_behind_its_index_is_played_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_media(path, sound=tone(10.0), codec="aac", pictures=100, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    _, samples, damage = heard(path)
    assert 16_000 < len(samples) < 150_000
    assert damage.missing_ns > 1_000_000_000


def test_damage_in_the_middle_is_skipped_counted_and_marked(tmp_path: Path) -> None:
    path = write_media(tmp_path / "hurt.mka", sound=_voice(6.0), codec="aac")
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    noise = np.random.default_rng(1).integers(0, 256, third // 4, dtype=np.uint8).tobytes()
    content[third : third + len(noise)] = noise
    path.write_bytes(content)
    chunks, samples, damage = heard(path)
    assert len(samples) > 2 * 16_000
    assert np.isfinite(samples).all()
    assert damage.packets + damage.gaps > 0
    assert any(chunk.discontinuity for chunk in chunks)
    times = [chunk.start_ns for chunk in chunks]
    assert times == sorted(times)
    assert chunks[-1].end_ns == pytest.approx(6e9, abs=0.2e9)  # what follows is still where it was


@pytest.mark.parametrize(
    ("name", "codec", "video_codec"),
    [
        ("a.mp4", "aac", "libx264"),
        ("a.flac", "flac", ""),
        ("a.webm", "libopus", "libvpx-vp9"),
        ("a.ts", "aac", "mpeg4"),
    ],
)
def test_whatever_is_broken_it_is_refused_or_played(tmp_path: Path, name: str, codec: str, video_codec: str) -> None:
    path = tmp_path / name
    write_media(
        path,
        sound=_voice(3.0),
        rate=48_000 if codec == "libopus" else 16_000,
        codec=codec,
        pictures=30 if video_codec else 0,
        video_codec=video_codec or "mpeg4",
    )
    content = path.read_bytes()
    noise = np.random.default_rng(0)
    for _ in range(25):
        hurt = bytearray(content)
        for at in noise.integers(0, len(hurt), 5):
            hurt[at : at + 100] = noise.bytes(100)
        path.write_bytes(hurt[: noise.integers(1, len(hurt))] if noise.random() < 0.3 else hurt)
        try:
            info = probe(path)
            chunks = list(audio_chunks(path)) if info.audio else []
            frames = list(video_frames(path)) if info.video else []
        except MediaError:
            continue
        assert all(np.isfinite(chunk.samples).all() for chunk in chunks)
        for times in ([chunk.start_ns for chunk in chunks], [frame.captured_ns for frame in frames]):
            assert times == sorted(times)


def test_a_file_without_sound_gives_none(tmp_path: Path) -> None:
    path = write_media(tmp_path / "seen.mkv", pictures=5)
    with pytest.raises(MediaError, match="no sound"):
        next(audio_chunks(path))


def _voice(seconds: float) -> np.ndarray:
    """Something that a codec has to work for."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, round(seconds * 16_000)))
    return (noise + tone(seconds)).astype(np.float32)


def _write_stretches(path: Path, stretches: list[tuple[float, float]], pace: float = 1.0) -> None:
    """Writes stretches of (start, length) seconds of sound into one stream; stamps run at `pace`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start_s, seconds in stretches:
            sound = np.round(tone(seconds) * 32767).astype(np.int16)
            for at in range(0, sound.shape[1], 160):
                part = np.ascontiguousarray(sound[:, at : at + 160])
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
                frame.pts = round(start_s * 16_000 + at * pace)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
