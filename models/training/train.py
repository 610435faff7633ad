"""Training: a model, a data set and a seed in; weights and a record of every epoch out.

The protocol is called `clean`: the validation split alone chooses hyperparameters, epoch and temperature, and the
test split is only measured. Every epoch's weights are an exponential moving average: that is judged and kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mer_agent.errors import ConfigError, DataError
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.data.datasets import Corpus
from mer_agent.models.ensemble import Ensemble
from mer_agent.models.registry import MODELS, with_generators
from mer_agent.models.training.learner import Learner, brief, judge
from mer_agent.models.training.recipe import Recipe, drop_features, feature_specs
from mer_agent.models.training.records import record_of, write


@dataclass(slots=True)
class Run:
    """A finished training run: the model with its chosen weights, and a record that JSON can hold."""

    model: Any
    specs: list[FeatureSpec]
    shape: dict[str, Any]
    """The sizes that the model was built with."""
    record: dict[str, Any]


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Makes numbers below 1e-38 zeros meanwhile.

    Gradients that fade on their way back through a long dialogue become so small, and a processor takes many times as
    long for them: most of the backward pass of a recurrent model.
    """
    before = torch.tensor(1e-39).mul(1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@flushed_denormals()
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

    A shape with `members` makes an ensemble of so many (K): seed s has the members of the seeds s * K to s * K + K - 1.

    Args:
        recipe: what to train and how.
        corpus: the data, loaded with the recipe's features.
        seed: of the initial weights, the order of dialogues, dropout and feature dropout.
        device: where to train.
        folder: where the state is kept after each epoch, so that a run that was stopped goes on, and the record.
        progress: called after each epoch with its number, training loss and validation F1.

    Raises:
        DataError: the split has no usable utterance, or the loss is no longer a number.
        ConfigError: the recipe asks for what the model has no part for.
    """
    parts = {split: corpus.part(split).to(device) for split in ("train", "valid", "test")}
    specs = feature_specs(corpus.part("train"), recipe)
    shape = with_generators(recipe.model, recipe.shape) if recipe.w3 else recipe.shape
    members = shape.get("members", 1)
    if members > 1 and recipe.model != "ar-iigcn":
        raise ConfigError(f"{recipe.model} has no ensemble: members must be 1")
    alone = replace(recipe, shape={key: value for key, value in shape.items() if key != "members"})
    seeds = range(seed * members, (seed + 1) * members)
    resumes = [folder / f"{recipe.model}-{seed}.{own}.state.pt" if folder else None for own in range(members)]
    started = time.monotonic()
    states = [
        _learn(alone, specs, corpus, parts, own, device, resume, progress)
        for own, resume in zip(seeds, resumes, strict=True)
    ]
    if members == 1:
        epochs, model = states[0].epochs, states[0].model
    else:  # it is judged once, of the epochs that its members chose
        model = Ensemble.of([state.model for state in states]).to(device)  # type: ignore[misc]
        epochs = [{"epoch": recipe.epochs - 1, **brief(judge(model, parts, corpus.labels))}]
    record = record_of(model, parts, corpus, asdict(recipe), seed, epochs, time.monotonic() - started)
    if folder:
        write(folder / f"{recipe.model}-{seed}.json", record)
        for resume in resumes:
            resume.unlink(missing_ok=True)  # type: ignore[union-attr]
    return Run(model.cpu(), specs, shape, record)


def _learn(
    recipe: Recipe,
    specs: list[FeatureSpec],
    corpus: Corpus,
    parts: dict[str, Batch],
    seed: int,
    device: str,
    resume: Path | None,
    progress: Callable[[int, float, float], None] | None,
) -> Learner:
    """Trains one model, and leaves it with the weights that were chosen."""
    training = parts["train"]
    torch.manual_seed(seed)
    model = MODELS[recipe.model](specs, len(corpus.labels), recipe.shape).to(device)
    if recipe.model == "joint-fusion":
        model.start_from_pretrained()  # type: ignore[operator]
    state = Learner(model, recipe, seed, specs, training, len(corpus.labels))
    if resume and resume.is_file():
        state.load(torch.load(resume, weights_only=True, map_location=device))
    dialogues = torch.tensor(sorted(set(training.dialogue.tolist())))
    steps_per_epoch = math.ceil(len(dialogues) / recipe.batch_dialogues)
    for epoch in range(len(state.epochs), recipe.epochs):
        model.train()
        total = 0.0
        torch.manual_seed(seed * 100_003 + epoch)  # so that a run that goes on is the run that never stopped
        state.generator.manual_seed(seed * 100_003 + epoch)
        order = dialogues[torch.randperm(len(dialogues), generator=state.generator)]
        for step, some in enumerate(torch.split(order, recipe.batch_dialogues)):
            state.set_rate(epoch + step / steps_per_epoch)
            batch = drop_features(training.dialogues(some.to(device)), specs, recipe, state.generator)
            total += state.learn(batch) / steps_per_epoch
        if not math.isfinite(total):
            raise DataError("the training loss is no longer a number: lower the learning rate")
        judged = state.judge(parts, corpus.labels)
        state.keep(epoch, total, judged)
        if resume:
            _save(resume, state.dump())
        if progress:
            progress(epoch, total, judged["valid"]["weighted_f1"])
    model.load_state_dict(state.best)
    return state


def _save(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
