"""MultiEMO: each modality asks the others, one after the other, over the whole dialogue.

Shi, Huang: MultiEMO: An Attention-Based Correlation-Aware Multimodal Fusion Framework for Emotion Recognition in
Conversations (ACL 2023). Its fusion alone: not its losses (SWFC, soft HGR), nor its encoders.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.layers import SeparateSpace
from mer_agent.models.peers.context import Layout, MultiHead, Recurrent
from mer_agent.streams.types import MODALITIES


class MultiAttention(nn.Module):
    r"""One layer of MultiAttn for modality m: it asks each other modality n in turn, then thinks.

    .. math:: z \leftarrow \mathrm{norm}(z + \mathrm{MultiHead}(z, x^n)) \; (n \ne m), \qquad
        z \leftarrow \mathrm{norm}(z + \mathrm{FF}(z))

    A modality that is alone asks itself. Shapes: [D, T, d] -> the same.
    """

    def __init__(self, dimension: int, heads: int, others: int, dropout: float) -> None:
        super().__init__()
        self.ask = nn.ModuleList(MultiHead(dimension, heads, dropout) for _ in range(max(1, others)))
        self.feed = nn.Sequential(
            nn.Linear(dimension, 2 * dimension), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * dimension, dimension)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in range(len(self.ask) + 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, others: Sequence[Tensor], visible: Tensor) -> Tensor:
        """Gives the rows, told what the others hold where `visible` [D, T, T]."""
        for ask, norm, other in zip(self.ask, self.norms, others or [rows], strict=False):
            rows = norm(rows + self.dropout(ask(rows, other, visible)))
        result: Tensor = self.norms[-1](rows + self.dropout(self.feed(rows)))
        return result


class MultiEMO(nn.Module):
    """Spaces, a GRU of each modality (the paper has DialogueRNN), `layers` of MultiAttn, two linear layers.

    `causal` masks every attention to j <= i and takes one-directional contexts. Sizes are ours: the data are small.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        dimension: int = 64,
        heads: int = 4,
        units: int = 64,
        layers: int = 2,
        hidden: int = 64,
        dropout: float = 0.3,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        groups = [[spec for spec in specs if spec.modality == modality] for modality in MODALITIES]
        self.spaces = nn.ModuleList(
            SeparateSpace(group, dimension, dropout=dropout, input_dropout=dropout) for group in groups if group
        )
        many = len(self.spaces)
        self.contexts = nn.ModuleList(Recurrent("gru", dimension, units, causal=causal) for _ in range(many))
        width = units if causal else 2 * units
        self.stacks = nn.ModuleList(
            nn.ModuleList(MultiAttention(width, heads, many - 1, dropout) for _ in range(layers)) for _ in range(many)
        )
        self.hidden = nn.Linear(many * width, hidden)
        self.decide = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        layout = Layout.of(batch.dialogue)
        visible = layout.visible(causal=self.causal)
        modal = []
        for space, context in zip(self.spaces, self.contexts, strict=True):
            modal.append(layout.pad(context(self.dropout(space(batch.features, batch.present)), layout)))
        found = []
        for m, stack in enumerate(self.stacks):
            rows, others = modal[m], modal[:m] + modal[m + 1 :]
            for layer in stack:  # type: ignore[attr-defined]
                rows = layer(rows, others, visible)
            found.append(rows)
        fused = layout.flat(torch.cat(found, -1))
        logits = self.decide(self.dropout(torch.relu(self.hidden(self.dropout(fused)))))
        return Output(logits / self.temperature)
