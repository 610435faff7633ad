"""Two voices at once in one stream of sound: `audio/overlap@1`, a small network, trained by this project.

Recipe 1: mean and deviation over time of what the speaker encoder's second and third layer hear, of each window of
1.6 s (`voice.VoiceEncoder.windows`), which the agent computes anyway; two linear layers with a ReLU between; the window
that is most like two voices speaks for the utterance. The log odds are moved so that 0.5 is the probability from which
an utterance counts as one with two voices: seldom by mistake, often missed (docs/cards/overlap.md).

A fusion model doesn't read it; the agent says it beside the emotion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mer_agent.encoders import shipped, voice
from mer_agent.encoders.place import Place
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Modality, Turn, Utterance


class OverlapNetwork(nn.Module):
    """Summaries of windows [windows, 1024] to the log odds that two voices speak at once in it, [windows].

    Args:
        units: of the layer between.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, units: int = 64) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(voice.SUMMARY))
        self.register_buffer("deviation", torch.ones(voice.SUMMARY))
        self.narrow = nn.Linear(voice.SUMMARY, units)
        self.head = nn.Linear(units, 1)
        self.dropped, self.dropout = nn.Dropout(0.2), nn.Dropout(0.4)

    def forward(self, windows: Tensor) -> Tensor:
        """Gives log odds, [windows]."""
        standard = ((windows - self.mean) / self.deviation).clamp(-5, 5)
        odds: Tensor = self.head(self.dropout(torch.relu(self.narrow(self.dropped(standard))))).squeeze(-1)
        return odds


class OverlapEncoder:
    """Gives the probability that two voices speak at once in an utterance; None where no voice is heard.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        folder: where `overlap.safetensors` and its card lie; the package's own if not given.

    Raises:
        WeightsError: they are missing, damaged or of another recipe, or `ge2e` has not been pulled.
    """

    feature = "audio/overlap@1"
    modality: Modality = "audio"
    dimension = 1

    def __init__(self, device: str | Place = "auto", folder: Path | None = None) -> None:
        state, card = shipped.load("overlap", folder or shipped.FOLDER)
        self._network = _build(state, card.recipe)
        self._voice = voice.shared(Place.of(device))

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [1] float32 on the CPU for each utterance, None where it has too little speech.

        `past_turns` is not read: this recipe hears the utterance alone.
        """
        heard = self._voice.windows([utterance.audio for utterance in utterances])
        return [None if windows is None else self._judge(windows) for windows in heard]

    @torch.inference_mode()
    def _judge(self, windows: Tensor) -> Tensor:
        likely: Tensor = self._network(windows).max().sigmoid()[None]
        return likely


def _build(state: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> OverlapNetwork:
    try:
        network = OverlapNetwork(recipe["units"])
        network.load_state_dict({key: value.float() for key, value in state.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"the trained overlap encoder does not fit its card ({error}); install the package again"
        ) from error
    return network.eval().requires_grad_(False)
