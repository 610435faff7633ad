"""Four ways to make one vector of the modalities' vectors, and a small model around each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.errors import ConfigError
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.layers import SeparateSpace
from mer_agent.models.peers.context import Layout, Recurrent
from mer_agent.streams.types import MODALITIES


class Add(nn.Module):
    """z = W (h_1 + .. + h_M) + b. Shapes: [N, M, d] -> [N, out]."""

    def __init__(self, modalities: int, dimension: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimension, out)

    def forward(self, states: Tensor) -> Tensor:
        """Gives the fused vector of each utterance."""
        return functional.linear(states.sum(1), self.linear.weight, self.linear.bias)


class Concatenate(nn.Module):
    """z = W [h_1 ; .. ; h_M] + b. Shapes: [N, M, d] -> [N, out]."""

    def __init__(self, modalities: int, dimension: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(modalities * dimension, out)

    def forward(self, states: Tensor) -> Tensor:
        """Gives the fused vector of each utterance."""
        return functional.linear(states.flatten(1), self.linear.weight, self.linear.bias)


def with_one(states: Tensor) -> Tensor:
    """[..., d] -> [..., d + 1]: a 1 behind each vector, by which products of all keep those of some."""
    return functional.pad(states, (0, 1), value=1.0)


class TensorFusion(nn.Module):
    r"""TFN: every product of one number from each modality.

    .. math:: z = W\, \mathrm{vec}([h_1 ; 1] \otimes .. \otimes [h_M ; 1]) + b

    Zadeh, Chen, Poria, Cambria, Morency: Tensor Fusion Network for Multimodal Sentiment Analysis (EMNLP 2017).
    W has out x (d + 1)^M numbers: keep d small. Shapes: [N, M, d] -> [N, out].
    """

    def __init__(self, modalities: int, dimension: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear((dimension + 1) ** modalities, out)

    def forward(self, states: Tensor) -> Tensor:
        """Gives the fused vector of each utterance."""
        product, *others = with_one(states).unbind(1)
        for other in others:
            product = (product.unsqueeze(-1) * other.unsqueeze(1)).flatten(1)
        return functional.linear(product, self.linear.weight, self.linear.bias)


class LowRankFusion(nn.Module):
    r"""LMF: tensor fusion whose W is a sum of `rank` outer products, so that the tensor is never made.

    .. math:: z = \sum_{k=1}^{rank} w_k \prod_m W_m^{(k)} [h_m ; 1] + b \qquad \text{(product element by element)}

    Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency: Efficient Low-rank Multimodal Fusion with Modality-Specific
    Factors (ACL 2018). Shapes: [N, M, d] -> [N, out].
    """

    def __init__(self, modalities: int, dimension: int, out: int, rank: int = 4) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.empty(modalities, rank, dimension + 1, out))
        self.weights = nn.Parameter(torch.empty(rank))
        self.bias = nn.Parameter(torch.zeros(out))
        for factor in self.factors.data.flatten(0, 1):
            nn.init.xavier_normal_(factor)
        nn.init.constant_(self.weights, rank**-0.5)

    def forward(self, states: Tensor) -> Tensor:
        """Gives the fused vector of each utterance."""
        each = torch.einsum("nmd,mkdo->mnko", with_one(states), self.factors)
        return torch.einsum("nko,k->no", each.prod(0), self.weights) + self.bias


FUSIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "add": Add,
    "concatenate": Concatenate,
    "tensor": TensorFusion,
    "low-rank": LowRankFusion,
}
"""Name -> how to build the fusion of its number of modalities, their dimension and the dimension of its result."""


class Fusion(nn.Module):
    """Separate spaces -> (with `units`, a GRU for each modality) -> fusion -> ReLU -> two linear layers.

    As in the papers of TFN and LMF an utterance is judged alone; `units` > 0 gives each modality the context of its
    dialogue first, `causal` the past alone. The papers' own encoders of a modality are its MLP here, as AR-IIGCN's
    eq. 1 has it, since features are one vector for each utterance.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        fusion: str = "concatenate",
        dimension: int = 32,
        hidden: int = 64,
        units: int = 0,
        dropout: float = 0.3,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ConfigError(f"no fusion is called {fusion!r}: take one of {', '.join(FUSIONS)}")
        groups = [[spec for spec in specs if spec.modality == modality] for modality in MODALITIES]
        self.spaces = nn.ModuleList(
            SeparateSpace(group, dimension, dropout=dropout, input_dropout=dropout) for group in groups if group
        )
        self.contexts = nn.ModuleList()
        if units:
            self.contexts.extend(Recurrent("gru", dimension, units, causal=causal) for _ in self.spaces)
        width = (units if causal else 2 * units) or dimension
        self.fusion = FUSIONS[fusion](len(self.spaces), width, hidden)
        self.hidden = nn.Linear(hidden, hidden)
        self.decide = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        states = [space(batch.features, batch.present) for space in self.spaces]
        if self.contexts:
            layout = Layout.of(batch.dialogue)
            states = [context(state, layout) for context, state in zip(self.contexts, states, strict=True)]
        fused = self.dropout(torch.relu(self.fusion(self.dropout(torch.stack(states, 1)))))
        logits = self.decide(self.dropout(torch.relu(self.hidden(fused))))
        return Output(logits / self.temperature)
