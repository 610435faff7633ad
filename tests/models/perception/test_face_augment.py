"""Augmentation: faces stay faces, chance is the generator's, and each kind of damage can be switched off."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from mer_agent.models.perception.face_augment import Augmentation, augment

NONE = Augmentation(0, (1, 1), 0, 0, 2.5, 0, (0.4, 1.1), 1.0, 0, 0, 0.2, 0, 0, (15, 60), 0, (0.15, 0.4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(many: int = 16) -> torch.Tensor:
    """Blocks of six pixels, dark ones on the left and bright ones on the right: uint8 [many, 1, 48, 48]."""
    blocks = torch.rand(8, 8, generator=generator(7)) * 60 + torch.tensor([20, 160]).repeat_interleave(4)
    picture = blocks.repeat_interleave(6, 0).repeat_interleave(6, 1)
    return picture.to(torch.uint8).expand(many, 1, 48, 48).contiguous()


def test_what_comes_out_is_grey_levels() -> None:
    out = augment(faces(), Augmentation(), generator())
    assert (out.shape, out.dtype) == ((16, 1, 48, 48), torch.float32)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 255


def test_faces_can_be_made_smaller_on_the_way() -> None:
    out = augment(faces(64), NONE, generator(), side=36)
    assert out.shape == (64, 1, 36, 36)
    upright = torch.where(out[:, :1, :1, :1] > 100, out.flip(3), out)
    assert upright[..., :17].max() < 100 < upright[..., 19:].min()


def test_the_same_generator_gives_the_same_faces_and_another_others() -> None:
    first, again, other = (augment(faces(), Augmentation(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_originals_are_left_alone() -> None:
    images = faces()
    augment(images, Augmentation(), generator())
    assert torch.equal(images, faces())


def test_with_everything_off_half_are_mirrored_and_none_changed() -> None:
    out = augment(faces(64), NONE, generator())
    mirrored = out[:, 0, 0, 0] > 100
    assert 0.25 < mirrored.float().mean() < 0.75
    upright = torch.where(mirrored[:, None, None, None], out.flip(3), out)
    assert (upright - faces(64).float()).abs().max() <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"turn_degrees": 15.0},
        {"scale": (0.85, 0.9)},
        {"shift": 0.08},
        {"coarse": 1.0},
        {"blurred": 1.0},
        {"gamma": 1.7},
        {"shaded": 1.0},
        {"dark": 1.0},
        {"noise": 6.0},
        {"jpeg": 1.0},
        {"occluded": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_kind_of_damage_does_something(change: dict[str, object]) -> None:
    assert set(change) <= {field.name for field in fields(Augmentation)}
    plain, damaged = (augment(faces(), how, generator()) for how in (NONE, replace(NONE, **change)))  # type: ignore[arg-type]
    assert (plain - damaged).abs().max() > 3
