"""What an encoder is: it turns utterances into one named feature vector each.

A feature id names the modality, the recipe and the recipe's version: `text/mpnet@1`. Whatever changes the numbers
(other weights, other preprocessing) is a new version, and a checkpoint refuses features that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mer_agent.streams.types import Modality, Turn, Utterance

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Encoder(Protocol):
    """Turns a batch of utterances into features; stateless, so the same utterance always gives the same vector."""

    feature: str
    """Feature id, such as `audio/ge2e@1`."""
    modality: Modality
    dimension: int

    def encode(
        self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()
    ) -> list[Tensor | None]:
        """Gives one float32 CPU tensor [dimension] for each utterance, None where the modality is absent.

        `past_turns` holds, for each utterance, the turns before it, oldest first; empty when nobody keeps them.
        Batch and single give the same numbers within 1e-5.
        """
        ...
