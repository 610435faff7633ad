"""Buckets of words: the same everywhere, in order, cut at the end."""

from __future__ import annotations

import zlib

import torch

from mer_agent.encoders.base import Encoder
from mer_agent.encoders.words import BUCKETS, LONGEST, WordEncoder


def test_it_is_an_encoder():
    assert isinstance(WordEncoder(), Encoder)


def test_words_and_marks_in_order():
    (row,) = WordEncoder().encode_texts(["Don't go -- please!"])
    words = ["don't", "go", "please", "!"]
    assert row.tolist()[:5] == [1 + zlib.crc32(word.encode()) % BUCKETS for word in words] + [0]
    assert (row.shape, row.dtype) == ((LONGEST,), torch.float32)


def test_buckets_survive_as_float():
    assert torch.tensor(float(BUCKETS)).long() == BUCKETS


def test_nothing_said_is_absent():
    assert WordEncoder().encode_texts(["", "   ", "--", "hm"])[:3] == [None] * 3


def test_a_long_speech_is_cut():
    (row,) = WordEncoder().encode_texts(["well " * 100])
    assert len(row) == LONGEST
    assert len(row.unique()) == 1
