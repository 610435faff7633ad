"""Pretrained layers compute in the model what they compute where they come from."""

from __future__ import annotations

import pytest
import torch
from support import tiny_mpnet

from mer_agent.encoders.text import load_model
from mer_agent.errors import ConfigError, WeightsError
from mer_agent.models.batch import FeatureSpec
from mer_agent.models.joint_fusion import JointFusion
from mer_agent.models.joint_pretrained import language_layers, load_layers, visual_layers

SPECS = (FeatureSpec("text/t@1", "text", 8 * 6, steps=8), FeatureSpec("audio/m@1", "audio", 9 * 5, steps=9))


def build(dimension=tiny_mpnet.WIDTH, specs=SPECS, **sizes):
    torch.manual_seed(1)
    sizes = {"heads": 2, "hidden": 2 * dimension, "context": 0, **sizes}
    return JointFusion(specs, 3, dimension=dimension, **sizes).eval()


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory):
    return tiny_mpnet.make(tmp_path_factory.mktemp("mpnet"))


@pytest.mark.parametrize("tied", [True, False])
def test_language_layers_are_the_last_of_mpnet(mpnet, tied):
    model = build(tied=tied)
    load_layers(model, language="mpnet", folder=mpnet)
    network, _, _ = load_model(mpnet, torch.device("cpu"))
    states = torch.randn(3, 7, tiny_mpnet.WIDTH)
    for block, theirs in zip(language_layers(model), network.encoder.layer[-2:], strict=True):
        assert len(block) == (1 if tied else 2)
        for layer in block:
            torch.testing.assert_close(layer(states), theirs(states)[0], atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_visual_layers_are_the_last_of_a_vit(tmp_path):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=32)
    network = ViTModel(config, add_pooling_layer=False).eval()
    network.save_pretrained(tmp_path)
    model = build(16)
    load_layers(model, vision="vit", folder=tmp_path)
    states = torch.randn(2, 5, 16)
    layers = [
        module for name, module in network.named_modules() if name.rpartition(".")[0].endswith(("layer", "layers"))
    ]
    for (layer,), theirs in zip(visual_layers(model), layers[-2:], strict=True):
        found = theirs(states)
        torch.testing.assert_close(layer(states), found if torch.is_tensor(found) else found[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("fusion", ["late", "attention", "concatenate"])
def test_rivals_have_visual_layers_too(fusion):
    model = build(fusion=fusion)
    assert len(visual_layers(model)) == 2
    assert language_layers(model) == []
    assert len(visual_layers(build(specs=SPECS[1:]))) == 2
    assert len(language_layers(build(specs=SPECS[:1]))) == 2


def test_other_sizes_are_refused_by_name(mpnet):
    with pytest.raises(ConfigError, match="24 wide with 48 hidden"):
        load_layers(build(16), language="mpnet", folder=mpnet)
    with pytest.raises(ConfigError, match="layers, and the model has 99 blocks"):
        load_layers(build(blocks=99), language="mpnet", folder=mpnet)


def test_what_is_not_here_is_said_with_the_command_that_gets_it(tmp_path):
    with pytest.raises(WeightsError, match="hf download MIT/ast"):
        load_layers(build(), vision="ast", folder=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(WeightsError, match="can't be read"):
        load_layers(build(), vision="ast", folder=tmp_path)
    for unknown in ({"vision": "resnet"}, {"language": "llama"}):
        with pytest.raises(ConfigError, match="are called"):
            load_layers(build(), **unknown)
