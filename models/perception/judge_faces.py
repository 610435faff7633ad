"""How the face encoder fares beyond its protocol: on damaged faces, and on crops that the live path makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mer_agent.encoders.densenet import SIDE, DenseNet, normalise
from mer_agent.models.data.ferplus import EMOTIONS, Faces
from mer_agent.models.perception.face_augment import Augmentation, augment
from mer_agent.models.training.metrics import scores
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.types import VideoFrame

UNHARMED = Augmentation(
    turn_degrees=0.0,
    scale=(1.0, 1.0),
    shift=0.0,
    coarse=0.0,
    blurred=0.0,
    gamma=1.0,
    shaded=0.0,
    dark=0.0,
    noise=0.0,
    jpeg=0.0,
    occluded=0.0,
)

DAMAGE: Mapping[str, Augmentation] = {
    "unharmed": UNHARMED,
    "turned up to 15 degrees, shifted up to 8 %, scaled up to 15 %": replace(
        UNHARMED, turn_degrees=15.0, shift=0.08, scale=(0.85, 1.15)
    ),
    "16 to 24 pixels": replace(UNHARMED, coarse=1.0, coarsest=3.0),
    "blurred, 1 to 2 pixels": replace(UNHARMED, blurred=1.0, blur_pixels=(1.0, 2.0)),
    "light at 5 to 20 %, with noise": replace(UNHARMED, dark=1.0, darkest=0.05, noise=6.0),
    "light from one side": replace(UNHARMED, shaded=1.0),
    "JPEG of quality 10 to 30": replace(UNHARMED, jpeg=1.0, jpeg_quality=(10, 30)),
    "a quarter covered": replace(UNHARMED, occluded=1.0, occlusion=(0.5, 0.5)),
}
"""What is done to a face -> how."""

_ENLARGED = 4
_MARGIN = 12
"""Pixels of a face's edge that are continued around it, since the detector wants to see some background."""


def logits_of(network: DenseNet, grey: Tensor, batch: int = 256) -> Tensor:
    """Gives float32 logits [N, 8] of faces [N, 1, 48, 48], in full precision, as the live encoder computes."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(normalise(part)) for part in torch.split(grey, batch)])


def accuracy(logits: Tensor, faces: Faces) -> float:
    """Gives the percentage of faces whose likeliest emotion is the one with most votes."""
    return float(scores(logits.softmax(1), faces.votes.argmax(1), EMOTIONS)["accuracy"])


def robustness(network: DenseNet, faces: Faces, seed: int = 0) -> dict[str, float]:
    """Gives the accuracy for each kind of damage; the same faces are damaged in the same way every time."""
    found = {}
    for name, how in DAMAGE.items():
        grey = augment(faces.images, how, torch.Generator().manual_seed(seed))
        found[name] = round(accuracy(logits_of(network, grey), faces), 2)
    return found


def live_crops(network: DenseNet, faces: Faces, detector: Path, many: int = 1000) -> dict[str, Any]:
    """Sends faces through the live path and compares: the skew between a training crop and a live one.

    Each of the first `many` faces becomes a picture, four times as large, in which YuNet looks for it.

    Returns:
        `n`, `found` in percent, and of those that were found the accuracy by either crop, and how often both crops
        are called the same, in percent.
    """
    some = Faces(faces.images[:many], faces.votes[:many])
    rows, crops = [], []
    watcher = FaceWatcher(detector)
    for row, face in enumerate(some.images):
        watcher.forget()
        seen = watcher.see(VideoFrame(_picture(face), 0, row)).faces
        if seen:
            rows.append(row)
            crops.append(torch.from_numpy(seen[0].crop).unsqueeze(0))
    if not rows:
        return {"n": len(some), "found": 0.0}
    kept = Faces(some.images[rows], some.votes[rows])
    given, live = logits_of(network, kept.images), logits_of(network, torch.stack(crops))
    return {
        "n": len(some),
        "found": round(100 * len(rows) / len(some), 2),
        "accuracy_given_crop": round(accuracy(given, kept), 2),
        "accuracy_live_crop": round(accuracy(live, kept), 2),
        "same": round(100 * float((given.argmax(1) == live.argmax(1)).float().mean()), 2),
    }


def _picture(face: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A face [1, 48, 48] enlarged, with its edges continued, as a picture [height, width, 3]."""
    size = SIDE * _ENLARGED
    large = functional.interpolate(face[None].float(), (size, size), mode="bicubic", align_corners=False)
    wide = functional.pad(large, (_MARGIN * _ENLARGED,) * 4, mode="replicate")
    grey = wide[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()
    return np.repeat(grey[:, :, None], 3, axis=2)
