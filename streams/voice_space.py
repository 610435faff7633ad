"""Where voices are told apart: GE2E embeddings without what they share and without what a mood does to them.

All GE2E embeddings look alike to some degree (cosine 0.6 between strangers), and one speaker's move far between
whispering and shouting. Both are the same for everybody, so they can be learned once and taken out:

    place(e) = unit( (e - average) - U g U^T (e - average) )

U [dimension, 16] holds the directions in which the voices of single speakers vary most and g, between 0 and 1, how much
of each is taken away (within-class covariance normalisation, Hatch et al. 2006, of low rank). What a cosine c between
places then says of two voices is a logistic regression, which depends on how much speech there was of each:

    log odds(same voice) = a c + b log d + w log d' + k

with d the seconds of the new utterance and d' those of the voice so far. The numbers are in `voice_space.safetensors`;
`python -m mer_agent.models.perception.fit_voice_space` makes it from labelled speech.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file, save_file

FILE = Path(__file__).with_name("voice_space.safetensors")

Vector = NDArray[np.float64]

_SHORTEST_S, _LONGEST_S = 0.3, 6.0
_MOST_KNOWN_S = 7.5
"""Beyond these, more or less speech says nothing more."""


@dataclass(frozen=True)
class VoiceSpace:
    """How to compare two voices."""

    average: Vector
    directions: Vector
    """[dimension, r], orthonormal."""
    taken: Vector
    """[r], how much of each direction is taken away."""
    calibration: tuple[float, ...]
    """a, b, w and k."""

    def place(self, embedding: ArrayLike) -> Vector | None:
        """Gives the unit vector of an embedding [dimension]; None if it is not finite or has no direction.

        Raises:
            ValueError: it is of another dimension.
        """
        given = np.asarray(embedding, dtype=np.float64)
        if given.shape != self.average.shape:
            raise ValueError(f"a voice must have {len(self.average)} numbers, not shape {given.shape}")
        centred = given - self.average
        if not np.isfinite(centred).all():
            return None
        moved = centred - self.directions @ (self.taken * (centred @ self.directions))
        length = float(np.linalg.norm(moved))
        return moved / length if length > 1e-9 else None

    def log_odds(self, cosine: float, new_s: float, known_s: float) -> float:
        """Gives log(p(same) / p(other)) for two voices whose places have this cosine, when either is as likely."""
        return sum(a * term for a, term in zip(self.calibration, terms(cosine, new_s, known_s), strict=True))

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Writes it in half precision, some 9 kB; `metadata` says where it comes from and on what terms."""
        arrays: dict[str, NDArray[Any]] = {
            "average": self.average.astype(np.float16),
            # The file keeps the bytes as they lie: an array in any other order would come back scrambled.
            "directions": np.ascontiguousarray(self.directions, np.float16),
            "taken": self.taken,
            "calibration": np.array(self.calibration),
        }
        save_file(arrays, path, dict(metadata or {}))


def terms(cosine: float, new_s: float, known_s: float) -> tuple[float, ...]:
    """Gives c, log d, log d' and 1."""
    new_s, known_s = max(new_s, _SHORTEST_S), max(known_s, _SHORTEST_S)
    return cosine, math.log(min(new_s, _LONGEST_S)), math.log(min(known_s, _MOST_KNOWN_S)), 1.0


def load(path: Path = FILE) -> VoiceSpace:
    """Gives the space that was saved in `path`; the one that the package brings by default."""
    arrays = load_file(path)
    return VoiceSpace(
        average=arrays["average"].astype(np.float64),
        directions=arrays["directions"].astype(np.float64),
        taken=arrays["taken"],
        calibration=tuple(arrays["calibration"].tolist()),
    )
