"""Relations and the weighted convolution: against plain loops, and against PyG's own."""

from __future__ import annotations

import itertools
import warnings

import torch

from mer_agent.models.graph import speaker_edges
from mer_agent.models.peers.dialogue_gcn import WeightedRGCNConv, speaker_relations

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import RGCNConv


def setting():
    torch.manual_seed(0)
    speakers = torch.tensor([0, 1, 1, 0, 2, 0, 1])
    edges = speaker_edges(speakers, torch.tensor([0, 0, 0, 0, 0, 1, 1]), window=2, future=1)
    relation = speaker_relations(speakers[edges.index[1]], speakers[edges.index[0]], edges.steps_back, 3)
    return torch.randn(7, 4), edges, relation


def test_each_pair_of_speakers_and_direction_has_its_relation():
    cases = [torch.tensor(case) for case in itertools.product(range(3), range(3), (-1, 1))]
    assert {int(speaker_relations(*case, 3)) for case in cases} == set(range(18))
    assert speaker_relations(*torch.tensor([1, 2, 0]), 3) == speaker_relations(*torch.tensor([1, 2, 5]), 3)


def test_without_weights_it_is_pygs_rgcn():
    nodes, edges, relation = setting()
    ours, theirs = WeightedRGCNConv(4, 5, 18, 3), RGCNConv(4, 5, 18, num_bases=3)
    theirs.load_state_dict(
        {"weight": ours.bases, "comp": ours.mix, "root": ours.root, "bias": torch.nn.init.normal_(ours.bias)}
    )
    found = ours(nodes, edges.index, relation, torch.ones(len(relation)), torch.ones(len(nodes)))
    torch.testing.assert_close(found, theirs(nodes, edges.index, relation))


def test_it_is_the_formula():
    nodes, edges, relation = setting()
    conv = WeightedRGCNConv(4, 5, 18, 3)
    weight, own = torch.rand(len(relation)), torch.rand(len(nodes))
    expected = []
    for i in range(len(nodes)):
        total = own[i] * nodes[i] @ conv.root + conv.bias
        for r in range(18):
            matrix = sum(conv.mix[r, k] * conv.bases[k] for k in range(3))
            group = [e for e in range(len(relation)) if edges.index[1, e] == i and relation[e] == r]
            for e in group:
                total = total + weight[e] / len(group) * nodes[edges.index[0, e]] @ matrix
        expected.append(total)
    torch.testing.assert_close(conv(nodes, edges.index, relation, weight, own), torch.stack(expected))
