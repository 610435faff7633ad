"""The rules that every data set goes through."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mer_agent.errors import DataError
from mer_agent.models.data.dialogues import Dialogue, Line, Table, gathered, held_out, ordered

LABELS = ("no", "yes")


def three(**of_first):
    return [
        Dialogue(split, split, "improvised", (replace(Line(f"{split}_0", "Bo", "hm", "yes"), **of_first),))
        for split in ("train", "valid", "test")
    ]


def table(values, **more):
    dialogues = ordered("here", three(**more), LABELS)
    return Table("toy", "toy2", LABELS, dialogues, {"text/a@1": values}, {"text/a@1": torch.ones(3).bool()}, {})


def test_lines_come_in_the_order_of_their_ends_and_speakers_in_that_of_their_appearance():
    lines = (
        Line("late", "Ann", "", "yes", 0.0, 9.0),
        Line("first", "Bo", "", "no", 1.0, 2.0),
        Line("long", "Cy", "", "no", 0.5, 5.0),
        Line("short", "Bo", "", "no", 4.0, 5.0),
    )
    dialogues = ordered("here", [*three()[1:], Dialogue("t", "train", "improvised", lines)], LABELS)
    names = [line.id for line in dialogues[-1].lines]
    assert names == ["first", "long", "short", "late"]
    values = {"text/a@1": torch.arange(6.0)[:, None]}
    corpus = Table("toy", "toy2", LABELS, dialogues, values, {"text/a@1": torch.ones(6).bool()}, {}).corpus()
    assert corpus.part("train").names == names
    assert corpus.part("train").speakers.tolist() == [0, 1, 0, 2]
    assert corpus.part("train").labels.tolist() == [0, 0, 0, 1]
    assert corpus.part("test").dialogue.tolist() == [1]


def test_lines_without_times_stay_as_they_stand():
    lines = tuple(Line(str(i), "a", "", "yes", None, None) for i in (3, 1, 2))
    dialogues = ordered("here", [*three()[1:], Dialogue("t", "train", "", lines)], LABELS)
    assert [line.id for line in dialogues[-1].lines] == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("of_first", "message"),
    [
        ({"label": ""}, "has no label"),
        ({"label": "perhaps"}, "'perhaps'"),
        ({"start_s": 0.0, "end_s": math.nan}, "no proper start"),
        ({"start_s": 2.0, "end_s": 1.0}, "no proper start"),
        ({"id": "same"}, "twice"),
    ],
)
def test_a_line_that_cannot_be_used_is_an_error(of_first, message):
    with pytest.raises(DataError, match=message):
        ordered("here", three(**of_first), LABELS)


@pytest.mark.parametrize("split", [0, 1, 2])
def test_no_split_may_be_empty(split):
    dialogues = three()
    missing = dialogues.pop(split).split
    with pytest.raises(DataError, match=missing):
        ordered("here", dialogues, LABELS)


def test_a_dialogue_needs_lines_and_a_known_split():
    with pytest.raises(DataError, match="no utterances"):
        ordered("here", [*three(), Dialogue("empty", "train", "", ())], LABELS)
    with pytest.raises(DataError, match="'dev'"):
        ordered("here", [*three(), Dialogue("odd", "dev", "", three()[0].lines)], LABELS)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_must_be_numbers(bad):
    with pytest.raises(DataError, match="valid_0 is not finite"):
        table(torch.tensor([[1.0], [bad], [2.0]])).corpus()


def test_features_must_fit_the_lines():
    with pytest.raises(DataError, match="another data set"):
        table(torch.zeros(4, 2)).corpus()
    with pytest.raises(DataError, match="no feature 'audio/b@1'"):
        table(torch.zeros(3, 2)).corpus(["audio/b@1"])


def test_ratings_go_where_the_lines_go():
    assert table(torch.zeros(3, 1)).corpus().batch.affect is None
    rated = table(torch.zeros(3, 1), affect=(1.0, 2.0, 3.0)).corpus().batch.affect
    assert rated.tolist() == [[1.0, 2.0, 3.0]] * 3


def test_held_out_dialogues_are_whole_the_same_and_a_tenth():
    sizes = {f"d{i}": 10 for i in range(50)}
    chosen = held_out(sizes)
    assert len(chosen) == 5
    assert chosen == held_out(dict(reversed(sizes.items())))
    assert held_out({"only": 3}) == {"only"}


def test_rows_follow_the_lines_and_may_be_absent():
    lines = [Line(name, "a", "", "yes") for name in "abc"]
    values, present = gathered("here", {"c": [3.0], "a": [1.0], "z": [9.0]}, lines)
    assert values.tolist() == [[1.0], [0.0], [3.0]]
    assert present.tolist() == [True, False, True]
    with pytest.raises(DataError, match="none of the utterances"):
        gathered("here", {"z": [9.0]}, lines)
    with pytest.raises(DataError, match="2 values, others 1"):
        gathered("here", {"a": [1.0], "b": [1.0, 2.0]}, lines)
