"""A real microphone path: what is played into PulseAudio's null sink is what arrives, whole and in time."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from support import needs
from support.media_files import write_sound
from support.pulse import Pulse, pulse_audio

from mer_agent.errors import DeviceError, MissingExtraError
from mer_agent.streams import microphone as module
from mer_agent.streams.clock import RealClock, VirtualClock
from mer_agent.streams.devices import DeviceInfo
from mer_agent.streams.microphone import Microphone, MicrophoneCapture, microphones
from mer_agent.streams.resampler import Resampler
from mer_agent.streams.sound import Chunker
from mer_agent.streams.supervise import State, Supervisor
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, AudioChunk

RATE_HZ = 44_100


@pytest.fixture
def pulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    with pulse_audio(tmp_path) as daemon:
        for name, value in daemon.environment.items():
            monkeypatch.setenv(name, value)
        yield daemon


def noise(seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """Noise below 6 kHz, float32 [1, n]: like nothing but itself at every shift."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=round(seconds * rate_hz)))
    spectrum[round(6000 * seconds) :] = 0
    sound = np.fft.irfft(spectrum)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)[None]


def delayed(sound: NDArray[np.float32], samples: float) -> NDArray[np.float32]:
    """The sound later by a part of a sample."""
    spectrum = np.fft.rfft(sound) * np.exp(-2j * np.pi * samples * np.fft.rfftfreq(len(sound)))
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


async def listen(wanted: str, seconds: float, during: object = None) -> list[AudioChunk]:
    chunks: list[AudioChunk] = []
    clock = RealClock()
    capture = Microphone("audio-0", wanted, clock).open(chunks.append)
    async with asyncio.timeout(3.0):
        while not chunks:
            await asyncio.sleep(0.01)
    player = during() if callable(during) else None
    await asyncio.sleep(seconds)
    if player is not None:
        assert player.wait(5) == 0
    capture.close()
    assert capture.pulse.fault is None
    return chunks


@pytest.mark.device
async def test_what_is_played_is_what_is_heard_with_no_sample_lost(pulse: Pulse, tmp_path: Path) -> None:
    played = noise(2.0)
    path = write_sound(tmp_path / "noise.wav", played, RATE_HZ)
    begun = time.monotonic()
    chunks = await listen("default", 3.2, lambda: pulse.play(path))
    heard = np.concatenate([chunk.samples for chunk in chunks])
    assert [chunk.sequence for chunk in chunks] == list(range(len(chunks)))
    assert not any(chunk.discontinuity for chunk in chunks[3:])
    # Where it lies in what was heard, and how alike the two are there: every tenth of a second at the same place.
    resampler = Resampler(RATE_HZ)
    wanted = np.concatenate([resampler.push(played), resampler.finish()])
    at = int(np.correlate(heard, wanted[: SAMPLE_RATE_HZ // 2], "valid").argmax())
    # A sample at 44.1 kHz is a third of one at 16 kHz, so that the two needn't lie on the same grid.
    candidates = [delayed(wanted, step / 20) for step in range(-20, 21)]
    shifted = max(candidates, key=lambda one: float(one @ heard[at : at + len(one)]))
    for begin in range(1600, len(wanted) - 3200, 1600):
        part, other = shifted[begin : begin + 1600], heard[at + begin : at + begin + 1600]
        assert np.corrcoef(part, other)[0, 1] > 0.98, f"{begin / 16} ms after the beginning"
    # Stamps follow the clock.
    ends = np.array([chunk.end_ns for chunk in chunks]) / NS_PER_S
    assert ends[-1] <= time.monotonic() - begun
    spacing = np.diff([chunk.start_ns for chunk in chunks])[10:]
    assert np.abs(spacing - 32e6).max() < 3e6


@pytest.mark.device
async def test_a_daemon_that_is_killed_and_comes_back_is_told_and_survived(pulse: Pulse) -> None:
    clock = RealClock()
    states: list[State] = []
    chunks: list[AudioChunk] = []
    microphone = Microphone("audio-0", "default", clock)
    supervisor = Supervisor(microphone, chunks.append, lambda source, state: states.append(state), clock)
    running = asyncio.create_task(supervisor.run())

    async def until(*wanted: State, limit_s: float) -> float:
        begun = time.monotonic()
        async with asyncio.timeout(limit_s):
            while not states or states[-1] not in wanted:
                await asyncio.sleep(0.02)
        return time.monotonic() - begun

    await until("capturing", limit_s=3.0)
    await asyncio.sleep(0.3)
    pulse.kill()
    # ALSA's plugin says that its daemon is gone, or hangs on it for ever, as the moment will have it.
    assert await until("lost", "stalled", limit_s=3.0) < 2.0
    before = len(chunks)
    pulse.start()
    await until("capturing", limit_s=8.0)
    await asyncio.sleep(0.3)
    assert len(chunks) > before
    assert chunks[before].discontinuity
    assert [chunk.sequence for chunk in chunks] == list(range(len(chunks)))
    running.cancel()
    await asyncio.wait([running])
    assert states[:2] == ["opening", "capturing"]
    assert {*states[2:-1]} <= {"lost", "stalled"}


_OUTLIVES = """
import asyncio
from mer_agent.streams.clock import RealClock
from mer_agent.streams.microphone import Microphone
from mer_agent.streams.supervise import Supervisor

async def main():
    clock = RealClock()
    supervisor = Supervisor(
        Microphone("audio-0", "default", clock), lambda chunk: None, lambda _, state: print(state, flush=True), clock
    )
    running = asyncio.create_task(supervisor.run())
    while supervisor.state != "stalled":
        await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait([running])

asyncio.run(main())
print("over", flush=True)
"""


@pytest.mark.device
def test_a_daemon_that_hangs_keeps_no_program_from_its_end(pulse: Pulse) -> None:
    with subprocess.Popen([sys.executable, "-c", _OUTLIVES], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "opening\n"
            assert program.stdout.readline() == "capturing\n"
            pulse.hang()
            assert program.stdout.readline() == "stalled\n"
            assert program.stdout.readline() == "over\n"
            assert program.wait(timeout=10.0) == 0
        finally:
            program.kill()


@pytest.mark.device
def test_the_list_has_the_default_and_how_fast_it_is(pulse: Pulse) -> None:
    needs.program("pulseaudio")
    (default,) = (one for one in microphones() if one.default)
    assert (default.name, default.rate_hz) == ("default", 44_100.0)
    with pytest.raises(DeviceError, match="there is no microphone 'foo'"):
        Microphone("audio-0", "foo", RealClock()).open(lambda chunk: None)
    with pytest.raises(DeviceError, match="can't be opened"):
        Microphone("audio-0", "default", RealClock(), rate_hz=1).open(lambda chunk: None)


def blocks(capture: MicrophoneCapture, sound: NDArray[np.float32], at_ns: int) -> None:
    """Hears sound, float32 [n, channel] at 48 kHz, in blocks of 32 ms that come in time."""
    for begin in range(0, len(sound), 1536):
        captured_ns = at_ns + begin * NS_PER_S // 48_000
        capture.hear(sound[begin : begin + 1536], captured_ns + 40_000_000, captured_ns)


def test_any_channels_and_rate_become_16_khz_mono_in_place() -> None:
    chunks: list[AudioChunk] = []
    capture = MicrophoneCapture(VirtualClock(), Chunker("audio-0"), 48_000, chunks.append)
    one = noise(2.0, 48_000)[0]
    blocks(capture, np.stack([one, 0.5 * one, 0 * one], axis=1), 7_000_000_000)
    heard = np.concatenate([chunk.samples for chunk in chunks])
    wanted = Resampler(48_000).push(one[None] / 2)
    assert np.abs(heard - wanted[: len(heard)]).max() < 1e-6
    assert [chunk.start_ns for chunk in chunks] == [7_000_000_000 + n * 32_000_000 for n in range(len(chunks))]


def test_sound_that_the_driver_lost_is_a_gap_and_what_follows_is_in_its_place() -> None:
    chunks: list[AudioChunk] = []
    capture = MicrophoneCapture(VirtualClock(), Chunker("audio-0"), 48_000, chunks.append)
    sound = noise(1.0, 48_000)[0][:46_080, None]
    blocks(capture, sound, 0)
    capture.hear(sound[:1536], 5_040_000_000, 5_000_000_000, lost=True)
    blocks(capture, sound, 5_032_000_000)
    gaps = [chunk for chunk in chunks if chunk.discontinuity]
    assert [chunk.start_ns for chunk in gaps] == [5_000_000_000]
    assert sum(len(chunk.samples) for chunk in chunks if chunk.start_ns < 5e9) == 46_080 // 3
    assert max(chunk.end_ns for chunk in chunks) == pytest.approx(5_032_000_000 + 46_080 * NS_PER_S // 48_000, abs=64e6)


def test_without_the_package_or_the_library_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_open", set())
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match=r"mer-agent\[live\]"):
        microphones()

    class NoLibrary:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match="apt-get install libportaudio2"):
        microphones()


def test_an_error_in_the_callback_is_a_fault_and_not_a_silent_end() -> None:
    capture = MicrophoneCapture(VirtualClock(), Chunker("audio-0"), 48_000, lambda chunk: None)
    times = SimpleNamespace(currentTime=1.0, inputBufferAdcTime=0.9)
    capture._hear(None, 1536, times, SimpleNamespace(input_overflow=False))  # type: ignore[arg-type]
    assert "TypeError" in str(capture.pulse.fault)


def test_how_far_its_clock_was_off_is_told_when_it_closes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    capture = MicrophoneCapture(VirtualClock(), Chunker("audio-0"), 48_000, lambda chunk: None)
    for number in range(2000):
        arrived_ns = 1_000_000_000 + round(number * 32_000_000 * 1.0001)
        capture.hear(np.full((1536, 1), 0.1, np.float32), arrived_ns, arrived_ns - 40_000_000)
    capture.close()
    (told,) = (record.message for record in caplog.records)
    assert re.fullmatch(r"audio-0: its clock differed by \+(99|100|101) ppm, corrected", told)


def test_a_driver_that_changes_its_mind_about_the_latency_moves_stamps_slowly_and_breaks_nothing() -> None:
    chunks: list[AudioChunk] = []
    capture = MicrophoneCapture(VirtualClock(), Chunker("audio-0"), 48_000, chunks.append)
    sound = np.full((1536, 1), 0.1, np.float32)
    for number in range(1000):
        arrived_ns = 1_000_000_000 + number * 32_000_000
        latency_ns = 300_000_000 if number < 30 else 40_000_000  # PulseAudio's, as it was measured
        capture.hear(sound, arrived_ns, arrived_ns - latency_ns)
    assert not any(chunk.discontinuity for chunk in chunks)
    starts = np.array([chunk.start_ns for chunk in chunks])
    assert np.abs(np.diff(starts) - 32_000_000).max() <= 1_100_000
    assert starts[0] == 700_000_000
    assert starts[-1] == pytest.approx(960_000_000 + (len(chunks) - 1) * 32_000_000, abs=1000)


def test_a_block_that_is_older_than_the_drivers_buffer_is_not_believed() -> None:
    chunks: list[AudioChunk] = []
    clock = VirtualClock()
    capture = MicrophoneCapture(clock, Chunker("audio-0"), 16_000, chunks.append)
    stream = SimpleNamespace(latency=0.128, start=lambda: None)
    capture.start(SimpleNamespace(InputStream=lambda **_: stream), DeviceInfo(0, "pulse", "", True, 16_000, 1))
    sound = np.full((512, 1), 0.1, np.float32)
    for number in range(1000):
        clock.advance_to(1_000_000_000 + number * 32_000_000)
        age_s = 0.43 if number < 30 else 0.0  # PulseAudio's, as it was measured; the sound itself came evenly
        times = SimpleNamespace(currentTime=5.0, inputBufferAdcTime=5.0 - age_s)
        capture._hear(sound, 512, times, SimpleNamespace(input_overflow=False))
    assert capture.pulse.fault is None
    moved_ns = chunks[-1].start_ns - chunks[0].start_ns - (len(chunks) - 1) * 32_000_000
    assert abs(moved_ns) <= 32_000_000, "no more than the block that it is taken for"
