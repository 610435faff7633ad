"""How the peers read a dialogue as a whole: padded side by side, by recurrence, by attention over other utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.layers import Normalise


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each of N utterances stands when D dialogues of at most T utterances are padded to a block [D, T].

    `row` and `column` are int64 [N], `lengths` int64 [D].
    """

    row: Tensor
    column: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, dialogue: Tensor) -> Layout:
        """Gives the layout of dialogues that lie end to end, from the dialogue [N] of each utterance."""
        _, row, lengths = torch.unique_consecutive(dialogue, return_inverse=True, return_counts=True)
        starts = lengths.cumsum(0) - lengths
        return cls(row, torch.arange(len(dialogue), device=dialogue.device) - starts[row], lengths)

    def backwards(self) -> Layout:
        """Gives the same dialogues from their last utterance to their first, padding still at the right."""
        return Layout(self.row, self.lengths[self.row] - 1 - self.column, self.lengths)

    def pad(self, rows: Tensor) -> Tensor:
        """[N, ...] -> [D, T, ...], zeros behind a dialogue's end."""
        longest = int(self.lengths.max())
        block = rows.new_zeros(len(self.lengths) * longest, *rows.shape[1:])
        block.index_copy_(0, self.row * longest + self.column, rows)
        return block.view(len(self.lengths), longest, *rows.shape[1:])

    def pad_in_time(self, rows: Tensor) -> Tensor:
        """[N, ...] -> [T, D, ...], as recurrent networks read: `pad` would have to be copied for them."""
        longest = int(self.lengths.max())
        block = rows.new_zeros(longest * len(self.lengths), *rows.shape[1:])
        block.index_copy_(0, self.column * len(self.lengths) + self.row, rows)
        return block.view(longest, len(self.lengths), *rows.shape[1:])

    def flat(self, block: Tensor) -> Tensor:
        """[D, T, ...] -> [N, ...]: undoes `pad`."""
        # Not block[row, column], whose backward pass sums one by one and is several times slower.
        return block.flatten(0, 1).index_select(0, self.row * block.shape[1] + self.column)

    def flat_in_time(self, block: Tensor) -> Tensor:
        """[T, D, ...] -> [N, ...]: undoes `pad_in_time`."""
        return block.flatten(0, 1).index_select(0, self.column * block.shape[1] + self.row)

    def visible(self, *, causal: bool) -> Tensor:
        """Gives [D, T, T]: whether utterance i (second axis) may look at j (third): never at padding, nor ahead."""
        longest = int(self.lengths.max())
        place = torch.arange(longest, device=self.lengths.device)
        real = (place < self.lengths.unsqueeze(1)).unsqueeze(1).expand(-1, longest, -1)
        return real & (place <= place.unsqueeze(1)) if causal else real


class SideBySide(nn.Module):
    """Every feature of an utterance in one vector, zeros (the mean) where one is absent: [N, sum of dimensions]."""

    def __init__(self, specs: Sequence[FeatureSpec]) -> None:
        super().__init__()
        self.ids = tuple(spec.id for spec in specs)
        self.normalise = nn.ModuleList(Normalise(spec) for spec in specs)
        self.dimension = sum(spec.dimension for spec in specs)

    def forward(self, batch: Batch) -> Tensor:
        """Gives the utterances' vectors."""
        parts = []
        for name, normalise in zip(self.ids, self.normalise, strict=True):
            here = batch.present[name].unsqueeze(-1)
            parts.append(torch.where(here, normalise(batch.features[name]), 0.0))
        return torch.cat(parts, -1)


class Recurrent(nn.Module):
    """An LSTM or a GRU over each dialogue: [N, inputs] -> [N, dimension], both ways unless `causal`.

    `dimension` is `units` if causal, else twice that. The way back is a second one over reversed dialogues, so that
    padding stands behind the end both times, where nothing looks back from; packing would be slower.
    """

    def __init__(self, kind: str, inputs: int, units: int, *, causal: bool) -> None:
        super().__init__()
        make = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
        ways = 1 if causal else 2
        self.ways = nn.ModuleList(make(inputs, units) for _ in range(ways))
        self.dimension = ways * units

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """Gives the state at each utterance."""
        orders = (layout, layout.backwards())[: len(self.ways)]
        if isinstance(self.ways[0], nn.GRU) and not rows.is_cuda:
            return self._in_step(rows, orders)
        parts = [
            order.flat_in_time(way(order.pad_in_time(rows))[0]) for order, way in zip(orders, self.ways, strict=True)
        ]
        return torch.cat(parts, -1)

    def _in_step(self, rows: Tensor, orders: Sequence[Layout]) -> Tensor:
        """Gives what GRUs give, in two thirds of the time on a CPU.

        Both ways go step by step together, and no padding is projected, which is half of a batch of dialogues.
        """
        # weight_ih, weight_hh, bias_ih, bias_hh
        taught = [cast(nn.GRU, way).all_weights[0] for way in self.ways]
        gates = torch.stack(
            [
                order.pad_in_time(functional.linear(rows, own[0], own[2]))
                for order, own in zip(orders, taught, strict=True)
            ],
            1,
        )  # [T, ways, D, 3 * units]: reset, update, new
        weight = torch.stack([own[1].T for own in taught])
        bias = torch.stack([own[3] for own in taught]).unsqueeze(1)
        units = weight.shape[1]
        state = gates.new_zeros(*gates.shape[1:-1], units)
        states = []
        for told, new in zip(*(part.unbind(0) for part in gates.split_with_sizes((2 * units, units), -1)), strict=True):
            known, recalled = torch.baddbmm(bias, state, weight).split_with_sizes((2 * units, units), -1)
            reset, update = torch.sigmoid(told + known).chunk(2, -1)
            state = torch.lerp(torch.tanh(torch.addcmul(new, reset, recalled)), state, update)
            states.append(state)
        found = torch.stack(states, 1)  # [ways, T, D, units]
        return torch.cat([order.flat_in_time(way) for order, way in zip(orders, found.unbind(), strict=True)], -1)


class ContextAttention(nn.Module):
    """Lets each utterance sum up its dialogue: b_i = softmax_j(e_i W e_j), out_i = sum_j b_ij e_j.

    Shapes: [N, dimension] -> [N, dimension]. The emotion attention of DialogueRNN (Majumder et al. 2019); bc-LSTM + Att
    and DialogueGCN have the same. `causal`: over j <= i alone. W begins as the identity, so that an utterance first
    looks at what is like it, itself most: with a small random W all weights begin equal, each utterance gets its
    dialogue's mean, and little data hardly teach it otherwise (DialogueGCN on IEMOCAP, validation: 56 instead of 64).
    """

    def __init__(self, dimension: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.match = nn.Linear(dimension, dimension, bias=False)
        nn.init.eye_(self.match.weight)

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """Gives the attended vectors."""
        block = layout.pad(rows)
        scores = layout.pad(self.match(rows)) @ block.transpose(1, 2)  # [D, T, T]; padding is not projected
        weights = scores.masked_fill(~layout.visible(causal=self.causal), float("-inf")).softmax(-1)
        return layout.flat(weights @ block)


class MultiHead(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017): [D, T, dimension] asks the same."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dimension, dimension)
        self.key_value = nn.Linear(dimension, 2 * dimension)
        self.out = nn.Linear(dimension, dimension)

    def forward(self, asking: Tensor, asked: Tensor, visible: Tensor) -> Tensor:
        """Gives what `asking` found in `asked` where `visible` [D, T, T]."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [D, heads, T, d / heads]
            for part in (self.query(asking), *self.key_value(asked).chunk(2, -1))
        )
        rate = self.dropout if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, visible.unsqueeze(1), dropout_p=rate)
        return cast(Tensor, self.out(found.transpose(1, 2).flatten(2)))


def speaker_slots(speakers: Tensor, count: int) -> Tensor:
    """Gives int64 [N] in 0..count: a speaker's number, or `count` for an unknown one and for all beyond the first ones.

    Speakers are numbered in each dialogue as they first speak, so slot 0 is whoever began.
    """
    return torch.where((speakers < 0) | (speakers > count), count, speakers)
