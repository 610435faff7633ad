"""The bench of encoders measures what is there and says what is not."""

from __future__ import annotations

import pytest

from mer_agent.encoders import base
from mer_agent.encoders.whisper_steps import WhisperStepsEncoder
from mer_agent.encoders.words import WordEncoder
from mer_agent.errors import WeightsError
from mer_agent.models.bench.encoders import BATCH, bench, measure


def test_measures_one_by_one_and_in_a_batch() -> None:
    sizes: list[int] = []

    class Counting(WordEncoder):
        def encode(self, utterances, past_turns=()):
            sizes.append(len(utterances))
            assert len(past_turns) == len(utterances)
            assert all(row is not None for row in WhisperStepsEncoder().encode(utterances)), "all there is to hear"
            return super().encode(utterances, past_turns)

    figures = measure(Counting())
    assert set(sizes) == {1, BATCH}
    assert figures["single_ms"] > 0
    assert figures["batch_per_s"] > 0


def test_leaves_out_what_has_not_been_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(feature: str, device: str) -> WordEncoder:
        if feature == "text/gone@1":
            raise WeightsError("not pulled; run: mer-agent weights pull")
        return WordEncoder()

    monkeypatch.setattr(base, "features", lambda: ("text/gone@1", "text/words@1"))
    monkeypatch.setattr(base, "create", create)
    figures = bench()
    assert figures["missing"] == ["text/gone@1"]
    assert figures["ratio"] == pytest.approx(figures["encoders"]["text/words@1"]["cpu"]["single_ms"] / 3000)
    assert figures["machine"]["cpu"]
