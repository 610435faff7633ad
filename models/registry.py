"""Fusion models by name: ours, the peers that papers compare with, and the plain baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from mer_agent.errors import ConfigError, InputError
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import FeatureSpec
from mer_agent.models.ensemble import Ensemble
from mer_agent.models.joint_fusion import JointFusion
from mer_agent.models.peers.bc_lstm import BcLSTM
from mer_agent.models.peers.c_mfn import CMFN
from mer_agent.models.peers.ctnet import CTNet
from mer_agent.models.peers.dialogue_gcn import DialogueGCN
from mer_agent.models.peers.dialogue_rnn import DialogueRNN
from mer_agent.models.peers.fusions import FUSIONS, Fusion
from mer_agent.models.peers.gru import PastGRU
from mer_agent.models.peers.lr_gcn import LRGCN
from mer_agent.models.peers.multi_emo import MultiEMO
from mer_agent.models.peers.text_cnn import TextCNN

LiveModel = ARIIGCN | Ensemble | JointFusion
"""Models that follow a conversation utterance by utterance (`models.stream`)."""

Build = Callable[[Sequence[FeatureSpec], int, dict[str, Any]], nn.Module]


def _plain(model: Callable[..., nn.Module], **fixed: Any) -> Build:
    return lambda specs, classes, shape: model(specs, classes, **{**fixed, **shape})


def _ar_iigcn(specs: Sequence[FeatureSpec], classes: int, sizes: dict[str, Any]) -> nn.Module:
    shape = Shape(**sizes)
    many = shape.members > 1 or bool(shape.beside)
    return Ensemble(specs, classes, shape) if many else ARIIGCN(specs, classes, shape)


MODELS: dict[str, Build] = {
    "ar-iigcn": _ar_iigcn,
    "joint-fusion": _plain(JointFusion),
    "gru": _plain(PastGRU),
    "text-cnn": _plain(TextCNN),
    "bc-lstm": _plain(BcLSTM),
    "bc-lstm-attention": _plain(BcLSTM, attention=True),
    "dialogue-rnn": _plain(DialogueRNN),
    "dialogue-gcn": _plain(DialogueGCN),
    "ctnet": _plain(CTNet),
    "lr-gcn": _plain(LRGCN),
    "multi-emo": _plain(MultiEMO),
    "c-mfn": _plain(CMFN),
    **{f"fusion-{name}": _plain(Fusion, fusion=name) for name in FUSIONS},
}
"""Model name -> how to build it of its feature specs, its number of classes and its sizes."""

_GENERATIVE = ("ar-iigcn", "c-mfn")
ALWAYS_CAUSAL = ("gru", "c-mfn")
"""Models that look back only, whatever is asked."""
BOTH_WAYS = 10
"""How many later utterances a graph looks at when it may."""


def direction(model: str, *, bidirectional: bool) -> dict[str, Any]:
    """Gives the sizes that make a model look back only, or both ways.

    Raises:
        InputError: the model only ever looks back.
    """
    if model in ALWAYS_CAUSAL:
        if bidirectional:
            raise InputError(f"--bidirectional: {model} looks back only")
        return {}
    if model == "ar-iigcn":
        return {"future": BOTH_WAYS if bidirectional else 0}
    return {"causal": not bidirectional}


def with_generators(model: str, shape: dict[str, Any]) -> dict[str, Any]:
    """Gives the sizes with which a model has the generators that an adversarial stage trains.

    Raises:
        ConfigError: it can't have any.
    """
    if model not in _GENERATIVE:
        raise ConfigError(f"{model} has no generators for an adversarial stage: w3 must be 0")
    return {**shape, "generators": True}
