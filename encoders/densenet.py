"""A small densely connected network for grey 48x48 faces: every layer sees what all layers before it made.

Source: Huang et al. 2017, "Densely Connected Convolutional Networks", DenseNet-BC: BN-ReLU-conv 1x1 (4 k maps)
-BN-ReLU-conv 3x3 (k maps), transitions that halve maps and size. Two things differ, both for the sake of one CPU core.
The stem's maps are pooled before the first block, so that no block works at 48x48. And there are few, wide layers
instead of many narrow ones, with a growth rate k that rises from block to block (24x24, 12x12, 6x6): a layer costs
memory traffic for all maps before it, and few layers make that twice less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 48
"""Pixels of a face's side."""

FLATTEST = 8.0
"""Grey levels: a face whose deviation is less is mostly noise, which must not be blown up."""


@dataclass(frozen=True, slots=True)
class DenseShape:
    """Sizes of the network. With these, 2.0 million parameters and a feature of 512 numbers."""

    stem: int = 32
    layers: tuple[int, ...] = (3, 4, 6)
    growth: tuple[int, ...] = (32, 48, 64)
    bottleneck: int = 4
    dropout: float = 0.2

    @classmethod
    def of(cls, sizes: Mapping[str, Any]) -> DenseShape:
        """Gives the shape of sizes that went through JSON, where a tuple is a list."""
        given: dict[str, Any] = {key: tuple(size) if isinstance(size, list) else size for key, size in sizes.items()}
        return cls(**given)


class DenseNet(nn.Module):
    """Faces to logits, and to the feature that the logits are a linear function of.

    Args:
        classes: number of logits.
        shape: sizes of the network.

    Attributes:
        dimension: length of the feature.
    """

    def __init__(self, classes: int, shape: DenseShape | None = None) -> None:
        super().__init__()
        shape = shape or DenseShape()
        maps = shape.stem
        self.stem = nn.Conv2d(1, maps, 3, padding=1, bias=False)
        body: list[nn.Module] = [nn.MaxPool2d(2)]
        for block, (layers, growth) in enumerate(zip(shape.layers, shape.growth, strict=True)):
            if block:
                body += [nn.BatchNorm2d(maps), nn.ReLU(), nn.Conv2d(maps, maps // 2, 1, bias=False), nn.AvgPool2d(2)]
                maps //= 2
            for _ in range(layers):
                body.append(_DenseLayer(maps, growth, shape.bottleneck * growth))
                maps += growth
        self.body = nn.Sequential(*body)
        self.norm = nn.BatchNorm2d(maps)
        self.dropout = nn.Dropout(shape.dropout)
        self.head = nn.Linear(maps, classes)
        self.dimension = maps
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, faces: Tensor) -> Tensor:
        """Gives logits [N, classes] of faces [N, 1, 48, 48] as `normalise` gives them."""
        logits: Tensor = self.head(self.dropout(self.features(faces)))
        return logits

    def features(self, faces: Tensor) -> Tensor:
        """Gives [N, dimension], none below 0."""
        maps = self.body(self.stem(faces))
        return functional.relu(self.norm(maps)).mean((2, 3))


class _DenseLayer(nn.Module):
    def __init__(self, maps: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(maps), nn.Conv2d(maps, bottleneck, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(bottleneck), nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        narrow = self.conv1(functional.relu(self.norm1(maps)))
        return torch.cat([maps, self.conv2(functional.relu(self.norm2(narrow)))], 1)


def normalise(grey: Tensor) -> Tensor:
    """Gives faces [N, 1, 48, 48] of mean 0 and deviation 1, each on its own, of grey levels (0 to 255) of any type.

    So neither a dark room nor a pale picture changes what the network sees, but for its noise.
    """
    faces = grey.float()
    deviation, mean = torch.std_mean(faces, (1, 2, 3), keepdim=True)
    return (faces - mean) / deviation.clamp_min(FLATTEST)
