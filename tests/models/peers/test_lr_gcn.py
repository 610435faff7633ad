"""The latent graphs against their formula, head by head and layer by layer."""

from __future__ import annotations

import pytest
import torch

from mer_agent.models.peers.lr_gcn import LatentGraphs


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_formula(causal):
    torch.manual_seed(0)
    graphs, nodes = LatentGraphs(6, heads=3, layers=2, dropout=0.5).eval(), torch.randn(1, 4, 6)
    for bias in graphs.biases:
        torch.nn.init.normal_(bias)
    visible = torch.ones(4, 4).bool()
    visible = visible.tril() if causal else visible
    rows, branches = nodes[0], []
    for head in range(3):
        part = slice(2 * head, 2 * head + 2)
        query, key = graphs.query(rows)[:, part], graphs.key(rows)[:, part]
        graph = (query @ key.T / 2**0.5).masked_fill(~visible, -torch.inf).softmax(-1)
        known = rows
        for weight, bias in zip(graphs.weights, graphs.biases, strict=True):
            known = torch.cat([known, torch.relu(graph @ known @ weight[head] + bias[head])], -1)
        branches.append(rows + known[:, 6:])
    torch.testing.assert_close(graphs(nodes, visible.unsqueeze(0))[0], graphs.merge(torch.cat(branches, -1)))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiple of heads 4"):
        LatentGraphs(6, heads=4, layers=2, dropout=0.0)
