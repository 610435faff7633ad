"""The space in which voices are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mer_agent.streams import voice_space
from mer_agent.streams.voice_space import VoiceSpace


def test_the_package_brings_one_for_ge2e() -> None:
    space = voice_space.load()
    assert space.average.shape == (256,)
    assert space.directions.T @ space.directions == pytest.approx(np.eye(space.directions.shape[1]), abs=0.01)
    assert ((space.taken > 0) & (space.taken < 1)).all()
    assert voice_space.FILE.stat().st_size < 20_000


def test_more_likeness_means_better_odds() -> None:
    space = voice_space.load()
    odds = [space.log_odds(cosine, 3.0, 10.0) for cosine in (-0.2, 0.0, 0.2, 0.4, 0.6, 0.8)]
    assert odds == sorted(odds)
    assert odds[1] < -2
    assert odds[-1] > 3


def test_durations_beyond_the_learned_ones_change_nothing() -> None:
    space = voice_space.load()
    assert space.log_odds(0.5, 6.0, 8.0) == space.log_odds(0.5, 600.0, 8000.0)
    assert space.log_odds(0.5, 0.3, 3.0) == space.log_odds(0.5, 0.001, 3.0)


def test_takes_out_the_average_and_the_directions() -> None:
    east, north = np.eye(3)[0], np.eye(3)[1]
    space = VoiceSpace(np.ones(3), east[:, None], np.array([0.75]), ())
    assert space.place(np.ones(3) + east + north) == pytest.approx(np.array([0.25, 1, 0]) / np.hypot(0.25, 1))
    assert space.place(np.ones(3)) is None
    assert space.place([1.0, np.inf, 0.0]) is None


def test_another_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="256 numbers"):
        voice_space.load().place(np.ones(192))


def test_survives_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    directions = np.asfortranarray(np.linalg.qr(rng.standard_normal((8, 2)))[0])  # as an eigenvector routine gives them
    space = VoiceSpace(rng.standard_normal(8), directions, np.array([0.5, 0.3]), (13.0, -0.5, -0.3, -3.0))
    space.save(tmp_path / "space.safetensors")
    loaded = voice_space.load(tmp_path / "space.safetensors")
    voice = rng.standard_normal(8)
    assert loaded.place(voice) == pytest.approx(space.place(voice), abs=2e-3)
    assert loaded.calibration == space.calibration
