"""The network for faces: its sizes, and what normalisation takes out."""

from __future__ import annotations

import pytest
import torch

from mer_agent.encoders.densenet import DenseNet, DenseShape, normalise

SMALL = DenseShape(stem=4, layers=(1, 2), growth=(4, 8), dropout=0.0)


def test_the_default_has_512_features_and_fits_in_4_megabytes_of_half_precision() -> None:
    network = DenseNet(8)
    assert network.dimension == 512
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_955_944


def test_blocks_keep_what_came_in_and_transitions_halve_it() -> None:
    network = DenseNet(3, SMALL).eval()
    assert network.dimension == (4 + 4) // 2 + 2 * 8
    faces = torch.randn(2, 1, 48, 48)
    features = network.features(faces)
    assert features.shape == (2, network.dimension)
    assert (features >= 0).all()
    assert torch.allclose(network(faces), network.head(features))


def test_a_dense_layer_passes_its_input_on_unchanged() -> None:
    network = DenseNet(3, SMALL).eval()
    pooled = network.body[0](network.stem(torch.randn(1, 1, 48, 48)))
    assert torch.equal(network.body[1](pooled)[:, :4], pooled)


def test_a_shape_survives_json() -> None:
    assert DenseShape.of({"stem": 4, "layers": [1, 2], "growth": [4, 8], "bottleneck": 4, "dropout": 0.0}) == SMALL


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (0.3, 100), (1.0, 40)])
def test_neither_light_nor_contrast_changes_a_normalised_face(gain: float, offset: float) -> None:
    face = torch.randint(0, 200, (1, 1, 48, 48)).float()
    assert torch.allclose(normalise(face), normalise(gain * face + offset), atol=1e-4)


def test_noise_on_a_flat_picture_is_not_blown_up() -> None:
    flat = 100 + torch.randint(0, 2, (1, 1, 48, 48))
    assert normalise(flat).abs().max() < 0.2
    assert torch.equal(normalise(torch.zeros(2, 1, 48, 48, dtype=torch.uint8)), torch.zeros(2, 1, 48, 48))
