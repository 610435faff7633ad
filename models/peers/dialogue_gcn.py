"""DialogueGCN: a recurrent reading, then a graph whose edges know who speaks to whom and in which order.

Ghosal, Majumder, Poria, Chhaya, Gelbukh: DialogueGCN: A Graph Convolutional Neural Network for Emotion Recognition in
Conversation (EMNLP 2019).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.graph import speaker_edges
from mer_agent.models.peers.context import ContextAttention, Layout, Recurrent, SideBySide, speaker_slots

with warnings.catch_warnings():  # torch_geometric scripts parts of itself on import, which torch has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import GraphConv, MessagePassing
    from torch_geometric.utils import softmax


def speaker_relations(slots_i: Tensor, slots_j: Tensor, steps_back: Tensor, slots: int) -> Tensor:
    """Gives the type of each edge j -> i among 2 * slots^2: both speakers, and whether j comes after i."""
    return ((steps_back < 0) * slots + slots_i) * slots + slots_j


class WeightedRGCNConv(MessagePassing):  # type: ignore[misc]  # torch_geometric ships no types
    r"""Relational convolution whose edges have weights: eq. 2 of the paper, before its activation.

    .. math::
        h_i' = \sum_r \sum_{j \in N_i^r} \frac{a_{ij}}{|N_i^r|} W_r h_j + a_{ii} W_0 h_i + b, \qquad
        W_r = \sum_k c_{rk} V_k

    PyG's RGCNConv has no edge weights; where all are 1, this is its `aggr="mean"` with `num_bases`.
    Shapes: nodes [N, inputs], index [2, E], relation [E], weight [E], own [N] (a_ii) -> [N, dimension].
    """

    def __init__(self, inputs: int, dimension: int, relations: int, bases: int) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.relations, self.dimension = relations, dimension
        self.bases = nn.Parameter(torch.empty(bases, inputs, dimension))
        self.mix = nn.Parameter(torch.empty(relations, bases))
        self.root = nn.Parameter(torch.empty(inputs, dimension))
        self.bias = nn.Parameter(torch.zeros(dimension))
        for parameter in (*self.bases.data, self.mix, self.root):
            nn.init.xavier_uniform_(parameter)

    def forward(self, nodes: Tensor, index: Tensor, relation: Tensor, weight: Tensor, own: Tensor) -> Tensor:
        """Gives the convolved nodes."""
        used, relation = torch.unique(relation, return_inverse=True)  # only those that occur, most often half
        matrices = (self.mix[used] @ self.bases.flatten(1)).view(len(used), *self.root.shape)
        values = torch.einsum("ni,rio->nro", nodes, matrices).flatten(0, 1)  # [N * R, d]: W_r h_j for every r
        j, i = index
        group = i * len(used) + relation
        members = torch.bincount(group, minlength=len(nodes) * len(used))[group]
        senders = torch.stack([j * len(used) + relation, i])
        size = (len(values), len(nodes))
        heard = self.propagate(senders, value=(values, None), weight=weight / members, size=size)
        return cast(Tensor, heard + own.unsqueeze(-1) * (nodes @ self.root) + self.bias)

    def message(self, value_j: Tensor, weight: Tensor) -> Tensor:
        """Gives each edge's share, [E, d]."""
        return value_j * weight.unsqueeze(-1)


class DialogueGCN(nn.Module):
    r"""Sequential context, edge attention, two convolutions, attention over the dialogue, decision.

    .. math::
        g &= \mathrm{biGRU}(x)                                                                     & [N, d_g] \\
        a_{ij} &= \mathrm{softmax}_{j \in [i - \text{window}, i + \text{future}]}\; g_i W_e g_j        & \text{eq. 1} \\
        h' &= \mathrm{ReLU}(\mathrm{WeightedRGCNConv}(g, a))                                       & \text{eq. 2} \\
        h'' &= \mathrm{ReLU}(\mathrm{GraphConv}(h'))                                               & \text{eq. 3} \\
        y &= \mathrm{softmax}(W_2 \mathrm{ReLU}(W_1 \mathrm{ContextAttention}([g ; h''])))          & \text{eq. 4 to 9}

    `causal`: the GRU runs forward alone, no edge comes from the future, and the attention looks back only. `future` is
    then not used. Relations are 2 * (speakers + 1)^2: the paper's 2 M^2, where one more speaker stands for those whom
    nobody could tell and for any beyond the first `speakers`. Features stand side by side, zeros where absent (the
    paper read text alone). The paper names no bases; 30 is what its published program takes. The edge
    attention here is the paper's, which is not that program's. `attention=False` leaves out the attention over the
    dialogue, of which an utterance's own state is only a part.
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
        speakers: int = 2,
        bases: int = 30,
        dropout: float = 0.4,
        attention: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.future, self.speakers = window, 0 if causal else future, speakers
        self.inputs = SideBySide(specs)
        self.context = Recurrent("gru", self.inputs.dimension, units, causal=causal)
        width = self.context.dimension
        self.edge_attention = nn.Linear(width, width, bias=False)
        self.relational = WeightedRGCNConv(width, dimension, 2 * (speakers + 1) ** 2, bases)
        self.neighbours = GraphConv(dimension, dimension)
        self.attention = ContextAttention(width + dimension, causal=causal) if attention else None
        self.hidden = nn.Linear(width + dimension, hidden)
        self.decide = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Buffer(torch.ones(()))

    def edges(self, context: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gives index [2, E], relation [E], weight a_ij [E] and own a_ii [N] of a whole batch at once."""
        edges = speaker_edges(batch.speakers, batch.dialogue, window=self.window, future=self.future)
        j, i = edges.index
        slots = speaker_slots(batch.speakers, self.speakers)
        relation = speaker_relations(slots[i], slots[j], edges.steps_back, self.speakers + 1)
        layout = Layout.of(batch.dialogue)
        block, asking = layout.pad(context), layout.pad(self.edge_attention(context))
        every = asking @ block.transpose(1, 2)  # [D, T, T]: cheaper than fetching rows edge by edge
        place = (layout.row[i] * block.shape[1] + layout.column[i]) * block.shape[1] + layout.column[j]
        weight = softmax(every.flatten().index_select(0, place), i, num_nodes=len(batch))
        return edges.index, relation, weight, weight[edges.steps_back == 0]

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        layout = Layout.of(batch.dialogue)
        context = self.context(self.dropout(self.inputs(batch)), layout)
        index, relation, weight, own = self.edges(context, batch)
        nodes = torch.relu(self.relational(context, index, relation, weight, own))
        nodes = torch.relu(self.neighbours(nodes, index))
        states = self.dropout(torch.cat([context, nodes], -1))
        if self.attention is not None:
            states = self.attention(states, layout)
        logits = self.decide(self.dropout(torch.relu(self.hidden(states))))
        return Output(logits / self.temperature)
