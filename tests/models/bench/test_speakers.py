"""The error of telling voices apart: confusion and misses in seconds, under the best match."""

from __future__ import annotations

import numpy as np
import pytest

from mer_agent.models.bench.speakers import error_s, score
from mer_agent.models.perception.fit_voice_space import Voices


def voices(speakers: str, durations_s: list[float]) -> Voices:
    n = len(speakers)
    return Voices(np.zeros((n, 4)), np.array(durations_s), np.array(list(speakers)), np.zeros(n, np.bool_))


def test_numbers_are_matched_as_well_as_possible_and_weighed_by_their_seconds() -> None:
    said = voices("aabb", [1.0, 2.0, 3.0, 4.0])
    assert error_s([7, 7, 0, 0], said) == (0.0, 0.0)
    assert error_s([0, 0, 0, 1], said) == (3.0, 0.0)
    assert error_s([0, None, 1, 1], said) == (0.0, 2.0)
    assert error_s([None] * 4, said) == (0.0, 10.0)


def test_a_voice_in_two_parts_costs_the_smaller_one() -> None:
    assert error_s([0, 1, 2, 2], voices("aabb", [1.0, 2.0, 3.0, 4.0])) == (1.0, 0.0)


def test_shares_are_of_all_speech() -> None:
    conversations = [voices("ab", [1.0, 3.0]), voices("aa", [2.0, 2.0])]
    found = score(conversations, lambda one: [0, 0])
    shares = {"error": 1 / 8, "confusion": 1 / 8, "missed": 0.0, "right_number": 0.5}
    assert found == pytest.approx(shares | {"error_1": 0.0, "error_2": 1 / 4})
