"""AR-IIGCN: a space and a speaker graph for each modality, fused by matching attention (Shou et al. 2023).

This is the whole model, top to bottom. N utterances, M modalities, d dimensions, C classes:

    features of modality m   {id: [N, dimension]}
    -> separate space        [N, d]         layers.SeparateSpace, eq. 1
    -> speaker graph         [N, d]         graph.SpeakerGraph, eq. 8-10
    (both for each m)        [N, M, d]
    -> matching attention    [N, M * d]     layers.MatchingAttention
    -> classifier            [N, C]         two linear + ReLU and a decision layer, eq. 15

The adversarial stage (eq. 2-7) and the contrastive losses (eq. 11-14) read `Output.spaces` and `Output.states`; they
change what is learned, not what is computed here. The stage's generators are kept in the model where it has any: with
`impute` they give the vector of a modality that an utterance lacks, before the graphs, which the paper doesn't do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_agent.models.adversarial import Generators
from mer_agent.models.batch import Batch, FeatureSpec, presence
from mer_agent.models.graph import SpeakerGraph, speaker_edges
from mer_agent.models.layers import MatchingAttention, SeparateSpace, classifier
from mer_agent.models.stream import Stream
from mer_agent.streams.types import MODALITIES, Modality


@dataclass(frozen=True, slots=True)
class Output:
    """What a model says of N utterances: logits [N, C], and per modality what losses may want to see.

    `spaces` [N, M, d] is what enters the graphs, `states` [N, M, d] what leaves them; `modal_logits` [N, M, C] is each
    modality judging alone, in training only.
    """

    logits: Tensor
    affect: Tensor | None = None
    """Valence, activation and dominance [N, 3] in points from the middle of their scale, in training only."""
    spaces: Tensor | None = None
    states: Tensor | None = None
    modal_logits: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """Where a linear judge of a feature has a say, and how much: `share`, the rest is the graphs'."""

    feature: str
    unless: tuple[str, ...]
    """Where one of these is present, it has none: there the graphs alone weigh what the modalities say."""
    share: float
    yields_to: str = ""
    """A feature, such as words, that has a judge of its own. Where it is present, the share is multiplied by the
    probability that its judge gives to `nothing`: words that say something are left to the graphs."""
    nothing: int = 0
    """The class that says nothing: neutral."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "unless", tuple(self.unless))


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the model; they stand in the checkpoint's card."""

    dimension: int = 192
    hidden: int = 192
    layers: int = 2
    window: int = 10
    heads: int = 4
    dropout: float = 0.4
    input_dropout: float = 0.2
    future: int = 0
    share: bool = True
    generators: bool = False
    """Whether the model has generators (of two modalities or more): the adversarial stage trains them."""
    impute: bool = False
    """Whether generated vectors stand in for a missing modality, in training and after; needs `generators`."""
    rates: bool = False
    """Whether valence, activation and dominance were taught well enough to be told, not only as a help."""
    tempered: bool = False
    """Whether each subset of the modalities has a temperature of its own: a face alone is not as sure as all three."""
    members: int = 1
    """How many such models judge together (`ensemble.Ensemble`)."""
    beside: tuple[Say, ...] = ()
    """Linear judges of single features that have a say beside an ensemble's graphs (`ensemble.Beside`)."""
    doubted: str = ""
    """The feature of which an ensemble is less sure where it has nothing of another modality; none if empty."""

    def __post_init__(self) -> None:
        said = tuple(one if isinstance(one, Say) else Say(**one) for one in self.beside)  # a card has dictionaries
        object.__setattr__(self, "beside", said)


class ARIIGCN(nn.Module):
    """The fusion model. It holds no conversation: `stream()` gives an object that does."""

    def __init__(self, specs: Sequence[FeatureSpec], classes: int, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or Shape()
        self.specs, self.classes = tuple(specs), classes
        self.modalities: tuple[Modality, ...] = tuple(m for m in MODALITIES if any(s.modality == m for s in specs))
        self.spaces = nn.ModuleList(
            SeparateSpace(
                [spec for spec in specs if spec.modality == modality],
                shape.dimension,
                dropout=shape.dropout,
                input_dropout=shape.input_dropout,
            )
            for modality in self.modalities
        )
        self.graphs = nn.ModuleList(
            SpeakerGraph(
                shape.dimension,
                layers=shape.layers,
                window=shape.window,
                future=shape.future,
                heads=shape.heads,
                dropout=shape.dropout,
                share=shape.share,
            )
            for _ in self.modalities
        )
        self.fusion = MatchingAttention(shape.dimension)
        self.classifier = classifier(len(self.modalities) * shape.dimension, shape.hidden, classes, shape.dropout)
        self.modal_heads = nn.ModuleList(nn.Linear(shape.dimension, classes) for _ in self.modalities)
        self.affect_head = nn.Linear(len(self.modalities) * shape.dimension, 3)
        self.generators: Generators | None = None
        if shape.generators and len(self.modalities) > 1:
            self.generators = Generators(len(self.modalities), shape.dimension, shape.dimension)
        self.temperature = nn.Buffer(torch.ones(()))
        """Divides the logits so that confidences are honest; fitted on the validation split after training."""
        self.temperatures = nn.Buffer(torch.ones(2 ** len(self.modalities))) if shape.tempered else None

    def forward(self, batch: Batch) -> Output:
        """Gives the logits of every utterance of the batch's dialogues."""
        edges = speaker_edges(batch.speakers, batch.dialogue, window=self.shape.window, future=self.shape.future)
        spaces = [space(batch.features, batch.present) for space in self.spaces]  # M x [N, d]
        nodes_of = self.complete(torch.stack(spaces, 1), batch.present).unbind(1)
        states = [graph(nodes, edges) for graph, nodes in zip(self.graphs, nodes_of, strict=True)]
        stacked = torch.stack(states, 1)  # [N, M, d]
        modal = affect = None
        if self.training:
            affect = self.rate(stacked)
            modal = torch.stack([head(state) for head, state in zip(self.modal_heads, states, strict=True)], 1)
        logits = self.judge(stacked, batch.features, batch.present)
        return Output(logits, affect, torch.stack(spaces, 1), stacked, modal)

    def nodes(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Gives each utterance's vectors [N, M, d], as they enter the graphs."""
        return self.complete(torch.stack([space(features, present) for space in self.spaces], 1), present)

    def complete(self, spaces: Tensor, present: Mapping[str, Tensor]) -> Tensor:
        """Gives the spaces [N, M, d] as they enter the graphs: with generated vectors for what is missing, if asked."""
        if self.generators is None or not self.shape.impute:
            return spaces
        return self.generators.impute(spaces, presence(present, self.specs))

    def stream(self) -> Stream:
        """Gives a new conversation, to be fed utterance by utterance. Put the model in `eval()` first."""
        if self.training:
            raise RuntimeError("model.eval() first: dropout would make a live conversation random")
        return Stream(self)

    def judge(
        self,
        states: Tensor,
        features: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Gives the logits [N, C] of the graphs' states [N, M, d]; `present` tells which features were there.

        Without it, the subsets' own temperatures don't count. The features themselves were read before the graphs.
        """
        there = None if present is None else presence(present, self.specs)
        return tempered(self.classifier(self.fusion(states)), self.temperature, self.temperatures, there)

    def rate(self, states: Tensor) -> Tensor:
        """Gives valence, activation and dominance [N, 3] of the graphs' states [N, M, d], as `Output.affect` has it."""
        rated: Tensor = self.affect_head(self.fusion(states))
        return rated


def tempered(logits: Tensor, temperature: Tensor, temperatures: Tensor | None, present: Tensor | None) -> Tensor:
    """Gives logits [N, C] over their temperature, and over that of the subset of the modalities that was `present`."""
    logits = logits / temperature
    if temperatures is None or present is None:
        return logits
    return logits / temperatures[subset_numbers(present)].unsqueeze(-1)


def subset_numbers(present: Tensor) -> Tensor:
    """Gives the number of each utterance's subset of the modalities, int64 [N]: the sum of 2^m over those there."""
    places = 2 ** torch.arange(present.shape[1], device=present.device)
    return (present * places).sum(1)
