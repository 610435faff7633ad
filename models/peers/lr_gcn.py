"""LR-GCN: a speaker graph, then graphs that attention invents, read by densely connected convolutions.

Ren, Huang, Li, Song, Nie: LR-GCN: Latent Relation-Aware Graph Convolutional Network for Conversational Emotion
Recognition (IEEE TMM 24, 2022). The densely connected part follows Guo, Zhang, Lu: Attention Guided Graph Convolutional
Networks (ACL 2019), from where the paper has it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.graph import speaker_edges
from mer_agent.models.peers.context import Layout, Recurrent, SideBySide, speaker_slots
from mer_agent.models.peers.dialogue_gcn import speaker_relations

with warnings.catch_warnings():  # torch_geometric scripts parts of itself on import, which torch has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import RGCNConv


class LatentGraphs(nn.Module):
    r"""H graphs in which every utterance reaches every other, each read by L densely connected layers of its own.

    .. math::
        A^h &= \mathrm{softmax}(x W_Q^h (x W_K^h)^T / \sqrt{d / H})                      & [T, T] \\
        z^{h,l} &= \mathrm{ReLU}(A^h [x ; z^{h,1} ; .. ; z^{h,l-1}] W^{h,l} + b^{h,l})    & [T, d / L] \\
        z^h &= x + [z^{h,1} ; .. ; z^{h,L}] \qquad \text{out} = W [z^1 ; .. ; z^H] + b    & [T, d]

    Shapes: [D, T, dimension] -> the same; `visible` [D, T, T] says who may look at whom.
    """

    def __init__(self, dimension: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        if dimension % heads or dimension % layers:
            raise ValueError(f"dimension {dimension} must be a multiple of heads {heads} and of layers {layers}")
        self.heads, part = heads, dimension // layers
        self.query, self.key = (nn.Linear(dimension, dimension) for _ in range(2))
        self.weights = nn.ParameterList(torch.empty(heads, dimension + k * part, part) for k in range(layers))
        self.biases = nn.ParameterList(torch.zeros(heads, 1, part) for _ in range(layers))
        for weight in self.weights:
            for matrix in weight.data:
                nn.init.xavier_uniform_(matrix)
        self.merge = nn.Linear(heads * dimension, dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, visible: Tensor) -> Tensor:
        """Gives the utterances' states."""
        query, key = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(nodes), self.key(nodes))
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # [D, H, T, T]
        graphs = scores.masked_fill(~visible.unsqueeze(1), float("-inf")).softmax(-1)
        known = nodes.unsqueeze(1).expand(-1, self.heads, -1, -1)  # [D, H, T, d], and grows
        for weight, bias in zip(self.weights, self.biases, strict=True):
            new = torch.relu(graphs @ (known @ weight) + bias)
            known = torch.cat([known, self.dropout(new)], -1)
        branches = nodes.unsqueeze(1) + known[..., nodes.shape[-1] :]
        merged: Tensor = self.merge(branches.transpose(1, 2).flatten(2))
        return merged


class LRGCN(nn.Module):
    r"""Context, speaker graph, latent graphs, decision.

    .. math::
        g = \mathrm{biGRU}(x) \quad h = \mathrm{ReLU}(\mathrm{RGCN}(g)) \quad z = \mathrm{LatentGraphs}(h) \quad
        y = \mathrm{softmax}(W_2 \mathrm{ReLU}(W_1 [g ; z]))

    The speaker graph is DialogueGCN's: `window` utterances back, `future` ahead, 2 * (speakers + 1)^2 relations, one
    more speaker standing for those whom nobody could tell; here PyG's RGCNConv without weights of edges. Features stand
    side by side, zeros where absent.

    Differs: sizes are ours, and so is how the branches meet where the paper's prose leaves it open: the heads by the
    linear combination of AGGCN, the recurrent state g beside them as its residual.

    `causal`: a one-directional GRU, no edge from the future, latent graphs over j <= i.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        units: int = 100,
        dimension: int = 64,
        hidden: int = 64,
        window: int = 10,
        future: int = 10,
        heads: int = 4,
        layers: int = 2,
        blocks: int = 1,
        speakers: int = 2,
        bases: int = 8,
        dropout: float = 0.4,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal, self.window, self.future, self.speakers = causal, window, 0 if causal else future, speakers
        self.inputs = SideBySide(specs)
        self.context = Recurrent("gru", self.inputs.dimension, units, causal=causal)
        self.relational = RGCNConv(self.context.dimension, dimension, 2 * (speakers + 1) ** 2, num_bases=bases)
        self.latent = nn.ModuleList(LatentGraphs(dimension, heads, layers, dropout) for _ in range(blocks))
        self.hidden = nn.Linear(self.context.dimension + dimension, hidden)
        self.decide = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        layout = Layout.of(batch.dialogue)
        context = self.context(self.dropout(self.inputs(batch)), layout)
        edges = speaker_edges(batch.speakers, batch.dialogue, window=self.window, future=self.future)
        j, i = edges.index
        slots = speaker_slots(batch.speakers, self.speakers)
        relation = speaker_relations(slots[i], slots[j], edges.steps_back, self.speakers + 1)
        nodes = layout.pad(self.dropout(torch.relu(self.relational(context, edges.index, relation))))
        visible = layout.visible(causal=self.causal)
        for latent in self.latent:
            nodes = latent(nodes, visible)
        states = torch.cat([context, layout.flat(nodes)], -1)
        logits = self.decide(self.dropout(torch.relu(self.hidden(self.dropout(states)))))
        return Output(logits / self.temperature)
