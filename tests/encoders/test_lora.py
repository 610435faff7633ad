import pytest
import torch
from torch import nn

from mer_agent.encoders import lora
from mer_agent.errors import WeightsError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


def adapted() -> nn.Sequential:
    """The same network, with adapters that have learned something."""
    learner = network().requires_grad_(False)
    lora.add(learner, ["0", "2"], rank=2, scale=2.0)
    for name, parameter in learner.named_parameters():
        if name.endswith("up"):
            nn.init.normal_(parameter)
    return learner


def test_training_begins_with_the_network_as_it_was():
    learner = network()
    rows = torch.randn(3, 6)
    before = learner(rows)
    lora.add(learner, ["0", "2"], rank=2, scale=2.0)
    assert torch.equal(learner(rows), before)


def test_only_the_adapters_learn():
    learner = adapted()
    learner(torch.randn(3, 6)).sum().backward()
    assert {name for name, p in learner.named_parameters() if p.grad is not None} == {
        "0.down",
        "0.up",
        "2.down",
        "2.up",
    }


def test_a_merged_network_gives_the_same_and_has_the_same_shape():
    learner, plain = adapted(), network()
    state = lora.state(learner)
    assert set(state) == {"0.down", "0.up", "2.down", "2.up"}
    lora.merge(plain, state)
    rows = torch.randn(3, 6)
    assert torch.allclose(plain(rows), learner(rows), atol=1e-6)
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in network().named_parameters()]


def test_shares_of_the_same_adapter_add_up_to_it():
    state = lora.state(adapted())
    once, thrice = network(), network()
    lora.merge(once, state)
    for _ in range(3):
        lora.merge(thrice, state, 1 / 3)
    assert torch.allclose(once[0].weight, thrice[0].weight, atol=1e-6)


@pytest.mark.parametrize(
    "broken", [{"7.down": torch.zeros(2, 6), "7.up": torch.zeros(5, 2)}, {"0.down": torch.zeros(2, 6)}]
)
def test_an_adapter_of_another_network_is_refused(broken):
    with pytest.raises(WeightsError, match="doesn't fit"):
        lora.merge(network(), broken)


def test_an_adapter_of_another_size_is_refused():
    with pytest.raises(WeightsError, match="doesn't fit"):
        lora.merge(network(), {"0.down": torch.zeros(2, 9), "0.up": torch.zeros(5, 2)})
