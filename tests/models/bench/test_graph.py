"""The bench on a short walk: it measures what it says. How flat the cost is, is for the real run to tell."""

from __future__ import annotations

import pytest
import torch

from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import FeatureSpec
from mer_agent.models.bench.graph import _copy, bench


@pytest.fixture
def model():
    torch.manual_seed(0)
    specs = (FeatureSpec("text/t@1", "text", 6), FeatureSpec("audio/a@1", "audio", 3))
    return ARIIGCN(specs, 3, Shape(dimension=8, hidden=8, heads=2)).eval()


def test_it_reports_every_length(model):
    seen = []
    result = bench(model, (10, 60), repeats=6, progress=seen.append)
    assert set(result["median_us"]) == {"10", "60"}
    assert result["ratio"] == pytest.approx(result["median_us"]["60"] / result["median_us"]["10"], rel=0.02)
    assert result["repeats"] == 6
    assert seen == [0]


def test_a_copy_is_whole_and_apart(model):
    stream = model.stream()
    stream.append("a", 0, {"text/t@1": torch.ones(6)})
    other = _copy(stream)
    assert other._model is model
    turn = {"audio/a@1": torch.ones(3)}
    assert torch.equal(other.append("b", 1, turn).probabilities, stream.preview(1, turn).probabilities)
    assert (len(stream), len(other)) == (1, 2)
