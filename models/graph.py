"""The speaker relation graph: who answered whom, and how much of it reaches an utterance's state.

Nodes are utterances, ordered by the moment at which they *ended*; an edge j -> i says that i looks at j. In a causal
graph i looks at itself and at the `window` nodes before it, so a node never changes once it is computed. Whole
dialogues run through `SpeakerGraph.forward`, a live conversation through `models.graph_state`; both give the same
numbers.

Source: AR-IIGCN (Shou et al. 2023), equations 8 to 10.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import IntEnum
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

with warnings.catch_warnings():  # torch_geometric scripts parts of itself on import, which torch has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import MessagePassing
    from torch_geometric.utils import softmax

UNKNOWN_SPEAKER = -1
"""How a speaker that nobody could tell stands in a tensor of speakers."""


ATTENTION_DIMENSION = 64
"""Width of the hidden layer that scores an edge (rows of W_1); wider ones cost time and brought nothing."""


class Relation(IntEnum):
    """What an earlier utterance j is to utterance i. A graph with a future has the last three once more for it."""

    SELF = 0
    SAME_SPEAKER = 1
    OTHER_SPEAKER = 2
    UNKNOWN = 3


def relation_count(*, causal: bool) -> int:
    """Gives the number of relation types: 4, or 7 where edges from the future have types of their own."""
    return len(Relation) if causal else 2 * len(Relation) - 1


def relation_types(speaker_i: Tensor, speaker_j: Tensor, steps_back: Tensor) -> Tensor:
    """Gives the relation type of each edge j -> i; `steps_back` is i - j, negative for an edge from the future."""
    unknown = (speaker_i == UNKNOWN_SPEAKER) | (speaker_j == UNKNOWN_SPEAKER)
    relation = torch.where(speaker_i == speaker_j, int(Relation.SAME_SPEAKER), int(Relation.OTHER_SPEAKER))
    relation = relation.masked_fill(unknown, int(Relation.UNKNOWN))
    relation = relation.masked_fill(steps_back == 0, int(Relation.SELF))
    return relation + (steps_back < 0) * (len(Relation) - 1)


@dataclass(frozen=True, slots=True)
class Edges:
    """The edges of one or more dialogues. `index` [2, E] holds j above i; `relation` and `steps_back` are [E]."""

    index: Tensor
    relation: Tensor
    steps_back: Tensor


def speaker_edges(
    speakers: Tensor, dialogue: Tensor, *, window: int = 10, future: int = 0, alive: Tensor | None = None
) -> Edges:
    """Gives every edge of a whole batch of dialogues at once.

    Args:
        speakers: [N] speaker of each node, `UNKNOWN_SPEAKER` where nobody knows.
        dialogue: [N] dialogue of each node. The nodes of a dialogue lie together, in the order of their ends: that
            order is what makes "j has ended when i ends" the same as "j stands before i".
        window: how many nodes before itself a node looks at.
        future: how many after itself; 0 is the causal graph.
        alive: [N] false for a tombstone (see `graph_state`), which has no edges but keeps its place.
    """
    count = len(speakers)
    steps = torch.arange(-future, window + 1, device=speakers.device)  # [W]
    target = torch.arange(count, device=speakers.device).unsqueeze(1).expand(-1, len(steps))  # [N, W]
    source = target - steps
    inside = (source >= 0) & (source < count)
    source = source.clamp(0, max(count - 1, 0))
    valid = inside & (dialogue[source] == dialogue[target])
    if alive is not None:
        valid &= alive[source] & alive[target]
    j, i, back = source[valid], target[valid], steps.expand_as(source)[valid]
    return Edges(torch.stack([j, i]), relation_types(speakers[i], speakers[j], back), back)


class SpeakerGraphConv(MessagePassing):  # type: ignore[misc]  # torch_geometric ships no types
    r"""One round of messages between utterances.

    .. math::
        e_{ij} &= W_2\, f(W_1 [h_i ; h_j]) + b_{i-j} \qquad a_{ij} = \mathrm{softmax}_{j \in N(i)}\, e_{ij} \\
        h_i' &= \mathrm{GELU}\Big(\sum_r \sum_{j \in N_r(i)} \frac{a_{ij}}{|N_r(i)|} W_r h_j + a_{ii} W_0 h_i\Big)

    N(i) contains i, else a first utterance would have no neighbour. f is a leaky ReLU. W_1 is kept as the two halves
    that meet h_i (`query`) and h_j (`key`), so that each node is projected once however many edges it has.

    Not in the paper: `heads` > 1 gives each part of the vector an attention of its own; b, a learned bias for each
    distance, is zero at first; `share=False` leaves out 1 / |N_r(i)|.

    Shapes: nodes [N, dimension] -> [N, dimension].
    """

    def __init__(
        self,
        dimension: int,
        *,
        relations: int = 4,
        window: int = 10,
        future: int = 0,
        heads: int = 1,
        share: bool = True,
    ) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.relations, self.heads, self.future, self.share = relations, heads, future, share
        attention = min(dimension, ATTENTION_DIMENSION)
        self.attention, self.dimension = attention, dimension
        # Query, key and every W_r in one matrix: one product for each node.
        self.weight = nn.Parameter(torch.empty(2 * attention + relations * dimension, dimension))
        self.query_bias = nn.Parameter(torch.zeros(attention))
        self.score = nn.Linear(attention, heads, bias=False)
        self.distance = nn.Parameter(torch.zeros(future + window + 1, heads))
        for matrix in torch.split(self.weight.data, [attention, attention, *[dimension] * relations]):
            nn.init.xavier_uniform_(matrix)

    def project(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gives what an edge needs of its nodes: query and key [N, a], and W_r h [N, relations, d]."""
        parts = functional.linear(nodes, self.weight)
        query, key, value = torch.split(parts, [self.attention, self.attention, self.relations * self.dimension], -1)
        return query + self.query_bias, key, value.reshape(len(nodes), self.relations, self.dimension)

    def scores(self, query_i: Tensor, key_j: Tensor, steps_back: Tensor) -> Tensor:
        """Gives e_ij [E, heads]."""
        return cast(
            Tensor,
            self.score(functional.leaky_relu(query_i + key_j, 0.2))
            + self.distance.index_select(0, steps_back + self.future),
        )

    def forward(self, nodes: Tensor, edges: Edges) -> Tensor:
        """Gives the updated nodes; one without edges becomes GELU(0) = 0."""
        query, key, value = self.project(nodes)
        j, i = edges.index
        # index_select, because the backward pass of query[i] sums one by one.
        scores = self.scores(query.index_select(0, i), key.index_select(0, j), edges.steps_back)
        attention = softmax(scores, i, num_nodes=len(nodes))  # [E, heads]
        group = i * self.relations + edges.relation  # which N_r(i) an edge belongs to
        members = torch.bincount(group, minlength=len(nodes) * self.relations)[group]
        weight = attention / members.unsqueeze(-1) if self.share else attention
        # Messages start at (node, relation) rather than at nodes, so that an edge fetches d numbers, not relations x d.
        senders = torch.stack([j * self.relations + edges.relation, i])
        size = (len(nodes) * self.relations, len(nodes))
        return functional.gelu(self.propagate(senders, value=(value.flatten(0, 1), None), weight=weight, size=size))

    def message(self, value_j: Tensor, weight: Tensor) -> Tensor:
        """Gives a_ij / |N_r(i)| W_r h_j for each edge, [E, d]."""
        return (value_j.view(len(weight), self.heads, -1) * weight.unsqueeze(-1)).flatten(1)


class SpeakerGraph(nn.Module):
    """Rounds of messages with what keeps deeper ones trainable: h <- LayerNorm(h + dropout(conv(h))).

    The paper has a single bare round. Residual connections and a second round, which doubles the reach to
    `window * layers` utterances, are ours; the README says what they brought.
    """

    def __init__(
        self,
        dimension: int,
        *,
        layers: int = 2,
        window: int = 10,
        future: int = 0,
        heads: int = 1,
        dropout: float = 0.3,
        share: bool = True,
    ) -> None:
        super().__init__()
        self.dimension, self.window, self.future = dimension, window, future
        relations = relation_count(causal=future == 0)
        self.convs = nn.ModuleList(
            SpeakerGraphConv(dimension, relations=relations, window=window, future=future, heads=heads, share=share)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    @property
    def rounds(self) -> list[tuple[SpeakerGraphConv, nn.LayerNorm]]:
        """The convolutions with their norms, in order."""
        pairs = zip(self.convs, self.norms, strict=True)
        return [(cast(SpeakerGraphConv, conv), cast(nn.LayerNorm, norm)) for conv, norm in pairs]

    @property
    def reach(self) -> int:
        """How many utterances back anything can be felt: window x layers."""
        return self.window * len(self.convs)

    def forward(self, nodes: Tensor, edges: Edges) -> Tensor:
        """Gives the nodes' states [N, d] after all rounds."""
        for conv, norm in self.rounds:
            nodes = norm(nodes + self.dropout(conv(nodes, edges)))
        return nodes
