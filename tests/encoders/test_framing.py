"""Where frames lie, and cutting them out."""

from __future__ import annotations

import numpy as np
import pytest

from mer_agent.encoders.framing import cut, frames, local_means


def test_frames_are_evenly_spaced_and_centred() -> None:
    grid = frames(16_000, 16_000, window_s=0.04, step_s=0.01)
    assert grid.count == 97
    assert grid.first_s - 0.02 == pytest.approx(1 - (grid.times_s[-1] + 0.02))
    assert np.diff(grid.times_s) == pytest.approx(0.01)
    assert [grid.nearest(t) for t in grid.times_s] == list(range(97))


@pytest.mark.parametrize(("samples", "count"), [(0, 0), (639, 0), (640, 1), (799, 1), (800, 2)])
def test_as_many_as_fit(samples: int, count: int) -> None:
    assert frames(samples, 16_000, window_s=0.04, step_s=0.01).count == count


def test_cut_reaches_over_both_ends_with_zeros() -> None:
    x = np.arange(1.0, 6.0)
    assert cut(x, np.array([-2, 0, 3]), 4).tolist() == [[0, 0, 1, 2], [1, 2, 3, 4], [4, 5, 0, 0]]


def test_local_means_take_as_many_samples_before_as_after_the_gap() -> None:
    x = np.array([0.0, 2.0, 4.0, 9.0, 1.0])
    assert local_means(x, np.array([1, 2]), 1).tolist() == [3.0, 6.5]
    assert local_means(x, np.array([0]), 3).tolist() == [pytest.approx(15 / 4)]  # what there is of it
