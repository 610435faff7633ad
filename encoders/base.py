"""What an encoder is: it turns utterances into one named feature vector each.

A feature id names the modality, the recipe and the recipe's version: `text/mpnet@1`. Whatever changes the numbers
(other weights, other preprocessing) is a new version, and a checkpoint refuses features that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mer_agent.errors import CheckpointError
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

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives one float32 CPU tensor [dimension] for each utterance, None where the modality is absent.

        `past_turns` holds, for each utterance, the turns before it, oldest first; empty when nobody keeps them.
        Batch and single give the same numbers within 1e-5.
        """
        ...


def limit_threads(threads: int) -> None:
    """Lets torch use so many CPU threads for one model call: several models that each take all cores fight for them."""
    import torch

    torch.set_num_threads(threads)


def create(feature: str, device: str = "auto") -> Encoder:
    """Gives the encoder that makes `feature`; its weights are loaded from the cache, never downloaded.

    Raises:
        CheckpointError: no encoder of this version makes that feature.
        WeightsError: its weights have not been pulled.
    """
    maker = _MAKERS.get(feature)
    if maker is None:
        raise CheckpointError(f"no encoder makes {feature}; this version has {', '.join(sorted(_MAKERS))}")
    return maker(device)


def _mpnet(device: str) -> Encoder:
    from mer_agent.encoders.text import TextEncoder

    return TextEncoder("mpnet", device)


def _mpnet_layers(device: str) -> Encoder:
    from mer_agent.encoders.text import TextEncoder

    return TextEncoder("mpnet-layers", device)


def _minilm(device: str) -> Encoder:
    from mer_agent.encoders.text import TextEncoder

    return TextEncoder("minilm", device)


def _ge2e(device: str) -> Encoder:
    from mer_agent.encoders.voice import VoiceEncoder

    return VoiceEncoder(device)


def _prosody(device: str) -> Encoder:
    from mer_agent.encoders.prosody import ProsodyEncoder

    return ProsodyEncoder()


def _words(device: str) -> Encoder:
    from mer_agent.encoders.words import WordEncoder

    return WordEncoder()


_MAKERS: dict[str, Callable[[str], Encoder]] = {
    # Each imports its encoder when it is asked for, since some bring torch and transformers with them.
    "text/mpnet@1": _mpnet,
    "text/mpnet-layers@1": _mpnet_layers,
    "text/minilm@1": _minilm,
    "text/words@1": _words,
    "audio/ge2e@1": _ge2e,
    "audio/prosody@1": _prosody,
}
