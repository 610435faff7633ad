import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.streams_fakes import chunked

from mer_agent.errors import MissingExtraError
from mer_agent.streams import vad
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import AudioChunk
from mer_agent.streams.vad import FRAME_SAMPLES, HOP_SAMPLES, Reblocker, SileroStream, SileroVad, StaggeredStream

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"


@pytest.fixture(scope="module")
def silero() -> SileroVad:
    return SileroVad()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in audio_chunks(SESSION / "audio-0.flac")])


def windows(sound: np.ndarray) -> list[np.ndarray]:
    """Frames of 512 samples, each with the 64 before it; silence comes before the first sample."""
    padded = np.concatenate((np.zeros(64, np.float32), sound))
    hops = range(0, len(sound) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
    return [padded[None, at : at + 64 + FRAME_SAMPLES] for at in hops]


def probabilities(silero: SileroVad, sound: np.ndarray) -> list[float]:
    stream = SileroStream(silero)
    return [stream.hear(window) for window in windows(sound)]


def answers(silero: SileroVad, sound: np.ndarray) -> list[float]:
    stream = silero.stream()
    return [stream.probability(sound[at : at + HOP_SAMPLES]) for at in range(0, len(sound), HOP_SAMPLES)]


def test_speech_is_told_from_silence(silero: SileroVad, speech: np.ndarray) -> None:
    found = probabilities(silero, speech)
    assert max(found[:12]) < 0.2  # the session begins with 0.6 s of silence
    assert np.median(found[30:45]) > 0.8  # then somebody speaks


def test_noise_and_silence_are_no_speech(silero: SileroVad) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    assert np.median(probabilities(silero, noise)) < 0.3
    assert max(probabilities(silero, np.zeros(32_000, np.float32))) < 0.3


def test_it_gives_what_faster_whisper_gives(silero: SileroVad, speech: np.ndarray, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from faster_whisper.vad import get_vad_model;"
        "np.save(sys.argv[2], get_vad_model()(np.load(sys.argv[1])))"
    )
    sound = speech[: 200 * FRAME_SAMPLES]
    np.save(tmp_path / "sound.npy", sound)
    subprocess.run([sys.executable, "-c", code, tmp_path / "sound.npy", tmp_path / "answer.npy"], check=True)
    reference = np.load(tmp_path / "answer.npy").reshape(-1)
    np.testing.assert_allclose(probabilities(silero, sound), reference, atol=1e-4)


def test_streams_do_not_hear_each_other_and_reset_forgets(silero: SileroVad, speech: np.ndarray) -> None:
    alone = probabilities(silero, speech[: 62 * FRAME_SAMPLES])
    one, other = SileroStream(silero), SileroStream(silero)
    together = []
    for window in windows(speech[: 62 * FRAME_SAMPLES]):
        together.append(one.hear(window))
        other.hear(np.zeros_like(window))
    assert together == alone
    one.reset()
    assert one.hear(windows(speech[:FRAME_SAMPLES])[0]) == alone[0]


def test_what_is_no_number_is_silence_and_does_no_lasting_harm(silero: SileroVad, speech: np.ndarray) -> None:
    broken = speech[16_000:48_000].copy()
    broken[5_000:5_100] = np.nan
    broken[9_000] = np.inf
    clean = np.nan_to_num(broken, nan=0.0, posinf=0.0)
    assert np.isnan(broken[5_050])
    assert answers(silero, broken) == answers(silero, clean)


class Recorded:
    """Remembers what it heard, and says how many frames those were."""

    def __init__(self) -> None:
        self.heard: list[np.ndarray] = []

    def hear(self, window: np.ndarray) -> float:
        self.heard.append(window[0, -FRAME_SAMPLES:].copy())
        return float(len(self.heard))

    def reset(self) -> None:
        self.heard.clear()


def test_staggered_detectors_hear_all_of_it_each_in_frames_of_its_own() -> None:
    streams = [Recorded() for _ in range(vad.STREAMS)]
    staggered = StaggeredStream(streams)
    sound = np.arange(20 * FRAME_SAMPLES, dtype=np.float32)
    said = [staggered.probability(sound[at : at + HOP_SAMPLES]) for at in range(0, len(sound), HOP_SAMPLES)]
    assert said[-1] == 20.0
    assert said[0] == 1 / vad.STREAMS
    for number, stream in enumerate(streams):
        heard = np.concatenate(stream.heard)
        late = FRAME_SAMPLES - (number + 1) * HOP_SAMPLES  # silence before the first sample
        np.testing.assert_array_equal(heard[:late], 0.0)
        np.testing.assert_array_equal(heard[late:], sound[: len(heard) - late])
    staggered.reset()
    assert [stream.heard for stream in streams] == [[]] * vad.STREAMS
    assert staggered.probability(sound[:10]) == 1 / vad.STREAMS
    with pytest.raises(ValueError, match=str(HOP_SAMPLES)):
        staggered.probability(sound[: HOP_SAMPLES + 1])


def test_detectors_begin_afresh_after_half_a_second_of_silence() -> None:
    class Deaf(Recorded):
        resets = 0

        def hear(self, window: np.ndarray) -> float:
            return 0.9 if window[0, -FRAME_SAMPLES:].any() else 0.0

        def reset(self) -> None:
            self.resets += 1

    streams = [Deaf() for _ in range(vad.STREAMS)]
    staggered = StaggeredStream(streams)
    made = streams[0].resets

    def hear(seconds: float, level: float) -> int:
        before = streams[-1].resets
        for _ in range(round(seconds * 16_000 / HOP_SAMPLES)):
            staggered.probability(np.full(HOP_SAMPLES, level, np.float32))
        return streams[-1].resets - before

    assert made == 1
    assert hear(3.0, 0.5) == 0
    assert hear(0.45, 0.0) == 0, "a pause within a sentence"
    assert hear(1.0, 0.5) == 0
    assert hear(1.3, 0.0) == 2
    assert len({stream.resets for stream in streams}) == 1


def test_rested_detectors_do_not_listen_to_nothing() -> None:
    calls = 0

    class Detector(Recorded):
        def hear(self, window: np.ndarray) -> float:
            nonlocal calls
            calls += 1
            return 0.9 if np.abs(window[0, -FRAME_SAMPLES:]).max() > 0.01 else 0.05

    staggered = StaggeredStream([Detector() for _ in range(vad.STREAMS)])
    rng = np.random.default_rng(0)

    def hear(seconds: float, level: float) -> tuple[int, float]:
        before, said = calls, 0.0
        for _ in range(round(seconds * 16_000 / HOP_SAMPLES)):
            said = staggered.probability(rng.normal(0, level, HOP_SAMPLES).astype(np.float32))
        return calls - before, said

    second = 16_000 // HOP_SAMPLES
    assert hear(1.0, 0.1) == (second, pytest.approx(0.9))
    heard, said = hear(2.0, 1e-4)  # -80 dB
    assert second // 2 < heard < 0.6 * second
    assert said == 0.0
    assert hear(1.0, 1e-3) == (second, pytest.approx(0.05)), "a quiet room is listened to"
    assert hear(1.0, 1e-4)[0] < 0.1 * second
    assert hear(1.0, 0.1) == (second, pytest.approx(0.9)), "and the first word is heard"
    assert hear(0.4, 0.0)[0] == round(0.4 * second), "and so is a pause"


def test_what_was_said_long_ago_does_not_change_what_is_heard(silero: SileroVad, speech: np.ndarray) -> None:
    def after(past: np.ndarray) -> list[float]:
        said = answers(silero, np.concatenate((past, np.zeros(16_000, np.float32), speech[10_000:60_000])))
        return said[(len(past) + 16_000) // HOP_SAMPLES :]

    nothing, talk = np.zeros(10 * 16_000, np.float32), speech[: 64 * 4000]
    one, other = after(nothing), after(talk)
    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 0.15


def test_the_same_sound_a_few_milliseconds_later_gets_the_same_answers(silero: SileroVad, speech: np.ndarray) -> None:
    """What one stream of the network says changes by 0.02 to 0.04 on average, and the mean of eight by 0.002."""

    def shifted(late: int) -> np.ndarray:
        found = np.array(answers(silero, np.concatenate((np.zeros(late, np.float32), speech[: 10 * 16_000]))))
        times = (np.arange(len(found)) * HOP_SAMPLES - late) / 16_000
        return np.interp(np.arange(0.1, 9, 0.004), times, found)

    for late in (37, 96, 352):
        assert np.abs(shifted(late) - shifted(0)).mean() < 0.005


def test_the_network_is_found_without_importing_faster_whisper() -> None:
    code = (
        "import sys; from mer_agent.streams.vad import SileroVad; SileroVad();"
        "sys.exit(sum(name in sys.modules for name in ('faster_whisper', 'ctranslate2', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"faster-whisper.*pip install"):
        vad.model_path()


@given(
    length=st.integers(0, 3000),
    sizes=st.lists(st.integers(1, 900), max_size=12),
)
def test_frames_do_not_depend_on_the_size_of_chunks(length: int, sizes: list[int]) -> None:
    sound = np.arange(length, dtype=np.float32)
    blocks = Reblocker()
    frames = [frame for chunk in chunked(sound, sizes) for frame in blocks.push(chunk)] + blocks.finish()
    assert [len(frame.samples) for frame in frames[:-1]] == [HOP_SAMPLES] * (len(frames) - 1)
    for number, frame in enumerate(frames):
        assert frame.start_ns == number * HOP_SAMPLES * 62_500
        np.testing.assert_array_equal(frame.samples, sound[number * HOP_SAMPLES : (number + 1) * HOP_SAMPLES])
    assert sum(len(frame.samples) for frame in frames) == length
    assert not any(frame.discontinuity for frame in frames)
    assert blocks.finish() == []


def chunk(value: float, start_ns: int, sequence: int, discontinuity: bool = False, size: int = 100) -> AudioChunk:
    return AudioChunk(np.full(size, value, np.float32), start_ns, sequence, discontinuity=discontinuity)


@pytest.mark.parametrize("how", ["flag", "sequence"])
def test_a_break_ends_a_frame_early_and_marks_the_next(how: str) -> None:
    blocks = Reblocker()
    first = blocks.push(chunk(1, 0, 0))
    later = chunk(2, 900_000_000, 1, discontinuity=True) if how == "flag" else chunk(2, 900_000_000, 5)
    second = blocks.push(later)
    assert [(len(frame.samples), frame.start_ns, frame.discontinuity) for frame in first + second] == [
        (HOP_SAMPLES, 0, False),
        (100 - HOP_SAMPLES, HOP_SAMPLES * 62_500, False),
        (HOP_SAMPLES, 900_000_000, True),
    ]
    assert all(len(set(frame.samples)) == 1 for frame in first + second)
    (last,) = blocks.finish()
    assert (last.start_ns, last.discontinuity) == (900_000_000 + HOP_SAMPLES * 62_500, False)


def test_time_is_that_of_the_chunk_which_holds_the_first_sample() -> None:
    blocks = Reblocker()
    blocks.push(chunk(1, 0, 0, size=40))
    (frame,) = blocks.push(chunk(2, 20_000_000, 1, size=50))  # 17.5 ms later than the samples say
    (left,) = blocks.finish()
    assert frame.start_ns == 0
    assert left.start_ns == 20_000_000 + (HOP_SAMPLES - 40) * 62_500


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="8000"):
        Reblocker().push(AudioChunk(np.zeros(10, np.float32), 0, 0, rate_hz=8000))
