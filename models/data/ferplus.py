"""FER+: the 48x48 grey faces of FER2013 with the votes of ten raters each, and the protocol that papers score by.

Source: Barsoum et al. 2016, "Training deep networks for facial expression recognition with crowd-sourced label
distribution". A single vote is an outlier and removed. A face belongs to the protocol when one of the eight emotions
then has more than half of all votes, those for `unknown` and `NF` (no face) among them: 3,153 test faces. Training
takes every face whose votes for the emotions outweigh those two, each with the whole distribution of its votes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mer_agent.encoders.densenet import SIDE
from mer_agent.errors import DataError

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
NOT_EMOTIONS = ("unknown", "NF")
SPLITS = ("train", "valid", "test")

_OUTLIER_VOTES = 1


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces with the distribution of their votes: `images` uint8 [N, 1, 48, 48], `votes` float32 [N, 8], sums 1."""

    images: Tensor
    votes: Tensor

    def __len__(self) -> int:
        return len(self.images)


def load(path: Path) -> dict[str, Faces]:
    """Gives the faces of each split; `train` after the training rule, `valid` and `test` after the protocol.

    Args:
        path: a parquet file with the columns `split`, `png` (the picture's bytes) and the votes by name.

    Raises:
        DataError: the file is missing or is not such a table, or a picture in it can't be read.
    """
    # These belong to the training extra, and only this function needs them.
    import pyarrow
    from pyarrow import parquet

    columns = ["split", "png", *EMOTIONS, *NOT_EMOTIONS]
    try:
        table = parquet.read_table(path, columns=columns)
        split = np.array(table["split"].to_pylist())
        images = torch.from_numpy(np.stack([_decode(png) for png in table["png"].to_pylist()])).unsqueeze(1)
        votes = torch.from_numpy(
            np.stack([table[name].to_numpy() for name in (*EMOTIONS, *NOT_EMOTIONS)], 1).astype(np.float32)
        )
    except (OSError, pyarrow.ArrowException, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} is not the table of FER+ faces ({reason}); docs/cards/face.md says how to make it"
        ) from error
    parts = {}
    for name in SPLITS:
        chosen = torch.from_numpy(split == name) & (for_training(votes) if name == "train" else in_protocol(votes))
        if not chosen.any():
            raise DataError(f"{path} has no usable face in the split {name}")
        kept = without_outliers(votes[chosen])[:, : len(EMOTIONS)]
        parts[name] = Faces(images[chosen], kept / kept.sum(1, keepdim=True))
    return parts


def without_outliers(votes: Tensor) -> Tensor:
    """Gives votes [N, 10] in which nothing stands that a single rater said."""
    return votes.where(votes > _OUTLIER_VOTES, 0)


def in_protocol(votes: Tensor) -> Tensor:
    """Tells of each row of votes [N, 10] whether an emotion has more than half of what is left of them."""
    kept = without_outliers(votes)
    return kept[:, : len(EMOTIONS)].amax(1) > 0.5 * kept.sum(1)


def for_training(votes: Tensor) -> Tensor:
    """Tells of each row of votes [N, 10] whether the emotions together outweigh `unknown` and `NF`."""
    kept = without_outliers(votes)
    return kept[:, : len(EMOTIONS)].sum(1) > kept[:, len(EMOTIONS) :].sum(1)


def _decode(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from PIL import Image

    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    if grey.shape != (SIDE, SIDE):
        raise ValueError(f"a face of {grey.shape[1]}x{grey.shape[0]} pixels")
    return grey
