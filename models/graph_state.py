"""Speaker graphs that grow by one utterance at a time, at a cost that doesn't grow with them.

Because edges are causal, a node never changes once it is computed. What an edge needs of its two ends is kept from when
each was computed, so a new node costs a few small matrix products and a look at `window` cached rows. It gives the
same numbers as `SpeakerGraph.forward` over the whole dialogue, within 1e-5.

The graphs of a model, one for each modality and member, have the same nodes and edges. So they are computed together:
G graphs of d dimensions are one product of [G, 1, d] and [G, d, n], where one after the other they'd be G small ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.models.graph import UNKNOWN_SPEAKER, SpeakerGraph, SpeakerGraphConv, relation_types


class GraphState:
    """One conversation in the speaker graphs of a model, which are alike but for their weights.

    It keeps the last `window * (layers + 1)` nodes, which is all that can still reach a future one (`window * layers`)
    and what those need to be recomputed. Nodes are numbered from 0 in order of arrival, for ever.

    `forget` leaves tombstones: a tombstone holds nothing of its speaker and has no edges, but it keeps its place, so
    that everyone else's windows reach as far as before.

    Args:
        graphs: G of them, at least one. Their weights are copied.

    Attributes:
        reach: how far back a node can be and still matter to the next one.
    """

    def __init__(self, graphs: Sequence[SpeakerGraph]) -> None:
        first = graphs[0]
        if first.future:
            raise ValueError("a graph that looks into the future can't be streamed")
        self._count, self._dimension, self._window, self.reach = len(graphs), first.dimension, first.window, first.reach
        self._rounds = [_Round(alike) for alike in zip(*(graph.rounds for graph in graphs), strict=True)]
        # A graph of no rounds has no weights.
        self._like = next(first.parameters(), torch.zeros(())).detach()
        self._keep = first.window * (len(first.convs) + 1)
        self._places = 4 * self._keep  # arrivals move along the buffers and rarely have to be moved back
        self.reset()

    def reset(self) -> None:
        """Forgets the whole conversation."""
        like, count, dimension, places = self._like, self._count, self._dimension, self._places
        self._inputs = like.new_zeros(places, count, dimension)
        self._states = like.new_zeros(places, count, dimension)
        self._keys = [like.new_zeros(places, count, each.attention) for each in self._rounds]
        self._values = [like.new_zeros(places, count, each.relations, dimension) for each in self._rounds]
        self._speakers = torch.full((places,), UNKNOWN_SPEAKER, device=like.device)
        self._alive = torch.zeros(places, dtype=torch.bool, device=like.device)
        self._steps = torch.arange(self._window, -1, -1, device=like.device)
        self._first = 0  # number of the node in place 0
        self._filled = 0
        self._tombstones = False

    def __len__(self) -> int:
        """How many nodes were ever appended, tombstones among them."""
        return self._first + self._filled

    def heard(self, number: int) -> int:
        """Gives how many living nodes before node `number` can be felt in it."""
        place = number - self._first
        return int(self._alive[max(0, place - self.reach) : place].sum())

    def holds(self, number: int) -> bool:
        """Tells whether the node can still matter to a future one, so that `revise` accepts it."""
        return len(self) - self.reach <= number < len(self) and bool(self._alive[number - self._first])

    @torch.no_grad()
    def append(self, node: Tensor, speaker: int | None) -> Tensor:
        """Adds a node [G, d]; gives its state [G, d]."""
        state = self.preview(node, speaker)
        self._filled += 1
        return state

    @torch.no_grad()
    def preview(self, node: Tensor, speaker: int | None, *, unheard: int | None = None) -> Tensor:
        """Gives the state [G, d] that `append` would give, and adds nothing.

        `unheard`: number of a node that this one shall not look at; what it left in others stays.
        """
        if self._filled == self._places:
            self._move_back()
        self._put(self._filled, node, speaker)
        if unheard is None:
            return self._compute(self._filled)
        before = self._tombstones, self._alive.clone()
        self._tombstones, self._alive[unheard - self._first] = True, False
        state = self._compute(self._filled)
        self._tombstones, self._alive = before
        return state

    @torch.no_grad()
    def revise(self, number: int, node: Tensor, speaker: int | None) -> Tensor | None:
        """Replaces a node, recomputes those after it, and gives its new state.

        None, and nothing changes, where the node is forgotten or is so old that no future node can feel it.
        """
        if not self.holds(number):
            return None
        place = number - self._first
        self._put(place, node, speaker)
        self._recompute(place)
        return self._states[place].clone()

    @torch.no_grad()
    def forget(self, speaker: int) -> int:
        """Makes tombstones of a speaker's nodes, recomputes everyone else's; gives how many there were.

        States of nodes more than `window` back are recomputed from what is still kept of their past. No future node
        can tell, and `revise` of a node at most `window` back is exact as well.
        """
        self._move_back()
        gone = self._alive & (self._speakers == speaker)
        gone[self._filled :] = False
        self._erase(gone)
        self._tombstones = self._tombstones or bool(gone.any())
        if gone.any():
            self._recompute(0)
        return int(gone.sum())

    def to_dict(self) -> dict[str, Any]:
        """Gives the state as tensors and integers. It holds numbers that were computed from what was said, no words."""
        low = max(0, self._filled - self._keep)
        part = slice(low, self._filled)
        kept = {
            "inputs": self._inputs[part],
            "states": self._states[part],
            "speakers": self._speakers[part],
            "alive": self._alive[part],
        }
        kept |= {f"keys.{k}": keys[part] for k, keys in enumerate(self._keys)}
        kept |= {f"values.{k}": values[part] for k, values in enumerate(self._values)}
        return {"first": self._first + low, **{name: tensor.clone() for name, tensor in kept.items()}}

    def load_dict(self, saved: Mapping[str, Any]) -> None:
        """Goes on from what `to_dict` gave.

        Raises:
            ValueError: it comes from a graph of another shape.
        """
        self.reset()
        filled = len(saved["inputs"])
        own = {"inputs": self._inputs, "states": self._states, "speakers": self._speakers, "alive": self._alive}
        own |= {f"keys.{k}": keys for k, keys in enumerate(self._keys)}
        own |= {f"values.{k}": values for k, values in enumerate(self._values)}
        wanted = {name: (filled, *tensor.shape[1:]) for name, tensor in own.items()}
        found = {name: tuple(value.shape) for name, value in saved.items() if name != "first"}
        if wanted != found or filled > self._keep:
            raise ValueError("the saved state comes from a graph of another shape")
        for name, tensor in own.items():
            tensor[:filled] = saved[name]
        self._first, self._filled = int(saved["first"]), filled
        self._tombstones = not bool(self._alive[:filled].all())

    def _put(self, place: int, node: Tensor, speaker: int | None) -> None:
        self._inputs[place] = node
        self._speakers[place] = UNKNOWN_SPEAKER if speaker is None else speaker
        self._alive[place] = True

    def _compute(self, place: int) -> Tensor:
        """Computes one node through all layers, from the cached rows of its window."""
        low = max(0, place - self._window)
        rows: slice | Tensor = slice(low, place + 1)
        back = self._steps[-(place + 1 - low) :]
        if self._tombstones:
            living = self._alive[rows].nonzero().flatten()
            rows, back = living + low, back[living]
        relation = relation_types(self._speakers[place], self._speakers[rows], back)
        state = self._inputs[place]
        for each, keys, values in zip(self._rounds, self._keys, self._values, strict=True):
            query, keys[place], values[place] = each.project(state)
            state = each.norm(state + each.step(query, keys[rows], values[rows], relation, back))
        self._states[place] = state
        return state

    def _recompute(self, place: int) -> None:
        for each in range(place, self._filled):
            if self._alive[each]:
                self._compute(each)

    def _buffers(self) -> list[Tensor]:
        return [self._inputs, self._states, *self._keys, *self._values]

    def _erase(self, gone: Tensor) -> None:
        for buffer in self._buffers():
            buffer[gone] = 0
        self._speakers[gone] = UNKNOWN_SPEAKER
        self._alive[gone] = False

    def _move_back(self) -> None:
        """Moves the nodes that are kept to the front of the buffers, and wipes the rest."""
        low = max(0, self._filled - self._keep)
        kept = self._filled - low
        for buffer in [*self._buffers(), self._speakers, self._alive]:
            buffer[:kept] = buffer[low : self._filled].clone()
        self._first, self._filled = self._first + low, kept
        self._erase(torch.arange(self._places, device=self._alive.device) >= kept)
        self._tombstones = not bool(self._alive[:kept].all())


class _Round:
    """The same round of several graphs, for one node: `SpeakerGraphConv` and the norm behind it, side by side."""

    def __init__(self, alike: Sequence[tuple[SpeakerGraphConv, nn.LayerNorm]]) -> None:
        convs, norms = zip(*alike, strict=True)
        first: SpeakerGraphConv = convs[0]
        self.attention, self.relations = first.attention, first.relations
        self._future, self._share = first.future, first.share
        self._weight = _stacked([conv.weight.T for conv in convs])  # [G, d, 2 * a + relations * d]
        self._query_bias = _stacked([conv.query_bias for conv in convs])  # [G, a]
        self._score = _stacked([conv.score.weight.T for conv in convs])  # [G, a, heads]
        self._distance = _stacked([conv.distance for conv in convs])  # [G, distances, heads]
        self._scale, self._shift = (_stacked([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
        self._least: float = norms[0].eps

    def project(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gives query and key [G, a] and values [G, relations, d] of nodes [G, d]."""
        parts = (nodes.unsqueeze(1) @ self._weight).squeeze(1)
        query, key, value = torch.split(parts, [self.attention, self.attention, self.relations * nodes.shape[1]], -1)
        return query + self._query_bias, key, value.view(len(nodes), self.relations, -1)

    def step(self, query: Tensor, keys: Tensor, values: Tensor, relation: Tensor, steps_back: Tensor) -> Tensor:
        """Gives the update [G, d] from n neighbours' cached keys [n, G, a] and values [n, G, relations, d]."""
        near = functional.leaky_relu(query + keys, 0.2).transpose(0, 1)  # [G, n, a]
        scores = near @ self._score + self._distance[:, steps_back + self._future]
        attention = scores.softmax(1).transpose(0, 1)  # [n, G, heads]
        if self._share:
            attention = attention / (relation.unsqueeze(0) == relation.unsqueeze(1)).sum(1)[:, None, None]
        picked = values[torch.arange(len(relation)), :, relation]  # [n, G, d]
        parts = picked.view(*attention.shape, -1) * attention.unsqueeze(-1)
        return functional.gelu(parts.sum(0).flatten(1))

    def norm(self, nodes: Tensor) -> Tensor:
        """Gives nodes [G, d] at mean 0 and deviation 1, each graph's on its own scale."""
        return functional.layer_norm(nodes, nodes.shape[1:], eps=self._least) * self._scale + self._shift


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.detach() for part in parts]).contiguous()
