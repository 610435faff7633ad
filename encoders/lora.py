"""Low-rank adapters: a small trained correction to the weights of a large frozen network.

Source: Hu et al. 2021, LoRA: W' = W + (alpha / rank) B A, with A [rank, in] drawn at random and B [out, rank] zero at
the start, so that training begins with the network as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mer_agent.errors import WeightsError


class LoraLinear(nn.Module):
    """A frozen linear layer and its trainable correction."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.down, math.sqrt(5))

    def forward(self, rows: Tensor) -> Tensor:
        """Gives [..., out] of [..., in]; the correction is computed in the precision of `rows`."""
        low = self.dropout(nn.functional.linear(rows, self.down.to(rows.dtype)))
        correction: Tensor = nn.functional.linear(low, (self.scale * self.up).to(rows.dtype))
        return torch.add(self.base(rows), correction)


def add(network: nn.Module, names: Iterable[str], rank: int, scale: float, dropout: float = 0.0) -> None:
    """Puts an adapter on each linear layer that `names` lists, such as `encoder.layer.6.attention.attn.q`."""
    for name in names:
        parent, _, leaf = name.rpartition(".")
        holder = network.get_submodule(parent)
        setattr(holder, leaf, LoraLinear(getattr(holder, leaf), rank, scale, dropout))


def state(network: nn.Module) -> dict[str, Tensor]:
    """Gives the adapters alone: `NAME.down` [rank, in] and `NAME.up` [out, rank], the scale multiplied in."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, LoraLinear):
            found[f"{name}.down"] = module.down.detach()
            found[f"{name}.up"] = module.scale * module.up.detach()
    return found


@torch.no_grad()
def merge(network: nn.Module, adapters: Mapping[str, Tensor], share: float = 1.0) -> None:
    """Adds `share` of what `state` gave to the weights of a plain network: it then costs as much as before.

    Raises:
        WeightsError: the adapter is of another network.
    """
    for key, down in adapters.items():
        name, _, side = key.rpartition(".")
        if side != "down":
            continue
        try:
            weight = network.get_parameter(f"{name}.weight")
            weight.add_(adapters[f"{name}.up"].to(weight) @ down.to(weight), alpha=share)
        except (AttributeError, KeyError, RuntimeError) as error:
            raise WeightsError(f"the adapter doesn't fit the text model at {name}: pull mpnet again") from error
