"""Pretrained layers for joint-vector fusion, put into its own: the same computation, other names.

    language   mpnet   the last N of the catalogue's all-mpnet-base-v2 (768 wide, 12 heads, feed-forward 3072)
    vision     vit     google/vit-base-patch16-224, from the hub: the user puts its files into the weights' folder
               ast     MIT/ast-finetuned-audioset-10-10-0.4593, likewise

MPNet's bias by relative position is left out: the states that these layers read know their places, and a joint vector
has none. Visual layers that are not named start from chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mer_agent.encoders import weights
from mer_agent.encoders.text import load_model
from mer_agent.errors import ConfigError, WeightsError
from mer_agent.models.joint_blocks import Apart, CrossAttention, JointBlock, Single

if TYPE_CHECKING:
    from mer_agent.models.joint_fusion import JointFusion

HUB = {"vit": "google/vit-base-patch16-224", "ast": "MIT/ast-finetuned-audioset-10-10-0.4593"}
"""Visual layers that no registry carries -> where the model hub has them."""

_MPNET = {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "self_attn.out_proj": "attention.attn.o",
    "norm1": "attention.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
_VIT = {
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "layernorm_before",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "layernorm_after",
}


def load_layers(model: JointFusion, *, language: str = "", vision: str = "", folder: Path | None = None) -> None:
    """Puts pretrained layers into a model's blocks; both passes of a block start from the same ones.

    Args:
        model: what gets them.
        language: `mpnet`, or empty for none.
        vision: `vit`, `ast`, or empty for none.
        folder: where the weights lie; the catalogue's own folder if not given.

    Raises:
        WeightsError: they are not here or unreadable.
        ConfigError: there are none of that name, or the model's layers have other sizes.
    """
    if language:
        if language != "mpnet":
            raise ConfigError(f"no language layers are called {language!r}: mpnet, or none")
        network, _, _ = load_model(weights.path("mpnet") if folder is None else folder, torch.device("cpu"))
        states = [layer.state_dict() for layer in network.encoder.layer]
        _put(language_layers(model), states, _MPNET, language, norm_eps=float(network.config.layer_norm_eps))
    if vision:
        states, eps = _visual(vision, folder)
        _put(visual_layers(model), states, _VIT, vision, norm_eps=eps)


def language_layers(model: JointFusion) -> list[list[nn.TransformerEncoderLayer]]:
    """Gives the language layers of each block, those of the second pass beside those of the first."""
    return _layers(model, "language") if "text" in model.modalities else []


def visual_layers(model: JointFusion) -> list[list[nn.TransformerEncoderLayer]]:
    """Gives the visual layers of each block."""
    return _layers(model, "visual") if "audio" in model.modalities else []


def _layers(model: JointFusion, kind: str) -> list[list[nn.TransformerEncoderLayer]]:
    found: list[list[Any]] = []
    for block in model.blocks:
        if isinstance(block, JointBlock):
            both = [getattr(block, kind), getattr(block, f"{kind}_back")]
            found.append([layer for layer in both if layer is not None])
        elif isinstance(block, Single):
            found += [[layer] for layer in block.layers]
        elif kind == "visual":
            apart = block.apart if isinstance(block, CrossAttention) else block
            assert isinstance(apart, Apart)  # noqa: S101  # there is no other kind of block
            found += [[layer] for layer in apart.visual]
    return found


@torch.no_grad()
def _put(
    blocks: Sequence[Sequence[nn.TransformerEncoderLayer]],
    states: Sequence[Mapping[str, Tensor]],
    names: Mapping[str, str],
    source: str,
    *,
    norm_eps: float,
) -> None:
    if len(blocks) > len(states):
        raise ConfigError(f"{source} has {len(states)} layers, and the model has {len(blocks)} blocks")
    for block, state in zip(blocks, states[len(states) - len(blocks) :], strict=True):
        own = {
            f"self_attn.in_proj_{part}": torch.cat([state[f"{names[k]}.{part}"] for k in ("query", "key", "value")])
            for part in ("weight", "bias")
        }
        for ours, theirs in names.items():
            if ours not in ("query", "key", "value"):
                own |= {f"{ours}.{part}": state[f"{theirs}.{part}"] for part in ("weight", "bias")}
        for layer in block:
            try:
                layer.load_state_dict(own)
            except RuntimeError as error:
                width, hidden = own["linear1.weight"].shape[::-1]
                raise ConfigError(
                    f"the layers of {source} are {width} wide with {hidden} hidden: give the model these sizes"
                ) from error
            layer.norm1.eps = layer.norm2.eps = norm_eps


def _visual(name: str, folder: Path | None) -> tuple[list[dict[str, Tensor]], float]:
    if name not in HUB:
        raise ConfigError(f"no visual layers are called {name!r}: one of {', '.join(HUB)}, or none")
    folder = weights.cache_dir() / name if folder is None else folder
    file = folder / "model.safetensors"
    if not file.is_file():
        raise WeightsError(f"{file} is missing; with the hub: hf download {HUB[name]} --local-dir {folder}")
    try:
        content = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file} can't be read ({error}): get it again") from error
    layers: dict[int, dict[str, Tensor]] = {}
    for key, value in content.items():
        _, found, rest = key.partition("encoder.layer.")
        if found:
            number, _, inner = rest.partition(".")
            layers.setdefault(int(number), {})[inner] = value
    if not layers:
        raise WeightsError(f"{file} holds no encoder.layer: it is not {HUB[name]}")
    return [layers[k] for k in sorted(layers)], 1e-12
