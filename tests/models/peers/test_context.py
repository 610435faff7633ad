"""Padding and its undoing, and attention against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.peers.context import ContextAttention, Layout, MultiHead, Recurrent, SideBySide, speaker_slots

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def dialogues(lengths):
    return torch.repeat_interleave(torch.arange(len(lengths)) * 3 % 7, torch.tensor(lengths))


@settings(deadline=None, max_examples=30)
@given(LENGTHS)
def test_padding_is_undone(lengths):
    layout, rows = Layout.of(dialogues(lengths)), torch.randn(sum(lengths), 2)
    block = layout.pad(rows)
    assert block.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(layout.flat(block), rows)
    for k, part in enumerate(rows.split(lengths)):
        assert torch.equal(block[k, : lengths[k]], part)
        assert not block[k, lengths[k] :].any()
        assert torch.equal(layout.backwards().pad(rows)[k, : lengths[k]], part.flip(0))
    assert torch.equal(layout.backwards().flat(layout.backwards().pad(rows)), rows)


@settings(deadline=None, max_examples=30)
@given(LENGTHS, st.booleans())
def test_who_is_visible(lengths, causal):
    visible = Layout.of(dialogues(lengths)).visible(causal=causal)
    for k, length in enumerate(lengths):
        for i in range(length):
            assert visible[k, i].tolist() == [j < length and (not causal or j <= i) for j in range(max(lengths))]


@pytest.mark.parametrize("causal", [False, True])
def test_context_attention_is_its_formula(causal):
    torch.manual_seed(0)
    lengths = [4, 1, 6]
    attention, rows = ContextAttention(3, causal=causal), torch.randn(sum(lengths), 3)
    found = attention(rows, Layout.of(dialogues(lengths)))
    start = 0
    for length in lengths:
        for i in range(start, start + length):
            others = range(start, i + 1 if causal else start + length)
            weights = torch.stack([(attention.match.weight @ rows[i]) @ rows[j] for j in others]).softmax(0)
            torch.testing.assert_close(found[i], sum(w * rows[j] for w, j in zip(weights, others, strict=True)))
        start += length


def test_at_first_the_attention_looks_at_the_utterance_itself():
    """A random start gave every utterance the mean of its dialogue, and DialogueGCN never got far from it."""
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(9, 64)) * 4
    attention = ContextAttention(64, causal=False)
    found = attention(rows, Layout.of(torch.zeros(9, dtype=torch.int64)))
    assert bool(((found @ rows.T).argmax(1) == torch.arange(9)).all())
    assert torch.nn.functional.cosine_similarity(found, rows).min() > 0.99


def test_multi_head_is_torchs():
    torch.manual_seed(0)
    ours, theirs = MultiHead(8, 2, 0.0), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    asking, asked = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    visible = torch.ones(5, 5).tril().bool()
    expected = theirs(asking, asked, asked, attn_mask=~visible)[0]
    torch.testing.assert_close(ours(asking, asked, visible.expand(2, -1, -1)), expected)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_both_ways_is_torchs_on_each_dialogue_alone(kind):
    torch.manual_seed(0)
    recurrent, rows = Recurrent(kind, 3, 4, causal=False), torch.randn(9, 3)
    assert recurrent.dimension == 8
    theirs = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](3, 4, batch_first=True, bidirectional=True)
    ahead, back = (way.state_dict() for way in recurrent.ways)
    theirs.load_state_dict(ahead | {f"{key}_reverse": value for key, value in back.items()})
    alone = torch.cat([theirs(part.unsqueeze(0))[0][0] for part in rows.split([2, 6, 1])])
    found = recurrent(rows, Layout.of(dialogues([2, 6, 1])))
    torch.testing.assert_close(found, alone)
    weight = torch.randn_like(found)
    ours, theirs = (
        torch.autograd.grad((out * weight).sum(), net.parameters())
        for out, net in ((found, recurrent), (alone, theirs))
    )
    for own, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_causal_is_torchs_own(kind):
    torch.manual_seed(0)
    recurrent, rows = Recurrent(kind, 3, 4, causal=True), torch.randn(9, 3)
    alone = torch.cat([recurrent.ways[0](part)[0] for part in rows.split([2, 6, 1])])
    torch.testing.assert_close(recurrent(rows, Layout.of(dialogues([2, 6, 1]))), alone)


def test_absent_features_are_the_mean():
    spec = FeatureSpec("text/t@1", "text", 2, mean=(1.0, 2.0), deviation=(2.0, 1.0))
    rows, nothing = torch.tensor([[3.0, 2.0], [torch.nan, 3.0], [9.0, 9.0]]), torch.zeros(3, dtype=torch.int64)
    batch = Batch({spec.id: rows}, {spec.id: torch.tensor([True, True, False])}, nothing, nothing, nothing)
    assert SideBySide([spec])(batch).tolist() == [[1, 0], [0, 1], [0, 0]]


def test_speakers_beyond_the_first_ones_share_a_slot():
    assert speaker_slots(torch.tensor([-1, 0, 1, 2, 7]), 2).tolist() == [2, 0, 1, 2, 2]
