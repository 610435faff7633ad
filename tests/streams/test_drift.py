"""Stamps stay with the session's clock for hours, whatever the sound card's quartz and the scheduler do."""

from collections.abc import Iterator

import numpy as np
import pytest

from mer_agent.streams.drift import DriftClock
from mer_agent.streams.types import NS_PER_S

RATE_HZ = 48_000
BLOCK = 1536  # 32 ms


def reports(
    seconds: float, skew_ppm: float, jitter_ms: float, seed: int = 0, start_ns: int = 5_000_000_000
) -> Iterator[tuple[int, int, int]]:
    """Samples before each block, when it really began, and when it is said to have begun (late, in bursts too)."""
    random = np.random.default_rng(seed)
    for number in range(round(seconds * RATE_HZ / BLOCK)):
        samples = number * BLOCK
        truth_ns = start_ns + int(samples * NS_PER_S / RATE_HZ * (1 + skew_ppm * 1e-6))
        late_ms = random.exponential(jitter_ms) + (200.0 if number % 997 == 996 else 0.0)
        yield samples, truth_ns, truth_ns + int(late_ms * 1e6)


@pytest.mark.parametrize("skew_ppm", [100.0, -100.0])
def test_an_hour_with_a_skewed_quartz_stays_within_20_ms(skew_ppm: float) -> None:
    clock, errors, stamps = DriftClock(RATE_HZ), [], []
    for samples, truth_ns, said_ns in reports(3600, skew_ppm, jitter_ms=5.0):
        assert not clock.observe(samples, said_ns)
        stamps.append(clock.offset_ns + samples * NS_PER_S // RATE_HZ)
        errors.append(abs(stamps[-1] - truth_ns) / 1e6)
    assert max(errors) < 20.0
    assert max(errors[len(errors) // 10 :]) < 3.0  # settled
    assert clock.drift_ppm == pytest.approx(skew_ppm, abs=25)
    assert clock.mean_ppm == pytest.approx(skew_ppm, abs=1)
    assert min(np.diff(stamps)) > 0
    # Counting nominal seconds would have been off by this much.
    assert 3600 * abs(skew_ppm) / 1000 > 300


def test_a_card_without_skew_and_lateness_is_taken_at_its_word() -> None:
    clock = DriftClock(RATE_HZ)
    for samples, truth_ns, said_ns in reports(30, 0.0, jitter_ms=0.0):
        clock.observe(samples, min(said_ns, truth_ns))
        assert clock.offset_ns == 5_000_000_000
    assert clock.drift_ppm == pytest.approx(0.0, abs=0.01)


def test_missing_sound_is_noticed_and_time_is_anchored_anew() -> None:
    clock, noticed_s = DriftClock(RATE_HZ), []
    for samples, truth_ns, said_ns in reports(30, 0.0, jitter_ms=2.0):
        gap_ns = 300_000_000 if samples >= 10 * RATE_HZ else 0  # the card skips 0.3 s and doesn't say so
        if clock.observe(samples, said_ns + gap_ns):
            noticed_s.append(samples / RATE_HZ)
        if samples > 13 * RATE_HZ:
            assert abs(clock.offset_ns + samples * NS_PER_S // RATE_HZ - truth_ns - gap_ns) < 20e6
    assert len(noticed_s) == 1
    assert 10 < noticed_s[0] <= 12


def test_what_the_device_says_is_lost_is_believed_at_once() -> None:
    clock = DriftClock(RATE_HZ)
    assert not clock.observe(0, 0)
    assert clock.observe(BLOCK, 500_000_000, lost=True)
    assert clock.offset_ns == 500_000_000 - BLOCK * NS_PER_S // RATE_HZ


def test_one_late_report_moves_nothing() -> None:
    clock = DriftClock(RATE_HZ)
    for samples, truth_ns, said_ns in reports(20, 0.0, jitter_ms=0.0):
        late_ns = 400_000_000 if samples == 10 * RATE_HZ else 0
        assert not clock.observe(samples, min(truth_ns, said_ns) + late_ns)
        assert clock.offset_ns == 5_000_000_000
