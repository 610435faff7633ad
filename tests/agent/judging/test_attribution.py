"""What predictions are worth beside the truth: missed, split, merged, invented, and the loss that each stage makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mer_agent.judging.attribution import Played, attribute, heard, interval, judged, score, word_errors
from mer_agent.judging.truth import Case, Truth
from mer_agent.streams.types import NS_PER_S, Prediction, Transcript, Utterance

LABELS = ("joy", "anger")
STAGES = ("features", "segmentation", "words", "speakers")


def truth(start_s: float, end_s: float, label: str | None = "joy", speaker: str = "ann", text: str = "a b") -> Truth:
    return Truth(
        label=label, speaker=speaker, text=text, start_ns=int(start_s * NS_PER_S), end_ns=int(end_s * NS_PER_S)
    )


def said(start_s: float, end_s: float, joy: float | None, speaker: int | None = 0, text: str = "a b") -> Prediction:
    utterance = Utterance("u", speaker, int(start_s * NS_PER_S), int(end_s * NS_PER_S), transcript=Transcript(text))
    distribution = {} if joy is None else {"joy": joy, "anger": 1 - joy}
    return Prediction(utterance, "final", 0, "two", distribution, None, 0.0, (), (), 0, "fake")


def played(told: Sequence[Truth], predictions: Sequence[Prediction], kind: str = "made") -> Played:
    return Played(Case(Path("x.wav"), kind, tuple(told)), frozenset(), tuple(predictions))


def test_an_utterance_is_told_what_overlaps_it_weighted_by_how_long() -> None:
    one = played([truth(0, 4), truth(5, 6, "anger")], [said(0, 1, 1.0), said(1, 4, 0.2), said(5, 5.5, None)])
    told, wanted = judged([one], LABELS)
    torch.testing.assert_close(told, torch.tensor([[0.4, 0.6, 0.0], [0.0, 0.0, 1.0]]))
    assert wanted.tolist() == [0, 1]


def test_what_was_missed_is_wrong_and_says_nothing_of_calibration() -> None:
    one = played([truth(0, 1), truth(2, 3, "anger"), truth(4, 5, "anger"), truth(6, 7, None)], [said(0, 5, 0.9)])
    figures = score(*judged([one], LABELS), LABELS)
    assert (figures["n"], figures["missed"]) == (3, 0)
    assert figures["accuracy"] == pytest.approx(33.33)
    figures = score(*judged([played(one.case.truth, [said(0, 1, 0.9)])], LABELS), LABELS)
    assert (figures["missed"], figures["accuracy"], figures["ece"]) == (
        2,
        pytest.approx(33.33),
        pytest.approx(10, abs=0.1),
    )


def test_labels_that_do_not_occur_weigh_nothing() -> None:
    figures = score(*judged([played([truth(0, 1)], [said(0, 1, 0.9)])], LABELS), LABELS)
    assert figures["weighted_f1"] == figures["macro_f1"] == 100


def test_how_speech_was_cut_written_and_told_apart() -> None:
    told = [truth(0, 2), truth(3, 5, speaker="bob"), truth(6, 7, speaker="bob"), truth(8, 9), truth(10, 11)]
    predictions = [said(0, 1, 0.5), said(1, 2, 0.5), said(3, 7, 0.5, 1), said(8, 9, 0.5, 1), said(20, 21, 0.5, 0)]
    found = heard([played(told, predictions)])
    assert {key: found[key] for key in ("missed", "split", "merged", "invented")} == {
        "missed": 20,
        "split": 20,
        "merged": 40,
        "invented": 20,
    }
    assert found["word_errors"] == pytest.approx(0)
    assert found["speaker_errors"] == pytest.approx(100 / 6, abs=0.01)  # one of the six seconds that were heard


def test_what_nobody_knows_is_not_made_up() -> None:
    found = heard([played([Truth(label="joy", start_ns=0, end_ns=NS_PER_S)], [said(0, 1, 0.5)])])
    assert found["word_errors"] is None
    assert found["speaker_errors"] is None
    assert heard([])["missed"] is None


def test_each_stage_gets_what_is_lost_at_its_step() -> None:
    told = [truth(0, 1), truth(2, 3, "anger")]
    right, wrong = [said(0, 1, 0.9), said(2, 3, 0.1)], [said(0, 1, 0.9), said(2, 3, 0.8)]
    steps = [[played(told, own)] for own in (right, right, wrong, wrong, wrong)]
    figures = attribute(steps, {"segmentation": [played(told, right)]}, LABELS, STAGES)
    assert [step["stage"] for step in figures["steps"]] == ["gold", *STAGES]
    lost = [step.get("lost") for step in figures["steps"]]
    assert lost[:2] == [None, 0]
    assert lost[2] == pytest.approx(66.67, abs=0.01)
    assert sum(one for one in lost if one) == pytest.approx(figures["drop"]["weighted_f1"])
    assert figures["if_perfect"]["segmentation"]["gained"] == pytest.approx(66.67, abs=0.01)
    assert "kinds" not in figures


def test_kinds_are_told_apart() -> None:
    steps = [[played([truth(0, 1)], [said(0, 1, 0.9)], kind) for kind in ("b", "a")]] * 5
    kinds = attribute(steps, {}, LABELS, STAGES)["kinds"]
    assert list(kinds) == ["a", "b"]
    assert kinds["a"]["steps"][0]["n"] == 1


def test_the_interval_holds_the_drop_and_is_nothing_where_nothing_differs() -> None:
    wanted = torch.tensor([0, 1] * 50)
    right = torch.nn.functional.one_hot(wanted, 3).float()
    worse = right.clone()
    worse[:30] = worse[:30].flip(1)[:, [1, 2, 0]]
    assert interval((right, wanted), (right, wanted), 2) == (0, 0)
    low, high = interval((right, wanted), (worse, wanted), 2)
    assert 0 < low < 100 - score(worse, wanted, LABELS)["weighted_f1"] < high


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_word_errors_are_a_distance(one: list[str], other: list[str]) -> None:
    errors = word_errors(one, other)
    assert errors == word_errors(other, one)
    assert (errors == 0) == (one == other)
    assert abs(len(one) - len(other)) <= errors <= max(len(one), len(other))


def test_word_errors_count_each_word_once() -> None:
    assert word_errors(["the", "cat", "sat"], ["a", "cat", "sat", "down"]) == 2
