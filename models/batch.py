"""What models read: the nodes of one or more dialogues, laid end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mer_agent.streams.types import MODALITIES, Modality

NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What a model must know of a feature: its id, its modality, its size, and what its numbers are called.

    `mean` and `deviation` [dimension] normalise it; `names` tells the columns of a feature that has nameable ones
    (prosody), so that a column can never be mistaken for another.
    """

    id: str
    modality: Modality
    dimension: int
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """Those of `names` that the model doesn't look at, though the feature brings them."""
    steps: int = 1
    """Of a sequence (`encoders.sequences`): how many rows it has at most, laid end to end."""


@dataclass(frozen=True, slots=True)
class Batch:
    """N utterances of one or more dialogues; those of a dialogue lie together, in the order of their ends.

    `features` holds [N, dimension] for each feature id and `present` [N] says where it is there at all. Rows that
    are not are never read. `speakers`, `dialogue` and `labels` are int64 [N].
    """

    features: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    speakers: Tensor
    dialogue: Tensor
    labels: Tensor
    names: Sequence[str] = field(default=())
    """Utterance ids, for those who report; models don't look."""
    affect: Tensor | None = None
    """Valence, activation and dominance [N, 3] on a scale of 1 to 5, NaN where nobody rated; a help in training."""

    def __len__(self) -> int:
        return len(self.speakers)

    def to(self, device: torch.device | str) -> Batch:
        """Gives the same batch on `device`."""
        return replace(
            self,
            features={key: value.to(device) for key, value in self.features.items()},
            present={key: value.to(device) for key, value in self.present.items()},
            speakers=self.speakers.to(device),
            dialogue=self.dialogue.to(device),
            labels=self.labels.to(device),
            affect=None if self.affect is None else self.affect.to(device),
        )

    def dialogues(self, wanted: Tensor) -> Batch:
        """Gives the part of the batch whose dialogue is among `wanted` (int64 [D])."""
        rows = torch.isin(self.dialogue, wanted).nonzero().flatten()
        names = [self.names[i] for i in rows.tolist()] if self.names else ()
        return Batch(
            {key: value[rows] for key, value in self.features.items()},
            {key: value[rows] for key, value in self.present.items()},
            self.speakers[rows],
            self.dialogue[rows],
            self.labels[rows],
            names,
            None if self.affect is None else self.affect[rows],
        )

    def completed(self, dimensions: Mapping[str, int]) -> Batch:
        """Gives the same utterances with every feature of `dimensions`; those that they don't have are absent."""
        many, device = len(self), self.speakers.device
        features, present = dict(self.features), dict(self.present)
        for name, size in dimensions.items():
            if name not in features:
                features[name] = torch.zeros(1, size, device=device).expand(many, -1)
                present[name] = torch.zeros(many, dtype=torch.bool, device=device)
        return replace(self, features=features, present=present)

    def without(self, feature_ids: Sequence[str]) -> Batch:
        """Gives the same utterances with these features absent."""
        present = {key: torch.zeros_like(value) if key in feature_ids else value for key, value in self.present.items()}
        return replace(self, present=present)


def presence(present: Mapping[str, Tensor], specs: Sequence[FeatureSpec]) -> Tensor:
    """Gives bool [N, M]: whether an utterance has any feature of a modality, modalities as the models order them."""
    columns = []
    for modality in MODALITIES:
        own = [present[spec.id] for spec in specs if spec.modality == modality]
        if own:
            columns.append(torch.stack(own).any(0))
    return torch.stack(columns, 1)
