"""Places, and what the blocks of a causal CTNet may see."""

from __future__ import annotations

import torch
from support import peers

from mer_agent.models.peers.ctnet import TransformerBlock, positions


def test_places_differ_and_do_not_depend_on_the_length():
    long = positions(200, 7)
    assert long.shape == (200, 7)
    assert torch.equal(positions(50, 7), long[:50])
    assert len(long.unique(dim=0)) == 200
    assert long.abs().max() <= 1


def test_a_block_asks_the_other_modality_only_where_it_may():
    torch.manual_seed(0)
    block, asking, asked = TransformerBlock(8, 2, 0.5).eval(), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    visible = torch.ones(1, 5, 5).tril().bool()
    changed = asked.clone()
    changed[0, 3] += 1
    difference = (block(asking, asked, visible) - block(asking, changed, visible)).abs().amax(-1)[0]
    assert not difference[:3].any()
    assert (difference[3:] > 1e-4).all()


def test_there_is_a_stack_for_every_ordered_pair_of_modalities():
    assert len(peers.build("ctnet").blocks) == 9
    assert len(peers.build("ctnet", specs=peers.SPECS[:2]).blocks) == 4
