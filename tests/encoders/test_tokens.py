"""Token states: what the sentence encoder averages, one by one."""

from __future__ import annotations

import pytest
import torch
from support import encoder_contract, tiny_mpnet

from mer_agent.encoders.sequences import take_apart
from mer_agent.encoders.text import TextEncoder
from mer_agent.encoders.tokens import TokenEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_mpnet.make(tmp_path_factory.mktemp("mpnet"))


def test_it_keeps_the_contract(folder):
    encoder_contract.check(TokenEncoder("cpu", folder))


def test_the_mean_of_the_states_is_the_sentence_embedding(folder):
    texts = ["i am so glad", "yes", "what a day is this , the table is oak !"]
    whole = TextEncoder("mpnet", "cpu", folder)
    whole._layers = (tiny_mpnet.LAYERS,)  # the tiny one has no twelve
    sentences = whole.encode_texts(texts)
    for row, sentence in zip(TokenEncoder("cpu", folder).encode_texts(texts), sentences, strict=True):
        steps, there = take_apart(row[None], 48)
        mean = steps[0][there[0]].mean(0)
        torch.testing.assert_close(mean / mean.norm(), sentence, atol=1e-5, rtol=0)


def test_a_long_utterance_is_cut(folder):
    (row,) = TokenEncoder("cpu", folder).encode_texts(["yes " * 200])
    assert row.shape == (48 * tiny_mpnet.WIDTH,)
    assert bool(take_apart(row[None], 48)[1].all())
