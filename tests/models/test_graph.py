"""The graph against the formula written out, and its edges against their rule."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mer_agent.models.graph import Relation, SpeakerGraph, SpeakerGraphConv, relation_count, speaker_edges


def edges_by_rule(speakers, dialogue, window, future, alive):
    """The definition, one pair at a time."""
    found = set()
    for i in range(len(speakers)):
        for j in range(len(speakers)):
            if dialogue[i] != dialogue[j] or not (-future <= i - j <= window) or not (alive[i] and alive[j]):
                continue
            if i == j:
                relation = Relation.SELF
            elif -1 in (speakers[i], speakers[j]):
                relation = Relation.UNKNOWN
            else:
                relation = Relation.SAME_SPEAKER if speakers[i] == speakers[j] else Relation.OTHER_SPEAKER
            found.add((j, i, int(relation) + (3 if j > i else 0), i - j))
    return found


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=4),
    window=st.integers(0, 10),
    future=st.sampled_from([0, 0, 3]),
    data=st.data(),
)
def test_edges_follow_the_rule(lengths, window, future, data):
    count = sum(lengths)
    speakers = data.draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
    alive = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    dialogue = [k for k, length in enumerate(lengths) for _ in range(length)]
    edges = speaker_edges(
        torch.tensor(speakers), torch.tensor(dialogue), window=window, future=future, alive=torch.tensor(alive)
    )
    rows = zip(*edges.index.tolist(), edges.relation.tolist(), edges.steps_back.tolist(), strict=True)
    assert set(rows) == edges_by_rule(speakers, dialogue, window, future, alive)
    assert edges.relation.numel() == 0 or int(edges.relation.max()) < relation_count(causal=future == 0)


def conv_by_formula(conv: SpeakerGraphConv, nodes: Tensor, edges) -> Tensor:
    """Equations 8 to 10, one edge at a time."""
    arrows = list(zip(*edges.index.tolist(), edges.relation.tolist(), edges.steps_back.tolist(), strict=True))
    query, key, *matrices = conv.weight.split([conv.attention, conv.attention, *[nodes.shape[1]] * conv.relations])
    part = nodes.shape[1] // conv.heads
    rows = []
    for i in range(len(nodes)):
        mine = [arrow for arrow in arrows if arrow[1] == i]
        total = torch.zeros_like(nodes[i])
        for head in range(conv.heads):
            raw = []
            for j, _, _, back in mine:
                hidden = query @ nodes[i] + conv.query_bias + key @ nodes[j]
                hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
                raw.append(conv.score.weight[head] @ hidden + conv.distance[back + conv.future, head])
            powers = [math.exp(float(value)) for value in raw]
            for (j, _, relation, _), power in zip(mine, powers, strict=True):
                among = sum(other[2] == relation for other in mine) if conv.share else 1
                message = (matrices[relation] @ nodes[j])[head * part : (head + 1) * part]
                total[head * part : (head + 1) * part] += power / sum(powers) / among * message
        rows.append(torch.nn.functional.gelu(total))
    return torch.stack(rows)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("future", [0, 2])
@torch.no_grad()
def test_the_convolution_is_the_formula(heads, share, future):
    torch.manual_seed(0)
    relations = relation_count(causal=future == 0)
    conv = SpeakerGraphConv(6, relations=relations, window=4, future=future, heads=heads, share=share).double()
    conv.distance.normal_()
    conv.query_bias.normal_()
    nodes = torch.randn(13, 6, dtype=torch.double)
    alive = torch.ones(13, dtype=torch.bool)
    alive[3] = False
    speakers = torch.tensor([0, 1, 0, 0, 2, -1, 1, 0, 1, 1, -1, 0, 1])
    edges = speaker_edges(speakers, torch.tensor([0] * 8 + [1] * 5), window=4, future=future, alive=alive)
    assert torch.allclose(conv(nodes, edges), conv_by_formula(conv, nodes, edges), atol=1e-12)
    assert conv(nodes, edges)[3].eq(0).all()


def test_its_gradients_are_right():
    torch.manual_seed(0)
    conv = SpeakerGraphConv(4, window=3, heads=2).double()
    edges = speaker_edges(torch.tensor([0, 1, 0, -1, 1]), torch.zeros(5, dtype=torch.long), window=3)
    nodes = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: conv(x, edges), (nodes,))


def test_nothing_comes_from_the_future_or_from_beyond_the_reach():
    torch.manual_seed(0)
    graph = SpeakerGraph(8, layers=2, window=3).eval()
    edges = speaker_edges(torch.randint(0, 3, (20,)), torch.zeros(20, dtype=torch.long), window=3)
    nodes = torch.randn(20, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(graph(nodes, edges)[12].square().sum(), nodes)
    felt = gradient.abs().sum(1).nonzero().flatten().tolist()
    assert felt == list(range(12 - graph.reach, 13))
    assert gradient[13:].eq(0).all()


def test_dialogues_do_not_touch_each_other():
    torch.manual_seed(0)
    graph = SpeakerGraph(8, layers=2, window=3).eval()
    nodes, speakers = torch.randn(12, 8), torch.randint(0, 2, (12,))
    dialogue = torch.tensor([0] * 5 + [1] * 7)
    together = graph(nodes, speaker_edges(speakers, dialogue, window=3))
    alone = graph(nodes[5:], speaker_edges(speakers[5:], dialogue[5:], window=3))
    assert torch.allclose(together[5:], alone, atol=1e-6)


def test_names_of_speakers_do_not_matter():
    torch.manual_seed(0)
    graph = SpeakerGraph(8).eval()
    nodes, dialogue = torch.randn(9, 8), torch.zeros(9, dtype=torch.long)
    speakers = torch.tensor([0, 1, 2, 0, 1, -1, 2, 2, 0])
    renamed = torch.where(speakers < 0, -1, 7 - speakers)
    first = graph(nodes, speaker_edges(speakers, dialogue))
    assert torch.equal(first, graph(nodes, speaker_edges(renamed, dialogue)))
    assert not torch.allclose(first, graph(nodes, speaker_edges(speakers.clamp_max(0), dialogue)), atol=1e-4)
