"""What a checkpoint says of the utterances that it is validated on, kept beside it.

Encoders change, and then nobody makes the features any more that an earlier checkpoint reads. What it said of the same
utterances can still be held against what a new one says of them (`regression`). It is labels and predictions alone:
no words, no voices, no faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mer_agent.errors import CheckpointError
from mer_agent.models.batch import Batch
from mer_agent.models.live import live_figures
from mer_agent.models.registry import LiveModel

Verdicts = Mapping[str, Tensor]
"""Part -> uint8 [n, 2], label and prediction of each labelled utterance, in the part's order."""


def of(model: LiveModel, parts: Mapping[str, Batch]) -> dict[str, Tensor]:
    """Gives what a model says of each part."""
    found = {}
    for name, batch in parts.items():
        probabilities, labels = live_figures.told(model, batch)
        found[name] = torch.stack([labels, probabilities.argmax(-1)], 1).to(torch.uint8)
    return found


def path_beside(card: Path) -> Path:
    """Where the verdicts of the checkpoint with this card (or weights) lie."""
    return card.with_name(f"{card.stem}-verdicts.safetensors")


def write(card: Path, sha256: str, verdicts: Verdicts) -> Path:
    """Writes verdicts beside the card of the checkpoint whose weights have this sha256; gives their path."""
    path = path_beside(card)
    save_file({name: value.contiguous() for name, value in verdicts.items()}, path, {"sha256": sha256})
    return path


def read(card: Path, sha256: str) -> dict[str, Tensor]:
    """Gives the verdicts beside a card.

    Raises:
        CheckpointError: there are none, they are damaged, or they are another checkpoint's.
    """
    path = path_beside(card)
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: mer-agent train --live writes it beside a checkpoint")
    try:
        with safe_open(path, "pt") as file:
            whose = (file.metadata() or {}).get("sha256")
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged; get the file again") from error
    if whose != sha256:
        raise CheckpointError(f"{path} says what another checkpoint said; get the file again")
    if any(value.dtype != torch.uint8 or value.dim() != 2 or value.shape[1] != 2 for value in found.values()):
        raise CheckpointError(f"{path} holds no verdicts; get the file again")
    return found
