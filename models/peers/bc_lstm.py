"""bc-LSTM: LSTMs that read each modality over the dialogue, and one more that reads what they found.

Poria, Cambria, Hazarika, Majumder, Zadeh, Morency: Context-Dependent Sentiment Analysis in User-Generated Videos
(ACL 2017), its hierarchical framework; with `attention` the c-LSTM + Att of the DialogueRNN paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.peers.context import ContextAttention, Layout, Recurrent, SideBySide
from mer_agent.streams.types import MODALITIES


class BcLSTM(nn.Module):
    r"""Level 1, for each modality m, and level 2 over all of them.

    .. math::
        h^m = \mathrm{biLSTM}_m(x^m) \qquad z^m = \tanh(W_m h^m + b_m) \qquad [N, d] \\
        h = \mathrm{biLSTM}([z^t ; z^a ; z^v]) \qquad y = \mathrm{softmax}(W \tanh(W' h))

    With `attention`, h first goes through `ContextAttention`, the emotion attention of the DialogueRNN paper.
    `causal` makes every LSTM one-directional (the paper's sc-LSTM) and the attention look back only.

    Differs: the paper trains level 1 by itself, modality by modality, and then level 2 on its activations; here both
    learn together. `modal_logits` lets a recipe with `modal_weight` keep level 1's own loss. An absent feature is
    zeros.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        units: int = 100,
        dimension: int = 100,
        dropout: float = 0.5,
        attention: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        groups = [[spec for spec in specs if spec.modality == modality] for modality in MODALITIES]
        self.inputs = nn.ModuleList(SideBySide(group) for group in groups if group)
        sizes = [sum(spec.dimension for spec in group) for group in groups if group]
        self.first = nn.ModuleList(Recurrent("lstm", size, units, causal=causal) for size in sizes)
        self.dense = nn.ModuleList(nn.Linear(units if causal else 2 * units, dimension) for _ in sizes)
        self.modal_heads = nn.ModuleList(nn.Linear(dimension, classes) for _ in sizes)
        self.second = Recurrent("lstm", dimension * len(sizes), units, causal=causal)
        self.attention = ContextAttention(self.second.dimension, causal=causal) if attention else None
        self.out = nn.Linear(self.second.dimension, dimension)
        self.decide = nn.Linear(dimension, classes)
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        layout = Layout.of(batch.dialogue)
        parts: list[Tensor] = []
        for inputs, first, dense in zip(self.inputs, self.first, self.dense, strict=True):
            parts.append(self.dropout(torch.tanh(dense(self.dropout(first(self.dropout(inputs(batch)), layout))))))
        states = self.second(torch.cat(parts, -1), layout)
        if self.attention is not None:
            states = self.attention(states, layout)
        logits = self.decide(self.dropout(torch.tanh(self.out(self.dropout(states)))))
        modal = None
        if self.training:
            modal = torch.stack([head(part) for head, part in zip(self.modal_heads, parts, strict=True)], 1)
        return Output(logits / self.temperature, modal_logits=modal)
