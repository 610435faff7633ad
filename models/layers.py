"""The parts of the fusion model around the graph: separate spaces, matching attention, classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mer_agent.models.batch import FeatureSpec


class Normalise(nn.Module):
    """Scales a feature to zero mean and unit deviation over the training set.

    A number that is undefined (NaN) or ignored becomes 0, the mean.

    Without statistics it only replaces NaN. The statistics stand in the checkpoint's card, not in its weights.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        mean = torch.tensor(spec.mean or [0.0] * spec.dimension)
        deviation = torch.tensor(spec.deviation or [1.0] * spec.dimension)
        kept = torch.tensor([name not in spec.ignored for name in spec.names] or [True] * spec.dimension)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scale", kept / deviation.clamp_min(1e-6), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """[..., dimension] -> the same, clipped to 5 deviations so that one wild measurement can't rule."""
        return ((values - self.mean) * self.scale).nan_to_num(0.0).clamp(-5, 5)


class Dropout(nn.Dropout):
    """Drops as `nn.Dropout` does, by one random byte a number instead of one random float: four times as fast on a CPU.

    The share that is dropped is therefore the nearest multiple of 1/256.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Dropout's name
        """Gives the values, some of them zero and the others scaled up, in training; the values themselves else."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        dropped = min(round(256 * self.p), 255)
        chance = torch.empty(-(-input.numel() // 8), dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
        kept = chance[: input.numel()].view(input.shape) >= dropped
        return input * (kept.to(input.dtype) * (256 / (256 - dropped)))


class Standardise(nn.Module):
    """Scales each number of a sequence's steps to zero mean and unit deviation, by all steps that training has shown.

    Shapes: steps [N, L, width], there [N, L] -> [N, L, width], clipped to 5 deviations.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seen = nn.Buffer(torch.zeros(()))
        self.mean = nn.Buffer(torch.zeros(width))
        self.square = nn.Buffer(torch.ones(width))

    def forward(self, steps: Tensor, there: Tensor) -> Tensor:
        """Gives the steps, scaled; those that are not there may be anything finite."""
        if self.training and there.any():
            known = steps.detach()[there]
            rate = len(known) / (self.seen + len(known))
            self.mean.lerp_(known.mean(0), rate)
            self.square.lerp_(known.square().mean(0), rate)
            self.seen.add_(len(known)).clamp_(max=_SEEN_AT_MOST)
        deviation = (self.square - self.mean.square()).clamp_min(1e-6).sqrt()
        return ((steps - self.mean) / deviation).clamp(-5, 5)


_SEEN_AT_MOST = 100_000
"""Steps by which the next ones are weighed: a few epochs of acted speech."""


class Moments(nn.Module):
    """Gives what a sequence is like as a whole: mean and deviation over its steps, projected.

    Shapes: steps [N, L, width], there [N, L] -> [N, 1, d].
    """

    def __init__(self, width: int, dimension: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(2 * width, dimension)
        self.dropout = Dropout(dropout)

    def forward(self, steps: Tensor, there: Tensor) -> Tensor:
        """Gives one step; of a sequence without any it means nothing."""
        weight = there.unsqueeze(-1) / there.sum(1).clamp_min(1)[:, None, None]
        mean = (steps * weight).sum(1, keepdim=True)
        variance = ((steps - mean).square() * weight).sum(1, keepdim=True)
        moments = torch.cat([mean, (variance + 1e-6).sqrt()], -1)
        one: Tensor = self.project(self.dropout(moments))
        return one


class SeparateSpace(nn.Module):
    """Gives one modality a space of its own: h = MLP([x_1 ; x_2 ; ...]) over the modality's features (eq. 1).

    Each feature is projected first; where one is absent, a learned vector stands in its place, so that absence is
    something the model knows about and never a vector of zeros that looks like data.

    Shapes: features {id: [N, dimension]}, present {id: [N]} -> [N, dimension].
    """

    def __init__(self, specs: Sequence[FeatureSpec], dimension: int, *, dropout: float, input_dropout: float) -> None:
        super().__init__()
        self.ids = tuple(spec.id for spec in specs)
        self.normalise = nn.ModuleList(Normalise(spec) for spec in specs)
        self.project = nn.ModuleList(nn.Linear(spec.dimension, dimension) for spec in specs)
        self.absent = nn.Parameter(torch.randn(len(specs), dimension) * 0.02)
        self.input_dropout = nn.Dropout(input_dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dimension * len(specs)),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(dimension * len(specs), dimension),
            nn.LayerNorm(dimension),
        )

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Gives the modality's vector of each utterance."""
        parts = []
        for k, (name, normalise, project) in enumerate(zip(self.ids, self.normalise, self.project, strict=True)):
            part = project(self.input_dropout(normalise(features[name])))
            parts.append(torch.where(present[name].unsqueeze(-1), part, self.absent[k]))
        return cast(Tensor, self.mlp(torch.cat(parts, -1)))


class MatchingAttention(nn.Module):
    """Lets each modality read the others: o_m = g_m + sum_n softmax_n(g_m W g_n / sqrt(d)) g_n, all o_m concatenated.

    Nothing is masked: a modality that is absent at this utterance still carries, through its graph, what the window
    held of it, and its learned vector tells that it is absent.

    Shapes: [N, modalities, d] -> [N, modalities * d].
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.match = nn.Linear(dimension, dimension, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Gives the fused vector of each utterance."""
        affinity = self.match(states) @ states.transpose(1, 2) / states.shape[-1] ** 0.5  # [N, M, M]
        fused: Tensor = states + affinity.softmax(-1) @ states
        return fused.flatten(1)


def classifier(dimension: int, hidden: int, classes: int, dropout: float) -> nn.Sequential:
    """Gives two linear layers with ReLU and the decision layer (eq. 15)."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(dimension, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )
