"""Voice to the emotion in it: `audio/emotion@6`, a small network over what Whisper's lower layers hear, trained here.

Recipe 6 (as 5, taught by two more corpora):

1. mean over time of what three places in the lower half of Whisper's encoder hear of the speech in an utterance
   (`whisper_layers`);
2. each of these 1536 numbers by its mean and deviation in training, at most 5 deviations off;
3. a hidden layer, and a linear one to 100 numbers between -1 and 1. From those alone another one told the emotions in
   training.

Of silence, and of less than 65 ms, there is no feature. The network sees neither who speaks nor which words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.encoders import shipped, whisper_layers
from mer_agent.encoders.place import Place
from mer_agent.encoders.whisper_layers import MEANS
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Modality, Turn, Utterance

DIMENSION = 100
_FARTHEST = 5.0
"""Deviations from the mean that a number is let be off."""


@dataclass(frozen=True, slots=True)
class VoiceShape:
    """Sizes of the network."""

    units: int = 256
    """Of the hidden layer."""
    dropout: float = 0.5


class VoiceNetwork(nn.Module):
    """What is heard of voices [batch, 1536] to features and logits.

    Args:
        classes: emotions told apart in training.
        shape: sizes.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, classes: int, shape: VoiceShape | None = None) -> None:
        super().__init__()
        shape = shape or VoiceShape()
        self.register_buffer("mean", torch.zeros(MEANS))
        self.register_buffer("deviation", torch.ones(MEANS))
        self.hidden = nn.Linear(MEANS, shape.units)
        self.linear = nn.Linear(shape.units, DIMENSION)
        self.head = nn.Linear(DIMENSION, classes)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, heard: Tensor) -> Tensor:
        """Gives logits [batch, classes]."""
        logits: Tensor = self.head(self.dropout(self.features(heard)))
        return logits

    def features(self, heard: Tensor) -> Tensor:
        """Gives [batch, 100], each between -1 and 1."""
        standard = ((heard - self.mean) / self.deviation).clamp(-_FARTHEST, _FARTHEST)
        hidden = functional.relu(self.hidden(self.dropout(standard)))
        return torch.tanh(self.linear(self.dropout(hidden)))

    def standardise(self, heard: Tensor) -> None:
        """Takes mean and deviation of each number from [N, 1536], rows that are NaN left out."""
        known = heard[~heard[:, 0].isnan()]
        self.mean.copy_(known.mean(0))
        self.deviation.copy_(known.std(0).clamp_min(1e-3))


class VoiceEmotionEncoder:
    """Gives 100 numbers that tell the emotion in a voice; None where nothing can be heard.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        folder: where `voice.safetensors` and its card lie; the package's own if not given.

    Raises:
        WeightsError: they are missing, damaged or of another recipe, or `whisper-base` has not been pulled.
    """

    feature = "audio/emotion@6"
    modality: Modality = "audio"
    dimension = DIMENSION

    def __init__(self, device: str | Place = "auto", folder: Path | None = None) -> None:
        self._place = Place.of(device)
        state, card = shipped.load("voice", folder or shipped.FOLDER)
        self._network, self.labels = _build(state, card.recipe)
        self._network.to(self._place.device)
        self._layers = whisper_layers.shared(self._place)

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [100] float32 on the CPU for each utterance, None where it has no audible sound.

        `past_turns` is not read: this recipe hears the utterance alone.
        """
        return [None if row is None else row[0] for row in self._run(utterances)]

    def probabilities(self, utterances: Sequence[Utterance]) -> list[Tensor | None]:
        """Gives, for each utterance, how likely each of `labels` is, as training had it."""
        return [None if row is None else row[1] for row in self._run(utterances)]

    @torch.inference_mode()
    def _run(self, utterances: Sequence[Utterance]) -> list[tuple[Tensor, Tensor] | None]:
        rows = self._layers.means([utterance.speech for utterance in utterances])
        found: list[tuple[Tensor, Tensor] | None] = []
        for heard in rows:
            if heard is None:
                found.append(None)
                continue
            features = self._network.features(self._place.put(heard[None]))
            found.append((features[0].cpu(), self._network.head(features)[0].softmax(-1).cpu()))
        return found


def _build(state: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> tuple[VoiceNetwork, tuple[str, ...]]:
    try:
        labels = tuple(recipe["labels"])
        network = VoiceNetwork(len(labels), VoiceShape(**recipe["shape"]))
        network.load_state_dict({key: value.float() for key, value in state.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"the trained voice encoder does not fit its card ({error}); install the package again"
        ) from error
    return network.eval().requires_grad_(False), labels


def recipe_of(shape: VoiceShape, labels: Sequence[str]) -> dict[str, Any]:
    """Gives what a card must hold for `VoiceEmotionEncoder` to build the network again."""
    return {"shape": asdict(shape), "labels": list(labels)}
