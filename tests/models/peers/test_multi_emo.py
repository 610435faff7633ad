"""MultiAttn against its formula; what holds for every peer is in test_registry_peers.py."""

from __future__ import annotations

import torch
from support import peers

from mer_agent.models.peers.multi_emo import MultiAttention


def test_a_layer_asks_the_others_in_turn_and_then_thinks():
    torch.manual_seed(0)
    layer = MultiAttention(8, 2, 2, 0.0).eval()
    rows, first, second = torch.randn(3, 1, 5, 8)
    visible = torch.ones(1, 5, 5, dtype=torch.bool).tril()
    z = layer.norms[0](rows + layer.ask[0](rows, first, visible))
    z = layer.norms[1](z + layer.ask[1](z, second, visible))
    expected = layer.norms[2](z + layer.feed(z))
    torch.testing.assert_close(layer(rows, [first, second], visible), expected)


def test_every_modality_is_told_of_every_other():
    model, batch = peers.build("multi-emo", specs=peers.SPECS), peers.batch((4,))
    for rows in batch.features.values():
        rows.requires_grad_(True)
    for present in batch.present.values():
        present[:] = True
    gradients = torch.autograd.grad(model(batch).logits.sum(), list(batch.features.values()))
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)
