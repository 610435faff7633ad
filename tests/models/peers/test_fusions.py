"""The fusions against their formulas, low-rank fusion against the tensor that it stands for."""

from __future__ import annotations

import itertools

import pytest
import torch
from support import peers

from mer_agent.errors import ConfigError
from mer_agent.models.peers.fusions import FUSIONS, Add, Concatenate, Fusion, LowRankFusion, TensorFusion

STATES = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))  # [N, M, d]


def test_addition_and_concatenation_are_their_formulas():
    add, concatenate = Add(3, 2, 5), Concatenate(3, 2, 5)
    a, b, c = STATES.unbind(1)
    torch.testing.assert_close(add(STATES), add.linear(a + b + c))
    torch.testing.assert_close(concatenate(STATES), concatenate.linear(torch.cat([a, b, c], -1)))


def test_tensor_fusion_weighs_every_product():
    fusion = TensorFusion(3, 2, 5)
    weight = fusion.linear.weight.view(5, 3, 3, 3)
    for row, found in zip(STATES, fusion(STATES), strict=True):
        total = fusion.linear.bias.clone()
        a, b, c = ([*modality.tolist(), 1.0] for modality in row)
        for i, j, k in itertools.product(range(3), repeat=3):
            total = total + weight[:, i, j, k] * (a[i] * b[j] * c[k])
        torch.testing.assert_close(found, total)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_low_rank_fusion_is_tensor_fusion_with_a_low_rank_tensor(modalities):
    torch.manual_seed(0)
    low, full = LowRankFusion(modalities, 2, 5, rank=4), TensorFusion(modalities, 2, 5)
    torch.nn.init.normal_(low.weights)
    letters = "abc"[:modalities]
    spec = ",".join(f"k{letter}o" for letter in letters) + f",k->o{letters}"
    tensor = torch.einsum(spec, *low.factors, low.weights)
    with torch.no_grad():
        full.linear.weight.copy_(tensor.flatten(1))
        full.linear.bias.copy_(torch.nn.init.normal_(low.bias))
    torch.testing.assert_close(low(STATES[:, :modalities]), full(STATES[:, :modalities]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_are_right(name):
    torch.manual_seed(0)
    fusion = FUSIONS[name](2, 2, 3).double()
    assert torch.autograd.gradcheck(fusion, (STATES[:2, :2].double().requires_grad_(),))


def test_low_rank_fusion_is_the_smaller_one():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(LowRankFusion(3, 32, 64)) == 3 * 4 * 33 * 64 + 4 + 64
    assert count(TensorFusion(3, 32, 64)) == 33**3 * 64 + 64


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ConfigError, match="no fusion is called 'stir': take one of add, concatenate"):
        Fusion(peers.SPECS, 4, "stir")
