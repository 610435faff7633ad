import os
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from support import needs

from mer_agent.bench.latency import TAIL_S, Delivery, Heard, compare, compose, cpu_s, delays_s, latency
from mer_agent.config.settings import Settings
from mer_agent.errors import FaultError, MediaError
from mer_agent.streams.types import SAMPLE_RATE_HZ

SESSION = Path(__file__).parents[2] / "sessions" / "two-voices" / "audio-0.flac"


def test_a_result_counts_for_the_end_of_speech_it_is_about() -> None:
    found = delays_s([1.0, 3.0, 6.0], [Delivery(1.1, 1.5), Delivery(2.0, 2.4), Delivery(6.0, 6.9), Delivery(6.1, 7.5)])
    assert found == [pytest.approx(0.5), None, pytest.approx(0.9)]


def test_ratios_are_over_the_ends_that_both_delivered() -> None:
    ours = Heard([Delivery(1.0, 1.5), Delivery(3.0, 3.5), Delivery(6.0, 16.0)], cpu_s=2.0)
    theirs = Heard([Delivery(1.0, 2.0), Delivery(3.0, 4.0)])
    figures = compare([1.0, 3.0, 6.0], {"agent": ours, "sequential": theirs, "realtimestt": theirs})
    assert figures["ratio"] == figures["ratio_p95"] == pytest.approx(0.5)
    assert figures["ratios"]["realtimestt"]["ends"] == 2
    assert figures["systems"]["agent"]["missed"] == 0
    assert figures["systems"]["agent"]["p95_s"] > 5  # the slow one still counts for us
    assert figures["systems"]["realtimestt"]["missed"] == 1


def test_who_delivers_nothing_has_no_figures() -> None:
    figures = compare([1.0], {"agent": Heard([Delivery(1.0, 1.5)]), "realtimestt": Heard()})
    assert figures["systems"]["realtimestt"]["p50_s"] is None
    assert "ratio" not in figures


def test_the_sound_is_silent_where_speech_is_said_to_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "made.wav"
    ends_s, whole_s = compose([SESSION], path, 25.0)
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(whole_s)
    assert 20.0 < whole_s - TAIL_S <= 25.0
    assert len(ends_s) >= 5
    for end_s in ends_s:
        at = round(end_s * SAMPLE_RATE_HZ)
        spoken, after = samples[at - SAMPLE_RATE_HZ // 2 : at], samples[at + 4800 : at + SAMPLE_RATE_HZ]
        assert np.sqrt(np.mean(spoken**2)) > 10 * np.sqrt(np.mean(after**2))


def test_a_recording_in_which_nobody_speaks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes(bytes(2 * SAMPLE_RATE_HZ))
    with pytest.raises(MediaError, match="nobody says anything"):
        compose([path], tmp_path / "made.wav", 10.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc is Linux's")
def test_cpu_time_counts_what_a_process_has_started() -> None:
    busy = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.3: pass\ntime.sleep(30)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {busy!r}]); time.sleep(30)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        for _ in range(200):
            if (cpu_s(process.pid) or 0.0) >= 0.3:
                break
            time.sleep(0.05)
        assert (cpu_s(process.pid) or 0.0) >= 0.3
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    assert cpu_s(process.pid) is None


def test_a_system_that_fails_says_why() -> None:
    broken = Settings.model_validate({"model": {"checkpoint": "nobody"}})
    needs.weights("whisper-base")
    with pytest.raises(FaultError, match=r"agent failed: .*no checkpoint is called 'nobody'"):
        latency(broken, [SESSION], 5.0, ("agent",))


@pytest.mark.real_weights
def test_the_agent_and_the_sequential_pipeline_deliver_every_end() -> None:
    for name in needs.AGENT:
        needs.weights(name)
    said: list[str] = []
    figures = latency(Settings(), [SESSION], 8.0, ("agent", "sequential"), said.append)
    assert figures["ends"] >= 2
    for name in ("agent", "sequential"):
        of = figures["systems"][name]
        assert of["missed"] == 0, figures
        assert 0.32 < of["p50_s"] <= of["p95_s"] < 30, figures
    assert figures["systems"]["sequential"]["p50_s"] > 0.5
    assert figures["systems"]["agent"]["stages_ms"]["endpoint"] == 320 + 28  # the detector is late
    assert figures["ratio"] == figures["ratios"]["sequential"]["p50"]
