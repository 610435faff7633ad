"""Learning how to tell voices apart, on voices that were drawn: a speaker is a point, a mood moves everybody alike."""

from __future__ import annotations

import numpy as np
import pytest

from mer_agent.models.perception.fit_voice_space import Voices, cluster, fit, follow, invented, report, right

DIMENSION = 32


def crowd(speakers: int, seed: int, mood: float = 1.0) -> Voices:
    """Sixty utterances each, whole and short ones; the first two axes are moods, the rest the speaker and chance."""
    rng = np.random.default_rng(seed)
    points = np.pad(rng.standard_normal((speakers, DIMENSION - 2)), ((0, 0), (2, 0))) * 0.15
    number = np.repeat(np.arange(speakers), 60)
    short = np.tile([False, True], len(number) // 2)
    noise = rng.standard_normal((len(number), DIMENSION)) * np.where(short, 0.08, 0.05)[:, None]
    noise[:, :2] += mood * rng.standard_normal((len(number), 2))
    names = np.array([f"{seed}-{one}" for one in number])
    return Voices(1 + points[number] + noise, np.where(short, 0.8, 3.0), names, short)


def test_takes_moods_out_and_hears_the_speakers() -> None:
    known, unheard = crowd(12, seed=1), crowd(8, seed=2)
    space = fit([known], invented(known), rank=2)
    assert np.abs(space.directions[:2]).sum() == pytest.approx(np.abs(space.directions).sum(), rel=0.15)
    conversations = invented(unheard, seed=3)
    total = sum(len(voices) for voices in conversations)
    online = sum(right(follow(space, voices), voices.speakers.tolist()) for voices in conversations) / total
    plain = sum(right(cluster(None, voices), voices.speakers.tolist()) for voices in conversations) / total
    assert online > 0.9
    assert online > plain + 0.1


def test_calibrated_odds_say_how_often_two_voices_are_the_same() -> None:
    known = crowd(12, seed=1)
    space = fit([known], invented(known), rank=2)
    voices = crowd(10, seed=4)
    places = np.array([space.place(e) for e in voices.embeddings])
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(voices), size=(2, 4000))
    odds = np.array(
        [space.log_odds(float(places[i] @ places[j]), 3.0, 3.0) for i, j in zip(first, second, strict=True)]
    )
    same = voices.speakers[first] == voices.speakers[second]
    assert (odds[same] > 0).mean() > 0.8
    assert (odds[~same] < 0).mean() > 0.8


def test_numbers_are_matched_to_names_as_well_as_possible() -> None:
    assert right([1, 1, 0, 0], ["a", "a", "b", "b"]) == 4
    assert right([0, 0, 0, 0], ["a", "a", "b", "a"]) == 3
    assert right([0, None, 1, 2], ["a", "a", "b", "b"]) == 2
    assert right([None, None], ["a", "b"]) == 0


def test_the_report_counts_unknown_as_wrong() -> None:
    voices = crowd(2, seed=5).take(np.array([0, 1, 60, 61]))
    line = report("test", [voices], lambda _: [0, None, 1, 1])
    assert "accuracy 0.750" in line
    assert "unknown 0.250" in line
    assert "right number 1.00" in line
