"""What changes while a run goes on: weights, their average, the optimisers, and one step of learning.

With an adversarial stage a step has two turns (eq. 2-7 of AR-IIGCN): the discriminators learn to tell real vectors from
generated ones, then model and generators learn together, the discriminators being constants.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.errors import ConfigError, DataError
from mer_agent.models.adversarial import Adversary
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import NO_LABEL, Batch, FeatureSpec, presence
from mer_agent.models.objectives import Contrast, class_means, icl, sccl, scl, total
from mer_agent.models.training.metrics import scores
from mer_agent.models.training.recipe import Recipe

MIDDLE_OF_SCALE = 3.0
"""Of the ratings of valence, activation and dominance, which go from 1 to 5."""


def loss_of(output: Output, batch: Batch, recipe: Recipe, weights: Tensor | None = None) -> Tensor:
    """Gives the cross-entropy of the fused judgement plus, weighted, that of each modality's own.

    `weights` [C] are those of the classes (`class_weights`), all alike if not given.
    """
    loss = _emotion_loss(output.logits, batch.labels, recipe, weights)
    if output.modal_logits is not None and recipe.modal_weight:
        for modal in output.modal_logits.unbind(1):
            loss = loss + recipe.modal_weight * _emotion_loss(modal, batch.labels, recipe, weights)
    if output.affect is not None and batch.affect is not None and recipe.affect_weight:
        rated = batch.affect.isfinite()  # chosen beforehand: what is not a number would come back as a gradient
        if rated.any():
            error = (output.affect[rated] - (batch.affect[rated] - MIDDLE_OF_SCALE)).square()
            loss = loss + recipe.affect_weight * error.mean()
    return loss


def _emotion_loss(logits: Tensor, labels: Tensor, recipe: Recipe, weights: Tensor | None) -> Tensor:
    settings: dict[str, Any] = {"weight": weights, "label_smoothing": recipe.label_smoothing}
    if not recipe.focal:
        return functional.cross_entropy(logits, labels, ignore_index=NO_LABEL, **settings)
    logits, labels = logits[labels != NO_LABEL], labels[labels != NO_LABEL]
    hit = logits.softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1)
    each = functional.cross_entropy(logits, labels, reduction="none", **settings)
    return ((1 - hit) ** recipe.focal * each).mean()


def class_weights(labels: Tensor, classes: int, power: float) -> Tensor:
    """Gives weights [C] proportional to 1 / frequency^power, of mean 1 over the utterances; 0 for an absent class."""
    counts = torch.bincount(labels[labels != NO_LABEL], minlength=classes).double()
    weights = torch.where(counts > 0, counts.clamp_min(1) ** -power, 0.0)
    return (weights * counts.sum() / (weights * counts).sum()).float()


@torch.no_grad()
def judge(model: nn.Module, parts: dict[str, Batch], labels: tuple[str, ...]) -> dict[str, Any]:
    """Gives a model's scores on validation and test."""
    judged = {}
    for split in ("valid", "test"):
        batch = parts[split]
        known = (batch.labels != NO_LABEL).cpu()
        probabilities = model(batch).logits.softmax(-1).cpu()
        judged[split] = scores(probabilities[known], batch.labels.cpu()[known], labels)
    return judged


def brief(judged: dict[str, Any]) -> dict[str, Any]:
    """Gives what a record keeps of each epoch's scores."""
    return {split: {key: judged[split][key] for key in ("weighted_f1", "accuracy")} for split in judged}


class Learner:
    """A model in training, with everything that a stopped run needs to go on.

    Args:
        model: what learns, on its device.
        recipe: how.
        seed: of the order of dialogues and of what is dropped.
        specs: the features that the model reads.
        training: the training split, for what is counted in it beforehand.
        classes: how many there are.

    Raises:
        ConfigError: the recipe has a loss that the model has no part for, or one with unknown settings.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, seed: int, specs: Sequence[FeatureSpec], training: Batch, classes: int
    ) -> None:
        self.model, self.recipe, self.specs = model, recipe, specs
        decay: list[Tensor] = []
        plain: list[Tensor] = []
        for parameter in model.parameters():
            (decay if parameter.ndim > 1 else plain).append(parameter)
        groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
        self.weights = class_weights(training.labels, classes, recipe.balance) if recipe.balance else None
        self.stage: Adversary | None = None
        try:
            self.contrast = Contrast(recipe.w1, recipe.w2, **recipe.contrast)
            if recipe.w3:
                self._open_stage(model)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the recipe of {recipe.model}: {error}") from error
        self.prototypes: Tensor | None = None
        if recipe.sccl:
            if training.affect is None:
                raise ConfigError("sccl contrasts with the classes' mean ratings, and the data have no ratings")
            self.prototypes = class_means(training.affect - MIDDLE_OF_SCALE, training.labels, classes)
        self.average = {key: value.detach().clone() for key, value in model.state_dict().items()}
        self.best = {key: value.clone() for key, value in self.average.items()}
        self.best_score = -1.0
        self.steps = 0
        self.epochs: list[dict[str, Any]] = []
        self.generator = torch.Generator().manual_seed(seed)

    def _open_stage(self, model: nn.Module) -> None:
        generators: Any = getattr(model, "generators", None)
        if generators is None:
            raise ValueError("w3 needs a model with generators and two modalities or more")
        self.stage = Adversary(
            generators.modalities, generators.dimension, generators=generators, **self.recipe.adversary
        ).to(next(model.parameters()).device)
        self.judges = torch.optim.Adam(
            self.stage.discriminators.parameters(), lr=self.recipe.learning_rate, betas=(0.5, 0.999)
        )

    def set_rate(self, epoch: float) -> None:
        """Warms up, then falls to zero along a cosine."""
        done = epoch / self.recipe.epochs
        warm = min(1.0, (done + 1e-3) / max(self.recipe.warmup, 1e-3))
        rate = self.recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        optimisers = [self.optimiser] if self.stage is None else [self.optimiser, self.judges]
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate

    def learn(self, batch: Batch) -> float:
        """Takes one step on a batch, the discriminators' turn first; gives the loss."""
        output = self.model(batch)
        loss = self._contrasted(loss_of(output, batch, self.recipe, self.weights), output, batch)
        if self.stage is not None:
            present = presence(batch.present, self.specs)
            self.judges.zero_grad(set_to_none=True)
            self.stage.discriminator_loss(output.spaces, present).backward()  # type: ignore[no-untyped-call]
            self.judges.step()
            loss = loss + self.recipe.w3 * self.stage.generator_loss(output.spaces, present)
        self._step(loss)
        return loss.item()

    def _contrasted(self, loss: Tensor, output: Output, batch: Batch) -> Tensor:
        """Adds the contrastive losses that the recipe weighs."""
        recipe, states, labels = self.recipe, output.states, batch.labels
        if recipe.w1 or recipe.w2 or recipe.scl or recipe.icl:
            if states is None:
                raise ConfigError(f"{recipe.model} has no vector for each modality: w1, w2, scl and icl must be 0")
            loss = total(loss, states, labels, presence(batch.present, self.specs), self.contrast)
            if recipe.scl:
                loss = loss + recipe.scl * scl(states.flatten(1), labels)
            if recipe.icl:
                loss = loss + recipe.icl * icl(states.flatten(1), labels)
        if self.prototypes is not None:
            if output.affect is None:
                raise ConfigError(f"{recipe.model} doesn't rate valence, activation and dominance: sccl must be 0")
            loss = loss + recipe.sccl * sccl(output.affect, labels, self.prototypes)
        return loss

    def _step(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        decay = min(self.recipe.average, self.steps / (self.steps + 10))  # early on, forget the random start quickly
        own = self.model.state_dict()
        moving = [key for key, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[key] for key in moving], [own[key] for key in moving], 1 - decay)

    def judge(self, parts: dict[str, Batch], labels: tuple[str, ...]) -> dict[str, Any]:
        """Gives the averaged weights' scores on validation and test; only the former decides anything."""
        own = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        judged = judge(self.model.eval(), parts, labels)
        self.model.load_state_dict(own)
        return judged

    def keep(self, epoch: int, loss: float, judged: dict[str, Any]) -> None:
        """Writes down an epoch's scores; its weights become the run's if the recipe picks them."""
        score = judged["valid"]["weighted_f1"]
        self.epochs.append({"epoch": epoch, "loss": loss, **brief(judged)})
        if self.recipe.pick == "last" or score > self.best_score:
            self.best_score = score
            self.best = {key: value.clone() for key, value in self.average.items()}

    def dump(self) -> dict[str, Any]:
        """Gives everything that `load` needs to go on as if nothing had happened."""
        judges = {} if self.stage is None else self.stage.discriminators.state_dict()
        return {
            "recipe": json.dumps(asdict(self.recipe)),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "judges": judges,
            "judges_optimiser": {} if self.stage is None else self.judges.state_dict(),
            "average": self.average,
            "best": self.best,
            "best_score": self.best_score,
            "steps": self.steps,
            "epochs": self.epochs,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Goes on from what `dump` gave.

        Raises:
            DataError: it is of another recipe.
        """
        if saved["recipe"] != json.dumps(asdict(self.recipe)):
            raise DataError("the folder holds an unfinished run of another recipe: give another folder or remove it")
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        if self.stage is not None:
            self.stage.discriminators.load_state_dict(saved["judges"])
            self.judges.load_state_dict(saved["judges_optimiser"])
        self.average, self.best, self.best_score = saved["average"], saved["best"], saved["best_score"]
        self.steps, self.epochs = saved["steps"], saved["epochs"]
