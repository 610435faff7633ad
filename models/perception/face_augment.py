"""What real cameras do to a face, done to training faces: a whole batch at a time, so that it costs next to nothing.

Geometry (mirror, turn, scale, shift, as a detector's landmarks scatter), low resolution, blur, light and shade, noise,
JPEG, and something in front of the face.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much of each. Shares are of faces; the rest are ranges."""

    turn_degrees: float = 15.0
    scale: tuple[float, float] = (0.85, 1.15)
    shift: float = 0.08
    """Of the side, in each direction."""
    coarse: float = 0.1
    coarsest: float = 2.5
    """Pixels of the face for each pixel that the camera had."""
    blurred: float = 0.2
    blur_pixels: tuple[float, float] = (0.4, 1.1)
    gamma: float = 1.7
    """Light: between 1 / gamma and gamma, evenly on a logarithmic scale."""
    shaded: float = 0.3
    dark: float = 0.15
    darkest: float = 0.2
    noise: float = 6.0
    """Largest deviation, in grey levels, before the face is made dark."""
    jpeg: float = 0.1
    jpeg_quality: tuple[int, int] = (15, 60)
    occluded: float = 0.25
    occlusion: tuple[float, float] = (0.15, 0.4)
    """Sides of what is in front, as shares of the face's."""


def augment(images: Tensor, how: Augmentation, generator: torch.Generator, side: int | None = None) -> Tensor:
    """Gives float32 grey levels [N, 1, side, side], 0 to 255, of faces uint8 [N, 1, S, S]; `side` is S if not given."""
    faces = _move(images.float(), how, generator, side or images.shape[-1])
    faces = _coarsen(faces, how, generator)
    faces = _blur(faces, how, generator)
    faces = _light(faces, how, generator)
    faces = _compress(faces, how, generator)
    return _occlude(faces, how, generator)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _chosen(n: int, share: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) < share


def _move(faces: Tensor, how: Augmentation, generator: torch.Generator, side: int) -> Tensor:
    n = len(faces)
    angle = _uniform(n, -how.turn_degrees, how.turn_degrees, generator) * (math.pi / 180)
    scale = 1 / _uniform(n, *how.scale, generator)
    mirror = torch.where(_chosen(n, 0.5, generator), -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * scale * angle.cos(), -scale * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = mirror * scale * angle.sin(), scale * angle.cos()
    theta[:, :, 2] = _uniform(2 * n, -2 * how.shift, 2 * how.shift, generator).view(n, 2)
    grid = functional.affine_grid(theta, [n, 1, side, side], align_corners=False)
    return functional.grid_sample(faces, grid, padding_mode="border", align_corners=False)


def _coarsen(faces: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """All chosen faces of a batch by the same factor, which differs from batch to batch."""
    chosen = _chosen(len(faces), how.coarse, generator)
    factor = float(_uniform(1, 1.3, how.coarsest, generator))
    if not chosen.any():
        return faces
    side = faces.shape[-1]
    small = functional.interpolate(faces[chosen], (round(side / factor),) * 2, mode="area")
    coarse = functional.interpolate(small, (side, side), mode="bilinear", align_corners=False)
    return faces.index_put((chosen,), coarse)


def _blur(faces: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    chosen = _chosen(len(faces), how.blurred, generator)
    some = int(chosen.sum())
    if not some:
        return faces
    at = torch.arange(-3.0, 4.0)
    line = torch.exp(-0.5 * (at / _uniform(some, *how.blur_pixels, generator)[:, None]) ** 2)
    line = line / line.sum(1, keepdim=True)
    kernels = (line[:, :, None] * line[:, None, :]).unsqueeze(1)  # [some, 1, 7, 7]
    padded = functional.pad(faces[chosen], (3, 3, 3, 3), mode="replicate").transpose(0, 1)
    blurred = functional.conv2d(padded, kernels, groups=some).transpose(0, 1)
    return faces.index_put((chosen,), blurred)


def _light(faces: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    n, side = len(faces), faces.shape[-1]
    log_gamma = math.log(how.gamma)
    gamma = _uniform(n, -log_gamma, log_gamma, generator).exp().view(n, 1, 1, 1)
    faces = 255 * (faces.clamp(0, 255) / 255) ** gamma
    ramp = torch.linspace(-1, 1, side)
    towards = _uniform(2 * n, -0.6, 0.6, generator).view(n, 2, 1, 1) * _chosen(n, how.shaded, generator).view(
        n, 1, 1, 1
    )
    faces = faces * (1 + towards[:, :1] * ramp + towards[:, 1:] * ramp[:, None]).clamp_min(0.1)
    faces = faces + _uniform(n, 0, how.noise, generator).view(n, 1, 1, 1) * torch.randn(
        faces.shape, generator=generator
    )
    level = torch.where(_chosen(n, how.dark, generator), _uniform(n, how.darkest, 1, generator), torch.ones(n))
    return (faces * level.view(n, 1, 1, 1)).round().clamp(0, 255)  # dark faces have few levels left


def _compress(faces: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    from PIL import Image

    chosen = _chosen(len(faces), how.jpeg, generator).nonzero().flatten().tolist()
    low, high = how.jpeg_quality
    qualities = torch.randint(low, high + 1, (len(faces),), generator=generator).tolist()
    for k in chosen:
        stored = io.BytesIO()
        Image.fromarray(faces[k, 0].to(torch.uint8).numpy()).save(stored, "JPEG", quality=qualities[k])
        faces[k, 0] = torch.from_numpy(np.array(Image.open(stored))).float()
    return faces


def _occlude(faces: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """A rectangle of one grey level, with its centre anywhere."""
    n, side = len(faces), faces.shape[-1]
    half = side * _uniform(2 * n, *how.occlusion, generator).view(n, 2) / 2
    centre = side * torch.rand(n, 2, generator=generator)
    at = torch.arange(side) + 0.5
    rows, columns = ((at - centre[:, k : k + 1]).abs() < half[:, k : k + 1] for k in (0, 1))
    covered = rows[:, :, None] & columns[:, None, :] & _chosen(n, how.occluded, generator).view(n, 1, 1)
    level = _uniform(n, 0, 255, generator).view(n, 1, 1, 1)
    return torch.where(covered.unsqueeze(1), level, faces)
