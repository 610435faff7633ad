"""The measures are scikit-learn's, and the statistics say what is known of made-up runs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score
from support import made_records

from mer_agent.models.bench import figures
from mer_agent.models.training.recipe import Recipe
from mer_agent.models.training.records import unpack


def runs(skill, count=4, first=0):
    return [made_records.record(Recipe(), first + seed, skill=skill) for seed in range(count)]


def test_the_measures_agree_with_those_of_the_run():
    record = made_records.record(Recipe(), 3, skill=0.6)
    found = figures.measures(record)
    for key in ("weighted_f1", "macro_f1", "accuracy"):
        assert found[key] == pytest.approx(record["test"][key])
    assert found["ece"] == pytest.approx(record["test"]["ece"], abs=0.05)  # confidences have three digits
    for label, scored in record["test"]["per_class"].items():
        assert found["per_class"][label] == pytest.approx(scored["f1"])


def test_weighted_average_accuracy_has_two_readings():
    found = figures.measures(made_records.record(Recipe(), 1))
    labels, called, _ = unpack(made_records.record(Recipe(), 1)["predictions"]["test"])
    assert found["waa"] == found["accuracy"]
    counts = np.bincount(labels)
    recalls = np.array([(called[labels == k] == k).float().mean() for k in range(3)])
    assert found["waa_inverse"] == pytest.approx(100 * (recalls / counts).sum() / (1 / counts).sum(), rel=1e-5)
    assert found["waa_inverse"] != pytest.approx(100 * balanced_accuracy_score(labels, called))


def test_kinds_of_dialogue_are_scored_apart():
    record = made_records.record(Recipe(), 2)
    labels, called, _ = unpack(record["predictions"]["test"])
    kinds = np.repeat(*np.array(record["predictions"]["test"]["dialogues"], dtype=object).T.tolist())
    for kind, score in figures.by_kind(record).items():
        own = kinds == kind
        expected = 100 * f1_score(labels[own], called[own], average="weighted", zero_division=0)
        assert score == pytest.approx(expected)


def test_the_best_test_epoch_is_not_the_chosen_one():
    record = made_records.record(Recipe())
    assert figures.best_on_test(record)["weighted_f1"] == pytest.approx(record["test"]["weighted_f1"] + 2)
    clean, paper = (figures.summary([record], protocol) for protocol in figures.PROTOCOLS)
    assert paper["weighted_f1"]["mean"] == pytest.approx(clean["weighted_f1"]["mean"] + 2, abs=0.011)
    assert set(paper) == {"weighted_f1", "accuracy"}  # nothing else is known of an epoch that was not kept
    assert clean["weighted_f1"]["deviation"] is None


def test_a_real_gain_is_told_from_none():
    good, bad, alike = runs(0.9), runs(0.3), runs(0.3, first=50)
    gained = figures.compare(good, bad)
    expected = np.mean([r["test"]["weighted_f1"] for r in good]) - np.mean([r["test"]["weighted_f1"] for r in bad])
    assert gained["difference"] == pytest.approx(expected, abs=0.01)
    low, high = gained["interval"]
    assert 0 < low < gained["difference"] < high
    assert gained["p"] < 0.01
    nothing = figures.compare(alike, bad)
    low, high = nothing["interval"]
    assert low < 0 < high
    assert nothing["p"] > 0.05
    assert figures.compare(good, bad) == gained  # the draw is fixed


def test_a_single_run_has_no_t_test():
    assert figures.compare(runs(0.9, 1), runs(0.3, 1))["p"] is None


def test_the_confusion_is_a_share_of_each_label():
    table = figures.confusion(runs(0.8))
    np.testing.assert_allclose(table.sum(1), 100)
    assert (table.argmax(1) == np.arange(3)).all()
