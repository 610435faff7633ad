"""The floor: a plain GRU over the past, every feature in one vector. What a graph model must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.layers import Normalise


class PastGRU(nn.Module):
    """Features side by side (zeros where absent) -> one-directional GRU -> one linear layer.

    Causal, since a GRU only looks back and utterances stand in the order of their ends.
    """

    def __init__(self, specs: Sequence[FeatureSpec], classes: int, units: int = 200, dropout: float = 0.5) -> None:
        super().__init__()
        self.ids = tuple(spec.id for spec in specs)
        self.normalise = nn.ModuleList(Normalise(spec) for spec in specs)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(sum(spec.dimension for spec in specs), units, batch_first=True)
        self.decide = nn.Linear(units, classes)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        parts: list[Tensor] = []
        for name, normalise in zip(self.ids, self.normalise, strict=True):
            parts.append(normalise(batch.features[name]) * batch.present[name].unsqueeze(-1))
        rows = self.dropout(torch.cat(parts, -1))
        lengths = torch.unique_consecutive(batch.dialogue, return_counts=True)[1].tolist()
        padded = pad_sequence(list(rows.split(lengths)), batch_first=True)  # padding after the end: no influence
        hidden = self.gru(padded)[0]
        states = torch.cat([hidden[k, :length] for k, length in enumerate(lengths)])
        return Output(self.decide(self.dropout(states)) / self.temperature)
