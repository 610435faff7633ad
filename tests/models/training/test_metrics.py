"""The figures against scikit-learn and by hand."""

from __future__ import annotations

import pytest
import torch

from mer_agent.models.training.metrics import calibration_error, fit_sureness, fit_temperature, scores

NAMES = ("a", "b", "c", "d")


def test_they_are_scikit_learns():
    learn = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (200,), generator=generator)  # d never occurs
    probabilities = torch.randn(200, 4, generator=generator).softmax(-1)
    found, called = scores(probabilities, labels, NAMES), probabilities.argmax(-1)
    options = {"labels": range(4), "zero_division": 0}
    assert found["weighted_f1"] == pytest.approx(100 * learn.f1_score(labels, called, average="weighted", **options))
    assert found["macro_f1"] == pytest.approx(100 * learn.f1_score(labels, called, average="macro", **options))
    assert found["accuracy"] == pytest.approx(100 * learn.accuracy_score(labels, called))
    each = 100 * learn.f1_score(labels, called, average=None, **options)
    assert [found["per_class"][name]["f1"] for name in NAMES] == pytest.approx(list(each))
    assert found["n"] == 200


def test_calibration_error_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 0, 1])
    # two at 0.9, half right: gap 0.4; two at 0.6, both right: gap 0.4
    assert calibration_error(probabilities, labels) == pytest.approx(40, abs=1e-4)
    assert calibration_error(probabilities[:0], labels[:0]) == 0


def test_the_temperature_undoes_overconfidence():
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, 4, generator=generator)
    labels = torch.multinomial(honest.softmax(-1), 1, generator=generator).flatten()
    assert fit_temperature(honest * 3, labels) == pytest.approx(3, rel=0.05)
    assert fit_temperature(honest / 2, labels) == pytest.approx(0.5, rel=0.05)


def test_how_sure_it_is_on_average_is_how_often_it_is_right():
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2000, 4, generator=random)
    labels = torch.where(torch.rand(2000, generator=random) < 0.4, logits.argmax(1), 0)  # the logits can't tell when
    likely = (logits / fit_sureness(logits, labels)).softmax(1)
    assert float(likely.amax(1).mean()) == pytest.approx(float((logits.argmax(1) == labels).float().mean()), abs=0.01)
