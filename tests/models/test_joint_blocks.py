"""The joint block against its equations, written out one by one."""

from __future__ import annotations

import pytest
import torch

from mer_agent.models.joint_blocks import Apart, CrossAttention, JointBlock, Sizes, Steps

SIZES = Sizes(8, 2, 12, 0.0)


def sequences(lengths=(5, 7), count=3):
    torch.manual_seed(2)
    found = []
    for length in lengths:
        there = torch.arange(length) < torch.randint(1, length + 1, (count, 1))
        found.append(Steps(torch.randn(count, length, SIZES.dimension), there))
    return found


def literal(block, mt, tm, visual, language, visual_back, language_back):
    """Eq. 1-4 for one utterance whose steps are all there: [L, d] and [P, d]."""
    j = len(block.vector)

    def run(layer, states):
        return layer(states.unsqueeze(0))[0]

    v_hat = run(visual, torch.cat([mt, block.vector]))[len(mt) :]  # eq. 1
    assert len(v_hat) == j
    new_mt = run(language, torch.cat([tm, block.to_language(v_hat)]))[: len(tm)]  # eq. 2
    v_hat_back = run(language_back, torch.cat([tm, block.vector_back]))[len(tm) :]  # eq. 3
    new_tm = run(visual_back, torch.cat([mt, block.to_visual(v_hat_back)]))[: len(mt)]  # eq. 4
    return new_mt, new_tm


@pytest.mark.parametrize("tied", [True, False])
def test_a_block_is_equations_1_to_4(tied):
    torch.manual_seed(0)
    block = JointBlock(SIZES, vectors=4, tied=tied).eval()
    if not tied:  # alike at first, then not: else the test could not tell them apart
        for layer in (block.visual_back, block.language_back):
            for parameter in layer.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
    back = (block.visual, block.language) if tied else (block.visual_back, block.language_back)
    mt, tm = sequences()
    found_mt, found_tm = block(mt, tm)
    for i in range(3):
        own_mt, own_tm = mt.states[i][mt.there[i]], tm.states[i][tm.there[i]]
        new_mt, new_tm = literal(block, own_mt, own_tm, block.visual, block.language, *back)
        torch.testing.assert_close(found_mt.states[i][found_mt.there[i]], new_mt, atol=1e-5, rtol=0)
        torch.testing.assert_close(found_tm.states[i][found_tm.there[i]], new_tm, atol=1e-5, rtol=0)


def test_both_passes_start_alike_even_if_they_are_not_tied():
    block = JointBlock(SIZES, tied=False)
    for first, second in ((block.visual, block.visual_back), (block.language, block.language_back)):
        for key, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[key])
    tied = sum(p.numel() for p in JointBlock(SIZES).parameters())
    assert sum(p.numel() for p in block.parameters()) > tied


def heard(block):
    """How much the m->t side's result depends on m, through the block."""
    mt, tm = sequences()
    mt.states.requires_grad_(True)
    found_mt, _ = block(mt, tm)
    (gradient,) = torch.autograd.grad(found_mt.states[:, 0, 0].sum(), mt.states, allow_unused=True)
    return 0.0 if gradient is None else float(gradient.abs().max())


def test_the_joint_vector_is_the_only_bridge():
    assert heard(JointBlock(SIZES, vectors=4)) > 1e-6
    assert heard(JointBlock(SIZES, vectors=0)) == 0.0


def test_steps_that_are_not_there_change_nothing():
    for block in (JointBlock(SIZES), CrossAttention(SIZES, 2), Apart(SIZES, 2)):
        block.eval()
        mt, tm = sequences()
        before = [side.states[:, 0] for side in block(mt, tm)]
        for side in (mt, tm):
            side.states[~side.there] = 1e3
        after = [side.states[:, 0] for side in block(mt, tm)]
        torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_cross_attention_is_its_formula():
    torch.manual_seed(0)
    block = CrossAttention(SIZES, 0).eval()
    mt, tm = sequences(count=1)
    found, _ = block(mt, tm)
    own, other = mt.states[0], tm.states[0][tm.there[0]]
    query, key, value = block.ask[0].in_proj_weight.chunk(3)
    heads = []
    for h in range(SIZES.heads):
        rows = slice(h * 4, h * 4 + 4)
        scores = (own @ query[rows].T) @ (other @ key[rows].T).T / 4**0.5
        heads.append(scores.softmax(-1) @ (other @ value[rows].T))
    z = block.norms[0](own + torch.cat(heads, -1) @ block.ask[0].out_proj.weight.T)
    torch.testing.assert_close(found.states[0], block.norms[1](z + block.forwards[0](z)), atol=1e-5, rtol=0)
