"""Training: a model, a data set and a seed in; weights and a record of every epoch out.

The protocol is called `clean`: the validation split alone chooses hyperparameters, epoch and temperature, and the
test split is only measured. Every epoch's weights are an exponential moving average: that is judged and kept.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.errors import DataError
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import NO_LABEL, Batch, FeatureSpec
from mer_agent.models.datasets import Corpus
from mer_agent.models.metrics import scores
from mer_agent.models.records import record_of, write
from mer_agent.models.registry import MODELS
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


MIDDLE_OF_SCALE = 3.0
"""Of the ratings of valence, activation and dominance, which go from 1 to 5."""

MODALITY_OF: dict[str, Modality] = {"text": "text", "audio": "audio", "face": "visual"}


def feature_specs(batch: Batch, recipe: Recipe) -> list[FeatureSpec]:
    """Gives the specs of the recipe's features with the statistics of `batch`, which is the training split."""
    specs = []
    for name in recipe.features:
        rows = batch.features[name][batch.present[name]].double()
        mean = rows.nanmean(0)
        deviation = (rows - mean).square().nanmean(0).sqrt()
        names = recipe.descriptors if name.startswith("audio/prosody@") else ()
        ignored = recipe.ignored if names else ()
        modality = MODALITY_OF[name.partition("/")[0]]
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


def loss_of(output: Output, batch: Batch, recipe: Recipe) -> Tensor:
    """Gives the cross-entropy of the fused judgement plus, weighted, that of each modality's own."""
    smoothing, labels = recipe.label_smoothing, batch.labels
    loss = functional.cross_entropy(output.logits, labels, ignore_index=NO_LABEL, label_smoothing=smoothing)
    if output.modal_logits is not None and recipe.modal_weight:
        for modal in output.modal_logits.unbind(1):
            own = functional.cross_entropy(modal, labels, ignore_index=NO_LABEL, label_smoothing=smoothing)
            loss = loss + recipe.modal_weight * own
    if output.affect is not None and batch.affect is not None and recipe.affect_weight:
        error = (output.affect - (batch.affect - MIDDLE_OF_SCALE)).square()
        loss = loss + recipe.affect_weight * error.nanmean()
    return loss


@dataclass(slots=True)
class Run:
    """A finished training run: the model with its chosen weights, and a record that JSON can hold."""

    model: Any
    specs: list[FeatureSpec]
    record: dict[str, Any]


def train(
    recipe: Recipe,
    corpus: Corpus,
    seed: int,
    *,
    device: str = "cpu",
    folder: Path | None = None,
    progress: Callable[[int, float, float], None] | None = None,
) -> Run:
    """Trains one model. The same recipe, data, seed and number of threads give the same weights.

    Args:
        recipe: what to train and how.
        corpus: the data, loaded with the recipe's features.
        seed: of the initial weights, the order of dialogues, dropout and feature dropout.
        device: where to train.
        folder: where the state is kept after each epoch, so that a run that was stopped goes on, and the record.
        progress: called after each epoch with its number, training loss and validation F1.

    Raises:
        DataError: the split has no usable utterance, or the loss is no longer a number.
    """
    parts = {split: corpus.part(split).to(device) for split in ("train", "valid", "test")}
    training = parts["train"]
    torch.manual_seed(seed)
    specs = feature_specs(corpus.part("train"), recipe)
    model = MODELS[recipe.model](specs, len(corpus.labels), recipe.shape).to(device)
    state = _State(model, recipe, seed)
    resume = folder / f"{recipe.model}-{seed}.state.pt" if folder else None
    if resume and resume.is_file():
        state.load(torch.load(resume, weights_only=True, map_location=device), recipe)
    dialogues = torch.tensor(sorted(set(training.dialogue.tolist())))
    steps_per_epoch = math.ceil(len(dialogues) / recipe.batch_dialogues)
    started = time.monotonic()
    for epoch in range(len(state.epochs), recipe.epochs):
        model.train()
        total = 0.0
        torch.manual_seed(seed * 100_003 + epoch)  # so that a run that goes on is the run that never stopped
        state.generator.manual_seed(seed * 100_003 + epoch)
        order = dialogues[torch.randperm(len(dialogues), generator=state.generator)]
        for step, some in enumerate(torch.split(order, recipe.batch_dialogues)):
            state.set_rate(epoch + step / steps_per_epoch)
            batch = drop_features(training.dialogues(some.to(device)), specs, recipe, state.generator)
            loss = loss_of(model(batch), batch, recipe)
            state.step(loss)
            total += loss.item() / steps_per_epoch
        if not math.isfinite(total):
            raise DataError("the training loss is no longer a number: lower the learning rate")
        judged = state.judge(parts, corpus.labels)
        state.keep(epoch, total, judged)
        if resume:
            _save(resume, state.dump(recipe))
        if progress:
            progress(epoch, total, judged["valid"]["weighted_f1"])
    model.load_state_dict(state.best)
    record = record_of(model, parts, corpus, asdict(recipe), seed, state.epochs, time.monotonic() - started)
    if folder and resume:
        write(folder / f"{recipe.model}-{seed}.json", record)
        resume.unlink(missing_ok=True)
    return Run(model.cpu(), specs, record)


class _State:
    """What changes while a run goes on: weights, their average, the optimiser and the record so far."""

    def __init__(self, model: nn.Module, recipe: Recipe, seed: int) -> None:
        self.model, self.recipe = model, recipe
        decay: list[Tensor] = []
        plain: list[Tensor] = []
        for parameter in model.parameters():
            (decay if parameter.ndim > 1 else plain).append(parameter)
        groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        self.average = {key: value.detach().clone() for key, value in model.state_dict().items()}
        self.best = {key: value.clone() for key, value in self.average.items()}
        self.best_score = -1.0
        self.steps = 0
        self.epochs: list[dict[str, Any]] = []
        self.generator = torch.Generator().manual_seed(seed)

    def set_rate(self, epoch: float) -> None:
        """Warms up, then falls to zero along a cosine."""
        done = epoch / self.recipe.epochs
        warm = min(1.0, (done + 1e-3) / max(self.recipe.warmup, 1e-3))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def step(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        decay = min(self.recipe.average, self.steps / (self.steps + 10))  # early on, forget the random start quickly
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)

    @torch.no_grad()
    def judge(self, parts: dict[str, Batch], labels: tuple[str, ...]) -> dict[str, Any]:
        """Gives the averaged weights' scores on validation and test; only the former decides anything."""
        own = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        judged = {}
        for split in ("valid", "test"):
            batch = parts[split]
            judged[split] = scores(self.model(batch).logits.softmax(-1).cpu(), batch.labels.cpu(), labels)
        self.model.load_state_dict(own)
        return judged

    def keep(self, epoch: int, loss: float, judged: dict[str, Any]) -> None:
        score = judged["valid"]["weighted_f1"]
        brief = {split: {k: judged[split][k] for k in ("weighted_f1", "accuracy")} for split in judged}
        self.epochs.append({"epoch": epoch, "loss": loss, **brief})
        if self.recipe.pick == "last" or score > self.best_score:
            self.best_score = score
            self.best = {key: value.clone() for key, value in self.average.items()}

    def dump(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "recipe": json.dumps(asdict(recipe)),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "best": self.best,
            "best_score": self.best_score,
            "steps": self.steps,
            "epochs": self.epochs,
        }

    def load(self, saved: dict[str, Any], recipe: Recipe) -> None:
        if saved["recipe"] != json.dumps(asdict(recipe)):
            raise DataError("the folder holds an unfinished run of another recipe: give another folder or remove it")
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.average, self.best, self.best_score = saved["average"], saved["best"], saved["best_score"]
        self.steps, self.epochs = saved["steps"], saved["epochs"]


def _save(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
