"""CTNet: transformers inside and across the modalities, then an attentive GRU that knows the speakers.

Lian, Liu, Tao: CTNet: Conversational Transformer Network for Emotion Recognition (IEEE/ACM TASLP 29, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.layers import SeparateSpace
from mer_agent.models.peers.context import Layout, MultiHead, Recurrent, speaker_slots
from mer_agent.streams.types import MODALITIES


class TransformerBlock(nn.Module):
    """x <- norm(x + MultiHead(x, y)); x <- norm(x + FF(x)): y = x inside a modality, another modality's rows across.

    Shapes: [D, T, dimension] -> the same.
    """

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = MultiHead(dimension, heads, dropout)
        self.feed = nn.Sequential(
            nn.Linear(dimension, 4 * dimension), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * dimension, dimension)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, asking: Tensor, asked: Tensor, visible: Tensor) -> Tensor:
        """Gives the rows of `asking`, told what `asked` holds where `visible` [D, T, T]."""
        first, second = self.norms
        rows = first(asking + self.dropout(self.attend(asking, asked, visible)))
        result: Tensor = second(rows + self.dropout(self.feed(rows)))
        return result


def positions(longest: int, dimension: int) -> Tensor:
    """Gives the sines and cosines [T, dimension] by which a transformer knows an utterance's place."""
    rates = 10_000 ** (-torch.arange(0, dimension, 2) / dimension)
    angles = torch.arange(longest).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :dimension]


class CTNet(nn.Module):
    r"""Modalities m, n; speaker s.

    .. math::
        x^m &= \mathrm{MLP}_m(\text{features of } m) + \text{position}                & [N, d] \\
        z^{mm} &= \mathrm{Block}(x^m, x^m), \quad z^{mn} = \mathrm{Block}(x^m, x^n), n \ne m & \text{intra, cross} \\
        u &= W [z^{mn}]_{m, n} + W_s\, \mathrm{onehot}(s)                             & \text{speaker embedding} \\
        g &= \mathrm{biGRU}(u) \qquad h = \mathrm{norm}(g + \mathrm{MultiHead}(g, g))      & \text{context} \\
        y &= \mathrm{softmax}(W_2 \mathrm{ReLU}(W_1 h))

    Differs: in the paper the transformers read the words and the sound segments *inside* one utterance, and only the
    GRU sees the dialogue. Features here are one vector for each utterance and modality, over which attention would be
    empty; so the same transformers read the sequence of the dialogue's utterances. The paper has text and audio, here
    any modalities. Sizes are ours: the data are small. The formulas are our reading of the paper's prose.

    `causal` masks every attention to j <= i and takes a one-directional GRU.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        dimension: int = 64,
        heads: int = 4,
        units: int = 64,
        hidden: int = 64,
        layers: int = 1,
        speakers: int = 2,
        dropout: float = 0.3,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal, self.speakers = causal, speakers
        groups = [[spec for spec in specs if spec.modality == modality] for modality in MODALITIES]
        self.spaces = nn.ModuleList(
            SeparateSpace(group, dimension, dropout=dropout, input_dropout=dropout) for group in groups if group
        )
        many = len(self.spaces)
        self.blocks = nn.ModuleList(  # one stack for each ordered pair of modalities, itself included
            nn.ModuleList(TransformerBlock(dimension, heads, dropout) for _ in range(layers)) for _ in range(many**2)
        )
        self.merge = nn.Linear(many**2 * dimension, dimension)
        self.speaker = nn.Embedding(speakers + 1, dimension)
        self.context = Recurrent("gru", dimension, units, causal=causal)
        self.attend = MultiHead(self.context.dimension, heads, dropout)
        self.norm = nn.LayerNorm(self.context.dimension)
        self.hidden = nn.Linear(self.context.dimension, hidden)
        self.decide = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        layout = Layout.of(batch.dialogue)
        visible = layout.visible(causal=self.causal)
        modal = [layout.pad(space(batch.features, batch.present)) for space in self.spaces]  # M x [D, T, d]
        place = positions(modal[0].shape[1], modal[0].shape[2]).to(modal[0])
        modal = [rows + place for rows in modal]
        found = []
        pairs = [(asking, asked) for asking in modal for asked in modal]
        for (rows, asked), stack in zip(pairs, self.blocks, strict=True):
            itself = asked is rows
            for block in stack:  # type: ignore[attr-defined]
                rows = block(rows, rows if itself else asked, visible)
            found.append(rows)
        turns = self.merge(layout.flat(torch.cat(found, -1)))
        turns = turns + self.speaker(speaker_slots(batch.speakers, self.speakers))
        context = self.context(self.dropout(turns), layout)
        block = layout.pad(context)
        states = self.norm(context + layout.flat(self.attend(block, block, visible)))
        logits = self.decide(self.dropout(torch.relu(self.hidden(self.dropout(states)))))
        return Output(logits / self.temperature)
