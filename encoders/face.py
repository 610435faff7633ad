"""Face to vector: what a DenseNet that learned FER+ sees in the face that speaks (`visual/ferplus@1`).

Recipe 1:

1. find, follow and cut out faces (`streams.faces`), unless that was done when the pictures arrived;
2. take the face that most likely speaks (`streams.talking_face`), at most 48 of its crops, evenly spread;
3. each crop, normalised on its own, through the network (`encoders.densenet`), to the layer below its logits;
4. the mean of these, each crop with its squared quality as its weight: one large, sharp, frontal crop says more than
   many poor ones.

The layer below the logits is read, since the fusion model has other classes. What the eight FER+ emotions make of it is
in `FaceReading`, for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mer_agent.encoders import shipped, weights
from mer_agent.encoders.densenet import DenseNet, DenseShape, normalise
from mer_agent.encoders.place import Place
from mer_agent.errors import WeightsError
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.talking_face import Seen, faces_in_view
from mer_agent.streams.types import Modality, Turn, Utterance

FEATURE = "visual/ferplus@1"

_MOST_CROPS = 48
_LARGEST_BATCH = 64
"""Crops that go through the network at once."""


@dataclass(frozen=True, slots=True)
class FaceReading:
    """The face that most likely speaks in an utterance."""

    feature: Tensor
    """float32 [512] on the CPU."""
    emotions: Mapping[str, float]
    """FER+ emotion -> probability."""
    seen: Seen
    """When it was seen, and how likely it is the one that speaks."""
    others: tuple[Seen, ...]
    """The other faces in view, likelier speakers first."""


class FaceEncoder:
    """Gives the FER+ feature of the face that speaks; None where there is no face.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        trained: where `face.safetensors` and its card lie; those of the package if not given.
        detector: the folder of YuNet; the catalogue's own if not given.

    Raises:
        WeightsError: the detector is not pulled yet, or weights are unreadable.
        MissingExtraError: OpenCV is not installed.
    """

    feature = FEATURE
    modality: Modality = "visual"

    def __init__(
        self, device: str | Place = "auto", trained: Path = shipped.FOLDER, detector: Path | None = None
    ) -> None:
        self._place = Place.of(device)
        self._network, self._emotions, self._temperature = _load(trained)
        self._network.to(self._place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dimension = self._network.dimension
        self._watcher = FaceWatcher(weights.path("yunet") if detector is None else detector)

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [512] float32 on the CPU for each utterance, None where its pictures show no face.

        `past_turns` is not read: an expression is read in its own moment.
        """
        return [None if reading is None else reading.feature for reading in self.read(utterances)]

    @torch.inference_mode()
    def read(self, utterances: Sequence[Utterance]) -> list[FaceReading | None]:
        """Gives whose face speaks and how it looks, None where there is no face. All crops run as one batch."""
        views = [self._faces(utterance) for utterance in utterances]
        speakers = [faces[0] if faces else None for faces in views]
        crops = [_spread(face) if face else [] for face in speakers]
        features = self._encode([crop for own in crops for crop, _ in own])
        readings: list[FaceReading | None] = []
        for faces, own, rows in zip(views, crops, torch.split(features, [len(own) for own in crops]), strict=True):
            if not own:
                readings.append(None)
                continue
            weight = torch.tensor([quality for _, quality in own]).square()
            feature = (weight / weight.sum()) @ rows
            logits = self._network.head(self._place.put(feature)).cpu() / self._temperature
            emotions = dict(zip(self._emotions, logits.softmax(0).tolist(), strict=True))
            readings.append(FaceReading(feature, emotions, faces[0], tuple(faces[1:])))
        return readings

    def _faces(self, utterance: Utterance) -> list[Seen]:
        self._watcher.forget()  # an utterance's feature must not depend on those before it
        frames = [frame if frame.faces is not None else self._watcher.see(frame) for frame in utterance.frames]
        return faces_in_view(utterance, frames)

    def _encode(self, crops: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> Tensor:
        """Gives [N, dimension] float32 on the CPU."""
        if not crops:
            return torch.empty(0, self.dimension)
        faces = normalise(torch.from_numpy(np.stack(crops)).unsqueeze(1))
        batches = torch.split(faces.contiguous(memory_format=torch.channels_last), _LARGEST_BATCH)
        return torch.cat([self._network.features(self._place.put(batch)).cpu() for batch in batches])


def _spread(face: Seen) -> list[tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], float]]:
    """Crops of a face and their quality: all of them or, of many, evenly spread ones."""
    step = -(-len(face.sightings) // _MOST_CROPS)
    return [(sighting.crop, max(sighting.quality, 1e-3)) for _, sighting in face.sightings[::step]]


def _load(folder: Path) -> tuple[DenseNet, tuple[str, ...], float]:
    state, card = shipped.load("face", folder)
    try:
        recipe = card.recipe
        shape = DenseShape.of(recipe["network"])
        network = DenseNet(len(recipe["emotions"]), shape)
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
        if card.feature != FEATURE:
            raise ValueError(f"it makes {card.feature}")
        emotions, temperature = tuple(recipe["emotions"]), float(recipe["temperature"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"the face encoder in {folder} does not fit its card ({reason}); train it again") from error
    return network.eval().requires_grad_(False), emotions, temperature
