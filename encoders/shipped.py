"""Encoders that this project trained itself: small weights that are part of the package, each with a card.

`trained/NAME.safetensors` holds the weights and `trained/NAME.json` the card: which feature they make and by what
recipe, what they learned from and on what terms, their figures, the record of their training, and the sha256 of the
weights. Weights whose bytes differ from their card are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_agent.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
"""Version of the card's layout."""

FOLDER = Path(__file__).parent / "trained"


@dataclass(frozen=True, slots=True)
class TrainedCard:
    """What one should know of trained weights before using them."""

    name: str
    feature: str
    """Feature id that they make, such as `audio/emotion@6`."""
    recipe: Mapping[str, Any]
    """Whatever the encoder needs to build the same network and the same input again."""
    data: str
    terms: str
    """On what terms the weights may be used."""
    figures: Mapping[str, Any]
    """Scores with the protocol that they come from."""
    record: Mapping[str, Any]
    """How the training went: seed, epochs, revision, time."""
    sha256: str
    format: int = FORMAT


def known(folder: Path = FOLDER) -> list[str]:
    """Gives the names of the trained encoders that are here."""
    return sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".safetensors").is_file())


def read_card(name: str, folder: Path = FOLDER) -> TrainedCard:
    """Gives the card of trained weights.

    Raises:
        WeightsError: there is none of that name, or it is malformed.
    """
    path = folder / f"{name}.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            raise WeightsError(f"{path} has the format {fields['format']}; this version reads {FORMAT}")
        return TrainedCard(**fields)
    except OSError as error:
        raise WeightsError(
            f"no trained encoder {name} in {folder} ({error.strerror}); train it: mer-agent train-encoder {name}"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"the card {path} is malformed: {error!r}") from error


def load(name: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], TrainedCard]:
    """Gives the weights, on the CPU, and their card.

    Raises:
        WeightsError: they are missing, unreadable, or not those of the card.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    card = read_card(name, folder)
    path = folder / f"{name}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"can't read {path}: {error.strerror}; install the package again") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise WeightsError(f"{path} differs from its card (sha256); install the package again")
    try:
        return load_tensors(content), card
    except SafetensorError as error:
        raise WeightsError(f"{path} is no safetensors file: {error}") from error


def save(
    folder: Path,
    name: str,
    state: Mapping[str, Tensor],
    *,
    feature: str,
    recipe: Mapping[str, Any],
    data: str,
    terms: str,
    figures: Mapping[str, Any],
    record: Mapping[str, Any],
) -> Path:
    """Writes `name`.safetensors and its card `name`.json into `folder`; gives the card's path."""
    from safetensors.torch import save as save_tensors

    content = save_tensors({key: value.contiguous() for key, value in state.items()})
    card = TrainedCard(name, feature, recipe, data, terms, figures, record, hashlib.sha256(content).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(content)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
