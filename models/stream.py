"""A conversation as the fusion model follows it: utterance by utterance in, a distribution out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from mer_agent.errors import CheckpointError
from mer_agent.models.graph import SpeakerGraph
from mer_agent.models.graph_state import GraphState
from mer_agent.streams.types import Modality

if TYPE_CHECKING:
    from mer_agent.models.registry import LiveModel


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model thinks of one utterance: `probabilities` [C], float32, in the order of the card's labels."""

    probabilities: Tensor
    context_length: int
    """How many earlier utterances it could feel: those in the graph's reach that nobody had forgotten."""
    used: tuple[Modality, ...]
    """The modalities that this utterance brought. None at all means that the context alone speaks."""
    missing: tuple[Modality, ...]
    affect: tuple[float, float, float] | None = None
    """Valence, activation and dominance from -1 to 1, where the model was taught to tell them."""


@dataclass(frozen=True, slots=True)
class Why:
    """What moved a judgement: by how much its label's probability falls without each; below 0 it spoke against it."""

    modalities: Mapping[Modality, float]
    turns: Mapping[str, float]
    """Of the utterances that it looks at directly, by their ids."""


class Stream:
    """One conversation's state beside a model that never changes. Not for two threads at once.

    Features come as the encoders give them ({feature id: float32 [dimension]}, a missing key is absent); they are
    normalised in the model. Speakers are small integers, None when unknown.
    """

    def __init__(self, model: LiveModel) -> None:
        self._model = model
        self._graphs = GraphState([cast(SpeakerGraph, graph) for graph in model.graphs])
        self._numbers: OrderedDict[str, int] = OrderedDict()  # utterance id -> node number, while it can be revised

    def __len__(self) -> int:
        """How many utterances there were, forgotten ones among them."""
        return len(self._graphs)

    def append(self, utterance_id: str, speaker: int | None, features: Mapping[str, Tensor]) -> Judgement:
        """Adds an utterance that has just ended and judges it.

        Raises:
            ValueError: the id is in use already.
            CheckpointError: a feature has another dimension than the model was trained on.
        """
        states = self._append(utterance_id, speaker, features)
        return self._judge(states, len(self) - 1, features)

    def append_context(self, utterance_id: str, speaker: int | None, features: Mapping[str, Tensor]) -> None:
        """Adds a turn that others react to but that gets no judgement, such as the dialogue system's own."""
        self._append(utterance_id, speaker, features)

    @torch.no_grad()
    def preview(self, speaker: int | None, features: Mapping[str, Tensor]) -> Judgement:
        """Judges an utterance as if it ended now, and adds nothing."""
        return self._judge(self._graphs.preview(self._nodes(features), speaker), len(self), features)

    @torch.no_grad()
    def why(self, speaker: int | None, features: Mapping[str, Tensor]) -> Why:
        """Gives what moves the judgement of an utterance that is about to be added: each left out once.

        It costs a preview for each modality and for each earlier utterance in the window.
        """
        judged = self.preview(speaker, features).probabilities
        label = int(judged.argmax())
        modalities: dict[Modality, float] = {}
        for modality in self._model.modalities:
            own = [spec.id for spec in self._model.specs if spec.modality == modality]
            if any(name in features for name in own):
                rest = {name: value for name, value in features.items() if name not in own}
                modalities[modality] = float(judged[label] - self.preview(speaker, rest).probabilities[label])
        nodes = self._nodes(features)
        turns = {}
        for name, number in self._numbers.items():
            if number >= len(self) - cast(SpeakerGraph, self._model.graphs[0]).window:
                states = self._graphs.preview(nodes, speaker, unheard=number)
                without = self._judge(states, len(self), features).probabilities
                turns[name] = float(judged[label] - without[label])
        return Why(modalities, turns)

    @torch.no_grad()
    def revise(self, utterance_id: str, speaker: int | None, features: Mapping[str, Tensor]) -> Judgement | None:
        """Replaces an utterance, recomputes those after it, and judges it anew.

        None, and nothing changes, where it is unknown, forgotten, or too old to matter to a future one.
        """
        number = self._numbers.get(utterance_id)
        states = None if number is None else self._graphs.revise(number, self._nodes(features), speaker)
        return None if number is None or states is None else self._judge(states, number, features)

    def forget(self, speaker: int) -> int:
        """Removes all trace of a speaker; gives how many remembered utterances that were."""
        count = self._graphs.forget(speaker)
        self._numbers = OrderedDict((k, n) for k, n in self._numbers.items() if self._graphs.holds(n))
        return count

    def reset(self) -> None:
        """Forgets the whole conversation."""
        self._graphs.reset()
        self._numbers.clear()

    def to_dict(self) -> dict[str, Any]:
        """Gives the state: tensors and integers of the graphs, and the ids of the utterances that can be revised."""
        graphs = self._graphs.to_dict()
        return {"modalities": self._model.modalities, "graphs": graphs, "numbers": dict(self._numbers)}

    def load_dict(self, saved: Mapping[str, Any]) -> None:
        """Goes on from what `to_dict` gave.

        Raises:
            ValueError: it comes from another model.
        """
        if tuple(saved["modalities"]) != self._model.modalities:
            raise ValueError("the saved state comes from a model of other modalities")
        self._graphs.load_dict(saved["graphs"])
        self._numbers = OrderedDict(saved["numbers"])

    @torch.no_grad()
    def _append(self, utterance_id: str, speaker: int | None, features: Mapping[str, Tensor]) -> Tensor:
        if utterance_id in self._numbers:
            raise ValueError(f"utterance {utterance_id} is in the conversation already: revise it instead")
        states = self._graphs.append(self._nodes(features), speaker)
        self._numbers[utterance_id] = len(self) - 1
        if len(self._numbers) > self._graphs.reach:
            self._numbers.popitem(last=False)
        return states

    def _nodes(self, features: Mapping[str, Tensor]) -> Tensor:
        """Gives the vectors [G, d] of an utterance, as they enter the graphs."""
        return self._model.nodes(*self._as_batch(features))[0]

    def _as_batch(self, features: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gives values [1, dimension] and presence [1] of every feature that the model reads."""
        values, present = {}, {}
        for spec in self._model.specs:
            value = features.get(spec.id)
            if value is not None and value.shape != (spec.dimension,):
                raise CheckpointError(
                    f"{spec.id} has the shape {tuple(value.shape)}; the checkpoint was trained on ({spec.dimension},)"
                )
            device = self._model.temperature.device
            values[spec.id] = torch.zeros(1, spec.dimension) if value is None else value.detach().float().unsqueeze(0)
            values[spec.id] = values[spec.id].to(device)
            present[spec.id] = torch.tensor([value is not None], device=device)
        return values, present

    @torch.no_grad()
    def _judge(self, states: Tensor, number: int, features: Mapping[str, Tensor]) -> Judgement:
        stacked = states.unsqueeze(0)
        brought = {spec.modality for spec in self._model.specs if spec.id in features}
        probabilities = self._model.judge(stacked, *self._as_batch(features))[0].softmax(-1).cpu()
        return Judgement(
            probabilities,
            self._graphs.heard(number),
            tuple(m for m in self._model.modalities if m in brought),
            tuple(m for m in self._model.modalities if m not in brought),
            self._affect(stacked),
        )

    def _affect(self, stacked: Tensor) -> tuple[float, float, float] | None:
        model: Any = self._model
        if not getattr(getattr(model, "shape", None), "rates", False):
            return None
        # Ratings go from 1 to 5: two points to either side of the middle.
        valence, activation, dominance = (model.rate(stacked)[0] / 2).clamp(-1, 1).tolist()
        return valence, activation, dominance
