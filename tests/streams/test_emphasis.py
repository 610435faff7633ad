"""A sentence ends with an exclamation mark where the recogniser found one likely enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mer_agent.streams.emphasis import Emphatic

STOP, SHOUT, WORD = 3, 0, 7


FEATURES = np.zeros((1, 750, 512), np.float32)
PROMPT = [1, 2, 9]
"""Start, language, and that no times are wanted."""


class Model:
    """Says two sentences, whose exclamation marks have probabilities of 0.1 and 0.3 where a full stop was before."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def generate(self, features: Any, prompts: Any, **options: Any) -> list[Any]:
        self.asked = options
        return [SimpleNamespace(sequences_ids=[[WORD, STOP, WORD, STOP]], scores=[-0.5], no_speech_prob=0.1)]

    def align(self, features: Any, start: Any, texts: Any, frames: int) -> list[Any]:
        assert (start, frames) == ([1, 2], 1500)
        (tokens,) = texts
        shouts = {1: 0.1, 3: 0.9 if SHOUT in tokens[:3] else 0.3}
        said = [
            {WORD: 1.0, SHOUT: shouts.get(at), STOP: 1 - shouts.get(at, 0)}[token] for at, token in enumerate(tokens)
        ]
        return [SimpleNamespace(text_token_probs=said)]


@pytest.mark.parametrize(
    ("likely", "marks"), [(0.05, [SHOUT, SHOUT]), (0.2, [STOP, SHOUT]), (0.4, [STOP, STOP]), (1.0, [STOP, STOP])]
)
def test_a_likely_exclamation_mark_is_written(likely: float, marks: list[int]) -> None:
    (found,) = Emphatic(Model(), STOP, SHOUT, likely).generate(FEATURES, [PROMPT], beam_size=5)
    assert found.sequences_ids == [[WORD, marks[0], WORD, marks[1]]]
    assert (found.scores, found.no_speech_prob) == ([-0.5], 0.1)


def test_all_else_is_the_models_own() -> None:
    model = Model()
    emphatic = Emphatic(model, STOP, SHOUT, 1.0)
    assert emphatic.device == "cpu"
    (found,) = emphatic.generate(FEATURES, [PROMPT], beam_size=5)
    assert found.sequences_ids == [[WORD, STOP, WORD, STOP]]
    assert model.asked == {"beam_size": 5}


def test_nothing_said_asks_for_no_marks() -> None:
    model = Model()
    model.align = None  # type: ignore[assignment]
    model.generate = lambda *_, **__: [SimpleNamespace(sequences_ids=[[]], scores=[-0.5], no_speech_prob=0.9)]  # type: ignore[method-assign]
    assert Emphatic(model, STOP, SHOUT, 0.2).generate(FEATURES, [PROMPT])[0].sequences_ids == [[]]
