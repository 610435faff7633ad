"""A conversation read by a sentence encoder, so that nobody sees a later turn.

The lower layers of the network are frozen and read each turn alone, as they were trained to: `<s> words </s>`. Above
them the turns stand side by side in one row, each marked with its speaker's place in order of appearance in that row.
There a token sees its own turn and those before it, never one after it: the states of a turn don't depend on what
follows. In training, one pass over a stretch of dialogue judges all of its turns, where reading each with its own past
would cost six passes, and the lower layers are computed once for all epochs. Live, the last turn of the row is judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LOWER = 8
"""Layers that read each turn alone."""

SPEAKERS = 8
"""Speakers that are told apart in a row; a ninth is marked as the first again. Mark 0 is nobody known."""

TOKEN_BUDGET = 128
"""Tokens that are read in all: the turn itself and as many whole turns before it as fit."""

PAST_TURNS = 10
"""Turns of the past that are read at most."""

_BLIND = -1e4
"""Added to the attention scores of what may not be seen; finite, since a padding token sees nothing at all."""


class Words:
    """Turns words into the tokens of a turn."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(TOKEN_BUDGET)
        self._unknown = {tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>")}

    def __call__(self, text: str) -> list[int]:
        """Gives the tokens of a turn, at most the budget, marks of start and end included; [] if no word is known.

        Control characters are no words, and neither is what the vocabulary lacks, such as emoji.
        """
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids if any(token not in self._unknown for token in ids[1:-1]) else []


def marks(speakers: Sequence[int | None]) -> list[int]:
    """Gives the mark of each turn's speaker: 1, 2, ... in order of appearance, 0 for nobody known."""
    seen: dict[int, int] = {}
    return [0 if one is None else 1 + seen.setdefault(one, len(seen)) % SPEAKERS for one in speakers]


def alone(network: Any, turns: Sequence[Sequence[int]], pad: int) -> list[Tensor]:
    """Gives the states [tokens, width] of each turn after the lower layers, each read by itself."""
    ids = pad_sequence([torch.tensor(turn) for turn in turns], batch_first=True, padding_value=pad)  # [turns, L]
    lengths = [len(turn) for turn in turns]
    ids = ids.to(network.device)
    hidden = network.embeddings(input_ids=ids)
    hidden = _through(network, network.encoder.layer[:LOWER], hidden, (ids != pad)[:, None, :])
    return [states[:length] for states, length in zip(hidden, lengths, strict=True)]


def together(network: Any, rows: Sequence[Sequence[Tensor]], speakers: Tensor, places: Tensor) -> Tensor:
    """Gives the mean state of each turn of each row after all layers, float32 [rows, turns, width].

    It is scaled to mean 0 and deviation 1 over the width; zeros where a row has no such turn.

    Args:
        network: the adapted network.
        rows: of each row the states that `alone` gave for its turns, oldest first.
        speakers: what marks a speaker's tokens [1 + SPEAKERS, width].
        places: each turn's mark [rows, turns], -1 where a row has no such turn.
    """
    many = places.shape[1]
    hidden = pad_sequence([torch.cat(list(row)) for row in rows], batch_first=True)  # [rows, L, width]
    turns = pad_sequence(
        [torch.repeat_interleave(torch.arange(len(row)), torch.tensor([len(turn) for turn in row])) for row in rows],
        batch_first=True,
        padding_value=-1,
    ).to(hidden.device)  # [rows, L]
    of = functional.one_hot(turns.clamp_min(0), many).to(hidden.dtype) * (turns >= 0).unsqueeze(-1)  # [rows, L, turns]
    hidden = hidden + of @ functional.embedding(places.clamp_min(0), speakers).to(hidden.dtype)
    sees = (turns[:, None, :] <= turns[:, :, None]) & (turns[:, None, :] >= 0)  # [rows, query, key]
    hidden = _through(network, network.encoder.layer[LOWER:], hidden, sees)
    mean = (of.transpose(1, 2) @ hidden).float() / of.sum(1).float().clamp_min(1).unsqueeze(-1)
    return functional.layer_norm(mean, mean.shape[-1:])


def _through(network: Any, layers: Any, hidden: Tensor, sees: Tensor) -> Tensor:
    """Gives the states [B, L, width] after these layers; `sees` is bool [B, query or 1, key]."""
    bias = network.encoder.compute_position_bias(hidden[:1])  # [1, heads, L, L]
    mask = bias + torch.zeros_like(sees, dtype=bias.dtype).masked_fill(~sees, _BLIND)[:, None]
    for layer in layers:
        hidden = _layer(layer, hidden, mask)
    return hidden


def _layer(layer: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """One layer of MPNet as the transformers library computes it, but for the fused attention."""
    attention = layer.attention.attn
    split = (attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (
        part(hidden).unflatten(-1, split).transpose(1, 2) for part in (attention.q, attention.k, attention.v)
    )
    if query.requires_grad:  # written out, since on a CPU the fused form takes seven times as long to go back through
        scores = query @ key.transpose(-1, -2) / math.sqrt(attention.attention_head_size) + mask
        seen = scores.softmax(-1) @ value
    else:
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    hidden = layer.attention.LayerNorm(attention.o(seen.transpose(1, 2).flatten(2)) + hidden)
    return torch.as_tensor(layer.output.LayerNorm(layer.output.dense(layer.intermediate(hidden)) + hidden))
