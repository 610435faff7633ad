"""Several models of one shape, each trained with a seed of its own, that judge together.

What one seed gets wrong by chance the others mostly don't, so their mean is right more often than any of them, changes
less when the sound does, and knows better how sure it is. To the conversation they are one model of K * M graphs:

    members k = 1 ... K, modalities m = 1 ... M
    nodes, states        [N, K * M, d]   member by member
    p                    1/K sum_k softmax(logits_k)                               [N, C]
    logits               ( (1 - w) log p + w log q ) / temperature                 [N, C]

q is what a linear judge says of one of the utterance's features, without a graph (`Shape.beside`), such as the judge
that learned together with its encoder. It errs in other ways than the graphs. Where the feature is absent, w is 0, as
in models without such a judge; and where another one is present that has to be weighed against it, such as the voice
against the words (`Say.unless`). Or w falls by what the other one says (`Say.yields_to`): a voice decides where the
words tell nothing. Several judges are asked one after the other.

Where `Shape.doubted` is present, and no other modality than its own, the logits are divided by `doubt` besides: a voice
is recorded in no corpus that was learned, which the temperature of its modality doesn't know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mer_agent.models.ar_iigcn import ARIIGCN, Output, Say, Shape, tempered
from mer_agent.models.batch import Batch, FeatureSpec, presence
from mer_agent.models.stream import Stream


@dataclass(frozen=True, slots=True)
class Beside:
    """A linear judge of a feature: when it is asked, weight [C, dimension] and bias [C]."""

    say: Say
    weight: Tensor
    bias: Tensor


class Ensemble(nn.Module):
    """AR-IIGCNs that judge together; `shape.members` says how many. `of` makes one of trained members."""

    def __init__(self, specs: Sequence[FeatureSpec], classes: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        members = [ARIIGCN(specs, classes, shape) for _ in range(shape.members)]
        self.members = nn.ModuleList(members)
        self.specs, self.classes, self.modalities = members[0].specs, classes, members[0].modalities
        widths = {spec.id: spec.dimension for spec in specs}
        self.beside = nn.ModuleList(nn.Linear(widths[say.feature], classes) for say in shape.beside)
        judged = [say.feature for say in shape.beside]
        for say in shape.beside:
            if say.yields_to and say.yields_to not in judged:
                raise ValueError(f"{say.yields_to} has no judge of its own to which that of {say.feature} could yield")
        self.temperature = nn.Buffer(torch.ones(()))
        self.temperatures = nn.Buffer(torch.ones(2 ** len(self.modalities))) if shape.tempered else None
        self.doubt = nn.Buffer(torch.ones(())) if shape.doubted else None

    @classmethod
    def of(cls, members: Sequence[ARIIGCN], beside: Sequence[Beside] = (), doubted: str = "") -> Ensemble:
        """Gives an ensemble of models that were trained alike; it has to be calibrated anew."""
        first = members[0]
        says = tuple(one.say for one in beside)
        shape = replace(first.shape, members=len(members), beside=says, doubted=doubted)
        ensemble = cls(first.specs, first.classes, shape)
        for judge, one in zip(ensemble.beside, beside, strict=True):
            judge.load_state_dict({"weight": one.weight, "bias": one.bias})
        for own, member in zip(ensemble._models, members, strict=True):
            own.load_state_dict(member.state_dict())
            own.temperature.fill_(1.0)
            if own.temperatures is not None:
                own.temperatures.fill_(1.0)
        return ensemble.eval().requires_grad_(False)

    @property
    def graphs(self) -> list[nn.Module]:
        """All members' speaker graphs, in the order of the states."""
        return [graph for member in self._models for graph in member.graphs]

    @property
    def _models(self) -> list[ARIIGCN]:
        return list(self.members)  # type: ignore[arg-type]  # a list of modules doesn't say which

    def forward(self, batch: Batch) -> Output:
        """Gives the logits of every utterance of the batch's dialogues."""
        outputs = [member(batch) for member in self._models]
        spaces, states = (torch.cat([getattr(each, name) for each in outputs], 1) for name in ("spaces", "states"))
        return Output(self.judge(states, batch.features, batch.present), spaces=spaces, states=states)

    def nodes(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Gives each utterance's vectors [N, K * M, d], as they enter the graphs."""
        return torch.cat([member.nodes(features, present) for member in self._models], 1)

    def judge(
        self,
        states: Tensor,
        features: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Gives the logits [N, C] of the graphs' states [N, K * M, d]; without features nobody has a say beside them.

        `present` as in `ARIIGCN.judge`.
        """
        each = torch.stack([m.judge(own).log_softmax(-1) for m, own in self._each(states)])  # [K, N, C]
        logits = each.logsumexp(0) - math.log(len(each))
        there = None
        if features is not None and present is not None:
            logits = self._with_beside(logits, features, present)
            there = presence(present, self.specs)
            if self.doubt is not None:
                alone = present[self.shape.doubted] & (there.sum(1) == 1)
                logits = torch.where(alone.unsqueeze(-1), logits / self.doubt, logits)
        return tempered(logits, self.temperature, self.temperatures, there)

    def _with_beside(self, logits: Tensor, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        said = {
            say.feature: judge(features[say.feature]).log_softmax(-1)
            for say, judge in zip(self.shape.beside, self.beside, strict=True)
        }
        for say in self.shape.beside:
            share = say.share * present[say.feature].float()
            for other in say.unless:
                share = share * ~present[other]
            if say.yields_to:
                nothing = said[say.yields_to][:, say.nothing].exp()
                share = torch.where(present[say.yields_to], share * nothing, share)
            logits = torch.lerp(logits, said[say.feature], share.unsqueeze(-1))
        return logits

    def rate(self, states: Tensor) -> Tensor:
        """Gives valence, activation and dominance [N, 3] of the graphs' states [N, K * M, d]: the members' mean."""
        return torch.stack([member.rate(own) for member, own in self._each(states)]).mean(0)

    def stream(self) -> Stream:
        """Gives a new conversation, to be fed utterance by utterance."""
        return Stream(self)

    def _each(self, states: Tensor) -> list[tuple[ARIIGCN, Tensor]]:
        """Each member with its own states [N, M, d]."""
        own = states.view(len(states), len(self.members), len(self.modalities), -1).unbind(1)
        return list(zip(self._models, own, strict=True))
