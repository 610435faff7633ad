from dataclasses import replace
from functools import partial
from random import Random

import pytest
import torch
from support import tiny_iemocap, tiny_meld, tiny_mpnet

from mer_agent.encoders.text import load_model
from mer_agent.encoders.turns import Words
from mer_agent.models.data import text_data
from mer_agent.models.data.text_data import STRETCH, Said, Stretch, Talk, batches, stretches


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_iemocap.write(folder)
    tiny_meld.write(folder)
    words = Words(load_model(tiny_mpnet.make(tmp_path_factory.mktemp("mpnet")), torch.device("cpu"))[1])
    return partial(text_data.load, folder, words)


@pytest.fixture(scope="module")
def talks(load):
    return load()


def talk(lengths):
    said = tuple(Said(at, at % 2, "", (0,) * length, 0, ()) for at, length in enumerate(lengths))
    return Talk("meld", "d", "train", 0, said)


def cut(whole, seed=0):
    return list(stretches(whole, Random(seed)))  # noqa: S311  # not cryptography


def test_both_corpora_are_there_in_their_order(talks):
    assert {one.corpus for one in talks} == {"iemocap", "meld"}
    every = [said for one in talks for said in one.said]
    assert [said.number for said in every] == list(range(len(every)))
    assert all(said.tokens[0] == 0 and said.tokens[-1] == 2 for said in every)
    assert all(one.said[0].speaker == 0 for one in talks)  # numbers in order of appearance


def test_a_dialogue_is_there_as_misheard_too_where_that_is_wanted(load, talks):
    assert not any(one.misheard for one in talks)
    found = load(misheard=True)
    assert [replace(one, misheard=()) for one in found] == talks, "what was said stays as it is"
    said = [own for one in found for own in one.said]
    heard = [own for one in found for own in one.misheard]
    assert [own.number for own in heard] == list(range(len(said), 2 * len(said))), "numbers go on"
    assert [(own.label, own.speaker) for own in heard] == [(own.label, own.speaker) for own in said]
    assert 0 < sum(one.text != other.text for one, other in zip(said, heard, strict=True)) < len(said)
    assert load(misheard=True)[0].misheard == found[0].misheard, "the same errors each time"


def test_every_training_dialogue_is_in_one_part_and_no_other_is(talks):
    assert {one.fold for one in talks if one.split == "train"} <= {0, 1, 2}
    assert {one.fold for one in talks if one.split != "train"} == {-1}
    assert len({one.fold for one in talks if one.split == "train"}) > 1


def test_stretches_hold_every_utterance_once_in_order_and_fit():
    whole = talk([20, 30, 90, 10, 100, 40, 5] * 3)
    for seed in range(5):
        pieces = cut(whole, seed)
        assert [said.number for piece in pieces for said in piece.said] == list(range(21))
        assert all(len(piece) <= STRETCH for piece in pieces)
    assert len({len(cut(whole, seed)[0]) for seed in range(9)}) > 1  # cuts vary


def test_an_utterance_longer_than_a_stretch_stands_alone():
    pieces = cut(talk([10, STRETCH + 50, 10]))
    assert [len(piece.said) for piece in pieces] == [1, 1, 1]


def test_batches_keep_all_pieces_within_the_tokens_allowed():
    pieces = [Stretch("meld", talk([length]).said) for length in (5, 60, 7, 90, 8, 300)]
    groups = batches(pieces, 128)
    assert sorted(len(piece) for group in groups for piece in group) == [5, 7, 8, 60, 90, 300]
    assert all(len(group) == 1 or len(group) * max(map(len, group)) <= 128 for group in groups)
