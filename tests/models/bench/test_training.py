"""The literal edges are the fast edges, and the bench measures both on the same data."""

from __future__ import annotations

import pytest
import torch
from support import peers
from torch.nn import functional

from mer_agent.models.bench.training import CarefulDialogueGCN, LiteralDialogueGCN, bench, made_up
from mer_agent.models.peers.dialogue_gcn import DialogueGCN

CAUSAL = pytest.mark.parametrize("causal", [False, True])


def models(causal):
    torch.manual_seed(0)
    fast = DialogueGCN(peers.SPECS, peers.CLASSES, **peers.GRAPH, causal=causal).eval()
    literals = []
    for kind in (LiteralDialogueGCN, CarefulDialogueGCN):
        literal = kind(peers.SPECS, peers.CLASSES, **peers.GRAPH, causal=causal).eval()
        literal.load_state_dict(fast.state_dict())
        literals.append(literal)
    return fast, *literals


@CAUSAL
def test_loops_and_batch_give_the_same_edges(causal):
    fast, *literals = models(causal)
    batch = peers.batch((5, 1, 9, 2))
    context = torch.randn(len(batch), fast.context.dimension)
    for literal in literals:
        for quick, slow in zip(fast.edges(context, batch), literal.edges(context, batch), strict=True):
            torch.testing.assert_close(quick, slow)


@CAUSAL
def test_loops_and_batch_give_the_same_logits_and_gradients(causal):
    batch = peers.batch((5, 1, 9, 2))
    gradients = []
    for model in models(causal):
        functional.cross_entropy(model(batch).logits, batch.labels).backward()
        gradients.append({key: p.grad for key, p in model.named_parameters()})
    for key, gradient in gradients[0].items():
        for other in gradients[1:]:
            torch.testing.assert_close(gradient, other[key], atol=1e-6, rtol=1e-4)


def test_the_bench_measures_both():
    data = made_up(dialogues=4, length=9, spread=1)
    threads = torch.get_num_threads()
    result = bench(data, batch_dialogues=2, rounds=1, fast_epochs=2)
    assert torch.get_num_threads() == threads
    assert result["careful_ratio"] > 1
    assert result["ratio"] == pytest.approx(result["fast_epochs_per_s"] / result["literal_epochs_per_s"], rel=0.01)
    assert (result["dialogues"], result["utterances"]) == (4, len(data))
    assert 0 < result["edges"] <= 21 * len(data)


def test_made_up_dialogues_have_the_size_of_iemocap():
    lengths = torch.bincount(made_up().dialogue).double()
    assert len(lengths) == 108
    assert lengths.sum() == pytest.approx(5163, rel=0.01)
    assert torch.equal(lengths, torch.bincount(made_up().dialogue).double())
    for share, expected in ((0, 8), (0.25, 37), (0.5, 47), (0.75, 58), (1, 94)):
        assert lengths.quantile(share) == pytest.approx(expected, abs=5)
