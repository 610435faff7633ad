"""Correlation between samples, and its peaks."""

from __future__ import annotations

import numpy as np
import pytest

from mer_agent.encoders.lags import correlation, peaks


@pytest.mark.parametrize("fineness", [1, 2, 4])
def test_is_the_sum_of_products_on_whole_samples(fineness: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 50)).astype(np.float32), rng.standard_normal((3, 80)).astype(np.float32)
    found = correlation(a, b, 30, fineness)
    assert found.shape == (3, 30 * fineness + 1)
    for lag in range(31):
        expected = (a * b[:, lag : lag + 50]).sum(axis=1)
        assert found[:, lag * fineness] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("period", [20.0, 33.3, 71.77, 100.5])
def test_finds_a_period_between_samples(period: float) -> None:
    x = np.cos(2 * np.pi * np.arange(1200) / period).astype(np.float32)
    window = np.hanning(1200).astype(np.float32)
    r = correlation((x * window)[None], (x * window)[None], 150) / correlation(window[None], window[None], 150)
    found = peaks(r / r[:, :1], 0.5)
    assert found.frame.tolist() == [0] * len(found.lag)
    assert found.lag[0] == pytest.approx(period, rel=2e-3)
    assert found.height[0] == pytest.approx(1, abs=0.01)


def test_a_peak_below_the_threshold_is_none() -> None:
    r = np.zeros((2, 41), dtype=np.float32)
    r[0, 20], r[1, 20] = 0.4, 0.6
    assert peaks(r, 0.5).frame.tolist() == [1]
