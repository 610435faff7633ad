"""What a training run is told: the recipe, and what it makes of the data before a model sees them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mer_agent.encoders.sequences import STEPS
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.streams.types import Modality


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run but the seed."""

    model: str = "ar-iigcn"
    features: tuple[str, ...] = ("text/mpnet@1", "audio/ge2e@1", "audio/prosody@1")
    descriptors: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """Descriptors that the model doesn't look at."""
    shape: dict[str, Any] = field(default_factory=dict)
    epochs: int = 60
    batch_dialogues: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    modal_weight: float = 0.3
    """Weight of each modality's own loss, which keeps one modality from letting another do all the work."""
    affect_weight: float = 0.0
    """Weight of the squared error of valence, activation and dominance, where the data rate them."""
    drop_modality: float = 0.1
    """How often a dialogue loses one modality altogether while training."""
    drop_utterance: float = 0.1
    """How often an utterance loses a feature while training."""
    average: float = 0.98
    """Decay of the moving average of the weights, per step."""
    warmup: float = 0.1
    pick: str = "best"
    """`best`: the epoch with the best validation F1; `last`: the last one."""
    balance: float = 0.0
    """Power of 1 / frequency by which a class weighs in the loss: 0 all utterances alike, 1 all classes alike."""
    focal: float = 0.0
    """Exponent of the focal loss (Lin et al. 2017), by which utterances that are judged well weigh less."""
    w1: float = 0.0
    """Weight of ICCL."""
    w2: float = 0.0
    """Weight of IMCL."""
    w3: float = 0.0
    """Weight of the adversarial stage's loss of the generators, which the model learns together with its own."""
    scl: float = 0.0
    """Weight of the supervised contrastive loss, over an utterance's vectors in all modalities."""
    sccl: float = 0.0
    """Weight of the cluster-level contrastive loss; its prototypes are the classes' mean ratings in training."""
    icl: float = 0.0
    """Weight of ICL, the contrastive loss of joint-vector fusion, over the same vectors."""
    contrast: dict[str, Any] = field(default_factory=dict)
    """Settings of ICCL and IMCL (`objectives.Contrast`) but for their weights."""
    adversary: dict[str, Any] = field(default_factory=dict)
    """Settings of the adversarial stage (`adversarial.Adversary`): form, sources, paired, hidden."""


MODALITY_OF: dict[str, Modality] = {"text": "text", "audio": "audio", "face": "visual", "visual": "visual"}


def feature_specs(batch: Batch, recipe: Recipe) -> list[FeatureSpec]:
    """Gives the specs of the recipe's features with the statistics of `batch`, which is the training split."""
    specs = []
    for name in recipe.features:
        modality = MODALITY_OF[name.partition("/")[0]]
        if name in STEPS:  # its steps are normalised one by one in the model
            specs.append(FeatureSpec(name, modality, batch.features[name].shape[1], steps=STEPS[name]))
            continue
        rows = batch.features[name][batch.present[name]].double()
        mean = rows.nanmean(0)
        deviation = (rows - mean).square().nanmean(0).sqrt()
        names = recipe.descriptors if name.startswith("audio/prosody@") else ()
        ignored = recipe.ignored if names else ()
        specs.append(FeatureSpec(name, modality, rows.shape[1], _brief(mean), _brief(deviation), names, ignored))
    return specs


def _brief(values: Tensor) -> tuple[float, ...]:
    """Six digits, so that the card's statistics are the very ones that the model was trained with."""
    return tuple(float(f"{value:.6g}") for value in values.tolist())


def drop_features(batch: Batch, specs: list[FeatureSpec], recipe: Recipe, generator: torch.Generator) -> Batch:
    """Gives the batch with modalities and features missing at random, so that any subset of them will do later."""
    device = batch.speakers.device
    modalities = sorted({spec.modality for spec in specs})
    many = int(batch.dialogue.max()) + 1
    victim = torch.randint(len(modalities), (many,), generator=generator)  # which one a dialogue may lose
    victim[torch.rand(many, generator=generator) >= recipe.drop_modality] = -1
    if len(modalities) == 1:
        victim[:] = -1
    present = {}
    for spec in specs:
        gone = (victim == modalities.index(spec.modality)).to(device)[batch.dialogue]
        gone = gone | (torch.rand(len(batch), generator=generator) < recipe.drop_utterance).to(device)
        present[spec.id] = batch.present[spec.id] & ~gone
    return replace(batch, present=present)
