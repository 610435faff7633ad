"""A sentence ends with an exclamation mark where the recogniser found one likely enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mer_agent.streams.emphasis import Emphatic

STOP, SHOUT, WORD = 3, 0, 7


class Model:
    """Says two sentences, whose exclamation marks have probabilities of 0.1 and 0.3."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def generate(self, features: Any, prompts: Any, **options: Any) -> list[Any]:
        self.asked = options
        logits = np.zeros((4, 9), np.float32)
        logits[[0, 2], WORD] = 9.0
        logits[1, SHOUT], logits[1, STOP] = np.log([0.1, 0.9])
        logits[3, SHOUT], logits[3, STOP] = np.log([0.3, 0.7])
        told = {"logits": [list(logits)]} if options.get("return_logits_vocab") else {}
        return [SimpleNamespace(sequences_ids=[[WORD, STOP, WORD, STOP]], scores=[-0.5], no_speech_prob=0.1, **told)]


@pytest.mark.parametrize(
    ("likely", "marks"), [(0.05, [SHOUT, SHOUT]), (0.2, [STOP, SHOUT]), (0.4, [STOP, STOP]), (1.0, [STOP, STOP])]
)
def test_a_likely_exclamation_mark_is_written(likely: float, marks: list[int]) -> None:
    (found,) = Emphatic(Model(), STOP, SHOUT, likely).generate(None, [[1]], beam_size=1)
    assert found.sequences_ids == [[WORD, marks[0], WORD, marks[1]]]
    assert (found.scores, found.no_speech_prob) == ([-0.5], 0.1)


def test_all_else_is_the_models_own() -> None:
    model = Model()
    emphatic = Emphatic(model, STOP, SHOUT, 0.05)
    assert emphatic.device == "cpu"
    (found,) = emphatic.generate(None, [[1]], beam_size=5)
    assert found.sequences_ids == [[WORD, STOP, WORD, STOP]]
    assert model.asked == {"beam_size": 5}
