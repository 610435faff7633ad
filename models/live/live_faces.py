"""FER+ faces as the live model learns from them: by the run-time encoder's network, one face an utterance.

The network learned FER+'s training faces, so the fusion model gets those that it validated on, which it never learned
from (its epoch was chosen by them). The test faces only ever judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from platformdirs import user_cache_path
from safetensors.torch import load_file, save_file
from torch import Tensor

from mer_agent.encoders import shipped
from mer_agent.encoders.densenet import DenseNet, DenseShape, normalise
from mer_agent.models.data import ferplus

NAME = "face"
"""Of the shipped weights."""
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class FaceFeatures:
    """`visual/ferplus@1` [N, 512] of faces, and the index of the emotion with most votes in `ferplus.EMOTIONS` [N]."""

    values: Tensor
    labels: Tensor


def load(data_dir: Path, say: Callable[[str], None]) -> dict[str, FaceFeatures]:
    """Gives the faces of the splits `valid` and `test`, encoded once and kept.

    Raises:
        DataError: the table of faces is missing or malformed.
        WeightsError: the face encoder's weights are not here.
    """
    path = data_dir / "faces" / "ferplus.parquet"
    card = shipped.read_card(NAME)
    key = hashlib.sha256(f"{card.sha256} {path.stat().st_size if path.is_file() else 0}".encode()).hexdigest()[:32]
    cached = user_cache_path("mer-agent") / "features" / f"ferplus-{key}.safetensors"
    if not cached.is_file():
        faces = ferplus.load(path)
        network = shipped_network()
        kept: dict[str, Tensor] = {}
        for split in ("valid", "test"):
            say(f"looking at {len(faces[split])} {split} faces")
            kept[split] = encode(network, faces[split].images)
            kept[f"labels/{split}"] = faces[split].votes.argmax(1)
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(".partial")
        save_file(kept, partial)
        partial.replace(cached)
    kept = load_file(cached)
    return {split: FaceFeatures(kept[split], kept[f"labels/{split}"]) for split in ("valid", "test")}


def shipped_network() -> DenseNet:
    """Gives the network of the face encoder that comes with the project, ready to read faces."""
    state, card = shipped.load(NAME)
    network = DenseNet(len(card.recipe["emotions"]), DenseShape.of(card.recipe["network"]))
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    )
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def encode(network: DenseNet, images: Tensor) -> Tensor:
    """Gives the features [N, 512] of faces uint8 [N, 1, 48, 48]."""
    batches = images.split(_AT_ONCE)  # type: ignore[no-untyped-call]
    return torch.cat([network.features(normalise(batch)) for batch in batches])
