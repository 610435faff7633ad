"""Trains the face encoder on FER+ and keeps what comes of it: weights, card and record.

The targets are the raters' votes, not one label: a face that four of ten call sad is somewhat sad. Judged and kept is
a moving average of the weights; its epoch is chosen on validation, and the test faces are scored once, at the end.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.encoders import shipped, weights
from mer_agent.encoders.densenet import DenseNet, DenseShape, normalise
from mer_agent.encoders.face import FEATURE
from mer_agent.errors import DataError
from mer_agent.models.data import ferplus
from mer_agent.models.data.ferplus import EMOTIONS, Faces
from mer_agent.models.perception.face_augment import Augmentation, augment
from mer_agent.models.perception.judge_faces import live_crops, logits_of, robustness
from mer_agent.models.training import records
from mer_agent.models.training.metrics import confusion, fit_temperature, scores


@dataclass(frozen=True, slots=True)
class Cycle:
    """From the epoch `begin` on, the learning rate rises for `warmup` epochs to `peak`, then falls to 0 (a cosine).

    Source of the restarts: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts".
    """

    begin: int
    warmup: float
    peak: float


@dataclass(frozen=True, slots=True)
class FaceRecipe:
    """Everything that decides a run but the seed."""

    epochs: int = 25
    cycles: tuple[Cycle, ...] = (Cycle(0, 2.9, 0.12), Cycle(15, 0.5, 0.06))
    sides: tuple[tuple[int, int], ...] = ((0, 48), (3, 36), (11, 48))
    """From which epoch on training faces have how many pixels a side: the middle of the run costs half."""
    batch: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    average: float = 0.998
    """Decay of the moving average of the weights, per step."""
    shape: DenseShape = field(default_factory=DenseShape)
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(slots=True)
class FaceRun:
    """A finished run: the network with its chosen weights, and a record that JSON can hold."""

    network: DenseNet
    record: dict[str, Any]


DATA = "FER+ votes (MIT) on the faces of FER2013 (research)"
TERMS = "research: the faces of FER2013 were gathered from web searches, for research"

Progress = Callable[[int, float, float], None]
"""Called after each epoch with its number, training loss and accuracy on validation."""


def train(
    faces: dict[str, Faces],
    recipe: FaceRecipe,
    seed: int = 0,
    *,
    folder: Path | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> FaceRun:
    """Trains one network.

    Args:
        faces: the splits, as `ferplus.load` gives them.
        recipe: what to train and how.
        seed: of the first weights, the order of faces and their augmentation.
        folder: where the state is kept after each epoch.
        resume: go on from the state in `folder`, if there is one, instead of from the start.
        progress: see `Progress`.

    Raises:
        DataError: the state in `folder` is of another recipe, or the loss is no longer a number.
    """
    torch.manual_seed(seed)
    state = _State(DenseNet(len(EMOTIONS), recipe.shape), recipe)
    kept = folder / f"face-{seed}.state.pt" if folder else None
    if kept and resume and kept.is_file():
        state.load(torch.load(kept, weights_only=True))
    generator = torch.Generator()
    training = faces["train"]
    for epoch in range(len(state.epochs), recipe.epochs):
        started = time.monotonic()
        torch.manual_seed(seed * 100_003 + epoch)  # so that a run that goes on is the run that never stopped
        generator.manual_seed(seed * 100_003 + epoch)
        state.network.train()
        side = next(side for begin, side in reversed(recipe.sides) if epoch >= begin)
        batches = torch.split(torch.randperm(len(training), generator=generator), recipe.batch)
        total = 0.0
        for step, rows in enumerate(batches):
            state.set_rate(epoch + step / len(batches))
            seen = augment(training.images[rows], recipe.augmentation, generator, side)
            total += state.step(seen, training.votes[rows]) * len(rows) / len(training)
        if not math.isfinite(total):
            raise DataError("the training loss is no longer a number: lower the learning rate")
        state.judge(epoch, total, faces["valid"], time.monotonic() - started)
        if kept:
            _save(kept, state.dump())
        if progress:
            progress(epoch, total, state.epochs[-1]["valid"]["accuracy"])
    state.network.load_state_dict({key: _as_shipped(value) for key, value in state.best.items()})
    return FaceRun(state.network.eval(), _record(state, faces, recipe, seed))


def train_encoder(
    data_dir: Path, folder: Path, *, resume: bool, say: Callable[[str], None], recipe: FaceRecipe | None = None
) -> dict[str, Any]:
    """Trains the face encoder and writes face.safetensors and face.json into `folder`; gives its figures.

    Args:
        data_dir: the folder with faces/ferplus.parquet.
        folder: where the result and the state of an unfinished run are kept.
        resume: go on from the state in `folder`, if there is one.
        say: takes a line of progress.
        recipe: another one than the default.

    Raises:
        DataError: the faces are missing, or the state is of another recipe.
        WeightsError: the face detector, with which the result is judged, is not pulled.
    """
    recipe, detector = recipe or FaceRecipe(), weights.path("yunet")
    say("Reading the faces ...")
    faces = ferplus.load(data_dir / "faces" / "ferplus.parquet")

    def progress(epoch: int, loss: float, accuracy: float) -> None:
        say(f"epoch {epoch + 1:3}/{recipe.epochs}  loss {loss:.4f}  validation accuracy {accuracy:.2f}")

    run = train(faces, recipe, folder=folder, resume=resume, progress=progress)
    figures = {split: run.record.pop(split) for split in ("valid", "test")}
    say("Judging it on damaged faces and live crops ...")
    beyond = {
        "valid_damaged": robustness(run.network, faces["valid"]),
        "valid_live_crops": live_crops(run.network, faces["valid"], detector),
    }
    shipped.save(
        folder,
        "face",
        {key: value.half() if value.ndim > 1 else value for key, value in run.network.state_dict().items()},
        feature=FEATURE,
        recipe={
            "network": asdict(recipe.shape),
            "emotions": EMOTIONS,
            "temperature": run.record["temperature"],
        },
        data=DATA,
        terms=TERMS,
        figures={"protocol": run.record["protocol"], **figures, **beyond},
        record=run.record,
    )
    return {f"{split} {key}": figures[split][key] for split in figures for key in ("accuracy", "macro_f1", "ece", "n")}


def _as_shipped(value: Tensor) -> Tensor:
    """What is left of weights in the shipped file: half precision, but for biases and statistics."""
    return value.half().float() if value.ndim > 1 else value


class _State:
    """What changes while a run goes on: weights, their average, the optimiser and the record so far."""

    def __init__(self, network: DenseNet, recipe: FaceRecipe) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        decay: list[Tensor] = []
        plain: list[Tensor] = []
        for parameter in network.parameters():
            (decay if parameter.ndim > 1 else plain).append(parameter)
        groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=True)
        self.average = {key: value.detach().clone() for key, value in network.state_dict().items()}
        self.best = {key: value.clone() for key, value in self.average.items()}
        self.best_score = -1.0
        self.steps = 0
        self.epochs: list[dict[str, Any]] = []

    def set_rate(self, at: float) -> None:
        """Sets the rate of a moment, in epochs from the start of the run."""
        cycles = self.recipe.cycles
        now = max(n for n, cycle in enumerate(cycles) if cycle.begin <= at)
        end = cycles[now + 1].begin if now + 1 < len(cycles) else self.recipe.epochs
        begin, warmup, peak = cycles[now].begin, cycles[now].warmup, cycles[now].peak
        done = at - begin
        fallen = (done - warmup) / (end - begin - warmup)
        share = done / warmup if done < warmup else 0.5 * (1 + math.cos(math.pi * fallen))
        for group in self.optimiser.param_groups:
            group["lr"] = peak * max(share, 1e-3)

    def step(self, grey: Tensor, votes: Tensor) -> float:
        """Takes one step and gives its loss."""
        seen = normalise(grey).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(seen)
        loss = functional.cross_entropy(logits.float(), votes)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        decay = min(self.recipe.average, self.steps / (self.steps + 10))  # early on, forget the random start quickly
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)
        return loss.item()

    def judge(self, epoch: int, loss: float, valid: Faces, took_s: float) -> None:
        """Scores the averaged weights on validation and keeps them if they are the best so far."""
        own = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        logits = logits_of(self.network, valid.images)
        self.network.load_state_dict(own)
        found = scores(logits.softmax(-1), valid.votes.argmax(1), EMOTIONS)
        brief = {key: round(found[key], 3) for key in ("accuracy", "macro_f1")}
        brief["loss"] = round(functional.cross_entropy(logits, valid.votes).item(), 4)
        self.epochs.append({"epoch": epoch, "loss": round(loss, 4), "took_s": round(took_s), "valid": brief})
        if found["accuracy"] > self.best_score:
            self.best_score = found["accuracy"]
            self.best = {key: value.clone() for key, value in self.average.items()}

    def dump(self) -> dict[str, Any]:
        return {
            "recipe": json.dumps(asdict(self.recipe)),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "best": self.best,
            "best_score": self.best_score,
            "steps": self.steps,
            "epochs": self.epochs,
        }

    def load(self, saved: dict[str, Any]) -> None:
        if saved["recipe"] != json.dumps(asdict(self.recipe)):
            raise DataError("the folder holds an unfinished run of another recipe: give another folder or remove it")
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.average, self.best, self.best_score = saved["average"], saved["best"], saved["best_score"]
        self.steps, self.epochs = saved["steps"], saved["epochs"]


def _save(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _record(state: _State, faces: dict[str, Faces], recipe: FaceRecipe, seed: int) -> dict[str, Any]:
    judged: dict[str, Any] = {}
    temperature = 1.0
    for split in ("valid", "test"):
        logits = logits_of(state.network, faces[split].images)
        labels = faces[split].votes.argmax(1)
        if split == "valid":
            temperature = fit_temperature(logits, labels)
        judged[split] = scores((logits / temperature).softmax(-1), labels, EMOTIONS)
        judged[split]["confusion"] = confusion(logits.argmax(-1), labels, len(EMOTIONS)).tolist()
    return {
        "format": records.FORMAT,
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "data": "ferplus",
        "faces": {split: len(part) for split, part in faces.items()},
        "labels": list(EMOTIONS),
        "protocol": "clean",
        "seed": seed,
        "revision": records.git_revision(),
        "parameters": sum(parameter.numel() for parameter in state.network.parameters()),
        "temperature": temperature,
        "took_s": sum(epoch["took_s"] for epoch in state.epochs),
        **judged,
        "epochs": state.epochs,
    }
