"""Noises as loud as they say, over the speech alone, and a table of what they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mer_agent.config.settings import load
from mer_agent.encoders import weights
from mer_agent.errors import WeightsError
from mer_agent.judging.robustness import RATIOS_DB, SMALLER, Row, babble, bench, hum, markdown, mixed, music, talker
from mer_agent.judging.truth import Truth
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ

VOICES = [np.random.default_rng(seed).normal(0, 0.1 * seed, 4000).astype(np.float32) for seed in range(1, 6)]
NOISES = {
    "babble": lambda length, random: babble(length, VOICES, random),
    "music": music,
    "hum": hum,
    "somebody else": lambda length, random: talker(length, VOICES, random),
}


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_as_long_as_asked_and_the_same_again(name: str) -> None:
    one, again, other = (NOISES[name](30_001, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.shape == (30_001,)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("ratio_db", RATIOS_DB)
def test_the_ratio_counts_speech_without_its_pauses(ratio_db: int) -> None:
    clean = np.zeros(4 * SAMPLE_RATE_HZ, np.float32)
    clean[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ] = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ)
    noise = np.random.default_rng(1).standard_normal(len(clean)).astype(np.float32)
    truth = [Truth(start_ns=NS_PER_S, end_ns=2 * NS_PER_S)]
    added = mixed(clean, noise, truth, ratio_db) - clean
    power = float(np.mean(clean[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ] ** 2))
    assert 10 * np.log10(power / np.mean(added**2)) == pytest.approx(ratio_db, abs=0.1)


def test_the_ratio_is_that_of_the_middle_turn_and_not_of_the_loudest() -> None:
    clean = np.full(3 * SAMPLE_RATE_HZ, 0.01, np.float32)
    clean[:SAMPLE_RATE_HZ] = 0.5  # a shout
    noise = np.random.default_rng(0).normal(0, 1, len(clean)).astype(np.float32)
    truth = [Truth(start_ns=at * NS_PER_S, end_ns=(at + 1) * NS_PER_S) for at in range(3)]
    added = mixed(clean, noise, truth, 20) - clean
    assert 10 * np.log10(0.01**2 / np.mean(added**2)) == pytest.approx(20, abs=0.1)


def test_what_would_be_clipped_is_softer_as_a_whole() -> None:
    clean = np.full(SAMPLE_RATE_HZ, 0.9, np.float32)
    both = mixed(clean, clean, [Truth(start_ns=0, end_ns=NS_PER_S)], 0)
    assert both.max() == pytest.approx(1.0)


def test_voices_of_a_babble_are_equally_loud() -> None:
    loud = babble(8000, [VOICES[0]], np.random.default_rng(0))
    soft = babble(8000, [VOICES[0] / 100], np.random.default_rng(0))
    assert np.allclose(loud, soft, rtol=1e-3)


def test_weights_that_are_missing_are_told_before_anything_is_measured(tmp_path: Path) -> None:
    settings = load(assignments=[f"weights.dir={tmp_path}"]).settings
    said: list[str] = []
    try:
        with pytest.raises(WeightsError, match=SMALLER):
            bench(settings, tmp_path, tmp_path, say=said.append)
    finally:
        weights.set_directory(None)
    assert not said


def test_the_table_has_a_line_for_each_condition(tmp_path: Path) -> None:
    scored = {"weighted_f1": 50.0, "accuracy": 51.0, "ece": 5.0, "missed": 1, "n": 9}
    rows = [Row("sound", "hum, 0 dB", {**scored, "heard": {"word_errors": 12.34}}), Row("faces", "dark", scored)]
    assert str(rows[0]).endswith("wrong words 12.34")
    figures = {"checkpoint": "x", "utterances": 9, "conversations": 1, "faces": 10}
    table = markdown({**figures, "rows": [{"part": r.part, "condition": r.condition, **r.figures} for r in rows]})
    assert "| sound | hum, 0 dB | 50.0 | 51.0 | 5.0 | 1 | 12.3 | 9 |" in table
    assert "| faces | dark | 50.0 | 51.0 | 5.0 | 1 |  | 9 |" in table
