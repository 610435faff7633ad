"""Trained models on disk: weights as safetensors, and beside them a JSON card that says what they are.

A card names the features that the model was trained on, down to their recipe's version and their columns. Features of
another recipe are refused by name: numbers that mean something else would be judged without a murmur.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from mer_agent.errors import CheckpointError
from mer_agent.models.batch import FeatureSpec
from mer_agent.models.registry import MODELS, LiveModel
from mer_agent.streams.types import MODALITIES, Modality

FORMAT = 1
"""Version of the card's layout."""

SHIPPED = Path(__file__).parent / "checkpoints"
"""Where the checkpoints lie that come with the project."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a checkpoint is. Everything that a reader must know before trusting its predictions."""

    name: str
    model: str
    label_set: str
    labels: tuple[str, ...]
    features: tuple[FeatureSpec, ...]
    shape: dict[str, Any]
    data: str
    terms: str
    figures: dict[str, Any]
    training: dict[str, Any]
    """The recipe, the seed and the revision of the source tree that made it."""
    sha256: str
    """Of the safetensors file."""
    format: int = FORMAT

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the model reads, in the order in which models have them."""
        return tuple(m for m in MODALITIES if any(spec.modality == m for spec in self.features))

    def check(self, feature: str, dimension: int, names: tuple[str, ...] = ()) -> None:
        """Makes sure that a feature is one that the model was trained on; `names` are its columns, if they have any.

        Raises:
            CheckpointError: it is not, and why.
        """
        spec = next((spec for spec in self.features if spec.id == feature), None)
        if spec is None:
            known = ", ".join(spec.id for spec in self.features)
            raise CheckpointError(f"{self.name} was not trained on {feature}: it takes {known}")
        if spec.dimension != dimension:
            raise CheckpointError(f"{self.name} takes {feature} of {spec.dimension} numbers, not of {dimension}")
        if names and spec.names and names != spec.names:
            raise CheckpointError(f"{self.name} takes {feature} as {', '.join(spec.names)}; not as {', '.join(names)}")


def known() -> list[str]:
    """Gives the names of the checkpoints that come with the project."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def load(name_or_path: str | Path, available: Mapping[str, int] | None = None) -> tuple[nn.Module, Card]:
    """Gives a trained model of the registry, ready to judge, and its card.

    Args:
        name_or_path: the name of a shipped checkpoint, or the path of a card or of its safetensors file.
        available: feature id -> dimension of what the encoders at hand give. All of them must be features that
            the model was trained on; those that it was trained on but that are not here count as absent.

    Raises:
        CheckpointError: it is unknown, damaged, or made for other features.
    """
    path = locate(name_or_path)
    card = read_card(path)
    if available is not None:
        for feature, dimension in available.items():
            card.check(feature, dimension)
        if not available:
            raise CheckpointError(f"{card.name} needs at least one of {', '.join(spec.id for spec in card.features)}")
    weights = path.with_suffix(".safetensors")
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise CheckpointError(f"can't read {weights}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise CheckpointError(f"{weights} is damaged: its sha256 is not the one in its card; get the file again")
    if card.model not in MODELS:
        raise CheckpointError(f"{card.name} is a {card.model!r}; this version knows {', '.join(MODELS)}")
    try:
        model = MODELS[card.model](card.features, len(card.labels), card.shape)
        model.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{weights} does not fit its card: {first}") from error
    return model.eval().requires_grad_(False), card


def load_live(name_or_path: str | Path) -> tuple[LiveModel, Card]:
    """Gives a trained model that judges each utterance as it ends, and its card.

    Raises:
        CheckpointError: as `load`, or the model needs whole dialogues or what comes later.
    """
    model, card = load(name_or_path)
    advice = "take a checkpoint of ar-iigcn or joint-fusion that was trained to look back only"
    if not hasattr(model, "stream"):
        raise CheckpointError(f"{card.name} is a {card.model}, which reads whole dialogues, not a live one: {advice}")
    try:
        model.stream()  # type: ignore[operator]
    except ValueError as error:
        raise CheckpointError(f"{card.name} can't run live ({error}): {advice}") from error
    return cast(LiveModel, model), card


def save(
    folder: Path,
    model: nn.Module,
    *,
    name: str,
    model_name: str = "ar-iigcn",
    specs: Sequence[FeatureSpec] | None = None,
    shape: Mapping[str, Any] | None = None,
    label_set: str,
    labels: tuple[str, ...],
    data: str,
    terms: str,
    figures: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Path:
    """Writes `name`.safetensors and its card `name`.json into `folder`; gives the card's path.

    `model_name`, `specs` and `shape` are what the registry built the model of; an AR-IIGCN knows the latter two itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = save_tensors({key: _small(value).contiguous() for key, value in model.state_dict().items()})
    card = Card(
        name,
        model_name,
        label_set,
        labels,
        tuple(model.specs if specs is None else specs),  # type: ignore[arg-type]
        asdict(model.shape) if shape is None else dict(shape),  # type: ignore[call-overload]
        data,
        terms,
        dict(figures),
        dict(training),
        hashlib.sha256(content).hexdigest(),
    )
    (folder / f"{name}.safetensors").write_bytes(content)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _small(value: torch.Tensor) -> torch.Tensor:
    """Gives numbers in half precision if nothing is lost by it; a model takes them back in its own."""
    half = value.half()
    return half if value.dtype == torch.float32 and torch.equal(half.float(), value) else value


def read_card(path: Path) -> Card:
    """Gives the card at `path`.

    Raises:
        CheckpointError: it is missing or malformed.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            raise CheckpointError(f"{path} has the format {fields['format']}; this version reads {FORMAT}")
        specs = []
        for spec in fields.pop("features"):
            lists = {
                key: None if spec[key] is None else tuple(spec[key])
                for key in ("mean", "deviation", "names", "ignored")
            }
            specs.append(
                FeatureSpec(**{**spec, **lists, "names": lists["names"] or (), "ignored": lists["ignored"] or ()})
            )
            if specs[-1].modality not in MODALITIES:
                raise ValueError(f"{specs[-1].id} is of an unknown modality")
        card = Card(**{**fields, "labels": tuple(fields["labels"]), "features": tuple(specs)})
        if not card.labels or not specs:
            raise ValueError("no labels or no features")
    except OSError as error:
        raise CheckpointError(f"can't read the card {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"the card {path} is malformed: {error!r}") from error
    return card


def locate(name_or_path: str | Path) -> Path:
    """Gives the path of the card that is meant."""
    path = Path(name_or_path)
    if path.suffix in (".json", ".safetensors"):
        if not path.with_suffix(".json").is_file():
            raise CheckpointError(f"no checkpoint at {path}: a card (.json) must lie beside the .safetensors")
        return path.with_suffix(".json")
    if str(name_or_path) in known():
        return SHIPPED / f"{name_or_path}.json"
    raise CheckpointError(f"no checkpoint is called {str(name_or_path)!r}: the ones here are {', '.join(known())}")


def parameter_count(model: torch.nn.Module) -> int:
    """Gives the number of trained numbers in a model."""
    return sum(parameter.numel() for parameter in model.parameters())
