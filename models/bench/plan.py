"""One table of the accuracy bench: its rows, and the recipe that each row trains.

A row of our model is the paper's parts on a plain recipe (`GRAPH`), a row of a peer the floor's recipe (`PEER`), with
the same features for all. Both are fixed here, so that a better shipped recipe (`runs.RECIPES`, the plan `targets`)
leaves the comparisons as they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mer_agent.encoders.prosody import DESCRIPTORS
from mer_agent.models.registry import direction
from mer_agent.models.training.recipe import MODALITY_OF, Recipe
from mer_agent.models.training.runs import FEATURES, recipe_for
from mer_agent.streams.types import Modality

ALL_TEXT = "text/mpnet-layers@1"
_DATA_CHANGES: dict[str, dict[str, Any]] = {"mosi": {"pick": "last"}}  # its validation labels are in its features

GRAPH = Recipe(
    features=FEATURES["iemocap"],
    descriptors=DESCRIPTORS,
    ignored=("intensity_db_mean",),
    shape={"dimension": 128, "hidden": 128, "share": False},
    epochs=16,
    batch_dialogues=8,
    learning_rate=1e-3,
    affect_weight=0.5,
    pick="last",
)
PEER = Recipe(
    features=FEATURES["iemocap"],
    descriptors=DESCRIPTORS,
    ignored=("intensity_db_mean",),
    epochs=30,
    learning_rate=1e-3,
    weight_decay=1e-5,
    label_smoothing=0.0,
    modal_weight=0.0,
    drop_modality=0.0,
    drop_utterance=0.0,
    average=0.0,
)


TRAINING = (
    *("epochs", "batch_dialogues", "weight_decay", "label_smoothing", "modal_weight", "affect_weight"),
    *("drop_modality", "drop_utterance", "average", "pick"),
)
"""Fields of a recipe that say how a model is trained, and not what it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a model, its data, and in what its recipe differs."""

    name: str
    model: str = "ar-iigcn"
    data: str = "iemocap"
    bidirectional: bool = False
    modalities: tuple[Modality, ...] = ()
    """What is read; everything if empty."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe that differ; those of `shape` are merged, `replace` puts others in a feature's place."""
    shipped: bool = False
    """Starts from `runs.recipe_for` instead of `GRAPH` or `PEER`."""
    published: float | None = None
    """Weighted F1 that the paper reports for it."""
    must: float | None = None
    aim: float | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe that this row trains."""
        changes = {**_DATA_CHANGES.get(self.data, {}), **self.changes}
        base = GRAPH if self.model == "ar-iigcn" else PEER
        own = self.shipped or self.model == "joint-fusion"  # which reads sequences that no other model does
        if own:
            base = recipe_for(self.model, self.data)
        features = base.features if own else FEATURES[self.data]
        for old, new in dict(changes.pop("replace", {})).items():
            others = (new,) if isinstance(new, str) else tuple(new)
            features = tuple(one for feature in features for one in (others if feature == old else (feature,)))
        if self.modalities:
            features = tuple(f for f in features if MODALITY_OF[f.partition("/")[0]] in self.modalities)
        ways = direction(self.model, bidirectional=self.bidirectional)
        shape = {**base.shape, **changes.pop("shape", {}), **ways}
        prosody = any(feature.startswith("audio/prosody@") for feature in features)
        described = {} if prosody else {"descriptors": (), "ignored": ()}
        return replace(base, **{"model": self.model, "features": features, "shape": shape, **described, **changes})


@dataclass(frozen=True, slots=True)
class Plan:
    """A table: its rows, how often each is trained, and the row that the others are compared with."""

    title: str
    rows: tuple[Row, ...]
    baseline: str | None = None
    seeds: int = 5

    def row(self, name: str) -> Row:
        """Gives a row by name."""
        return next(row for row in self.rows if row.name == name)
