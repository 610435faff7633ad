"""Trains the voice emotion encoder and says how good it is: folds without a common speaker, and across corpora.

There is no validation split: the recipe has a fixed number of epochs and the moving average of the weights at its end
is what counts, so that nothing is chosen on what is tested. One run for each fold, one without each corpus (tested on
that), and one on everything, which is what is shipped; its own figures are those of the others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.encoders import shipped
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder, VoiceNetwork, VoiceShape, recipe_of
from mer_agent.errors import DataError
from mer_agent.models.data import speech_data
from mer_agent.models.data.speech_data import CORPORA, FOLDS, FURTHER, LABELS, MISSING
from mer_agent.models.perception import speech_bank
from mer_agent.models.perception.speech_bank import Example
from mer_agent.models.training import records
from mer_agent.models.training.metrics import confusion, scores

TERMS: Mapping[str, str] = {
    "ravdess": "RAVDESS (CC BY-NC-SA 4.0)",
    "emodb": "EmoDB (free for research)",
    "nemo": "nEMO (CC BY-NC-SA 4.0)",
    "ased": "ASED (public, no terms stated)",
    "tess": "TESS (CC BY-NC-ND 4.0)",
    "urdu": "URDU (for research)",
    "turev": "TurEV-DB (CC BY-NC-ND 4.0)",
    "emotale": "EmoTale (public, no licence, asks to be cited)",
    "cremad": "CREMA-D (Open Database License)",
}
CONDITIONS: Mapping[str, int] = {"clean": 0, "distorted": 1, "brief": speech_bank.BRIEF}
"""Which copy of the clips a run is judged on."""


@dataclass(frozen=True, slots=True)
class VoiceRecipe:
    """Everything that decides a run but its seed and its data."""

    epochs: int = 16
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    average: float = 0.99
    """Decay of the moving average of the weights, per step."""
    clean: float = 0.4
    """Of the copies that are learned from and not brief, those without distortion."""
    brief: float = 0.2
    """Of the copies that are learned from, the brief ones."""
    shape: VoiceShape = field(default_factory=VoiceShape)


def train_encoder(data_dir: Path, folder: Path, *, resume: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Makes all runs, writes voice.safetensors and voice.json into `folder`, and gives the card's figures.

    A run that has ended is kept in `folder`; with `resume` it is not made again.

    Raises:
        DataError: a corpus is missing or malformed.
        WeightsError: `ge2e` or `whisper-base` has not been pulled.
    """
    recipe, seed, begun = VoiceRecipe(), 0, time.monotonic()
    examples, found = all_runs(data_dir, folder, recipe, seed, resume=resume, say=say)
    figures = figures_of(found)
    runs = {name: {key: run[key] for key in ("tested", "loss", "took_s")} for name, run in found.items()}
    own = _corpora(examples)
    counts = [sum(one.clip.corpus == corpus for one in examples) for corpus in own]
    shipped.save(
        folder,
        "voice",
        found["all"]["state"],
        feature=VoiceEmotionEncoder.feature,
        recipe=recipe_of(recipe.shape, LABELS),
        data=", ".join(f"{TERMS[corpus]}: {many:,} clips" for corpus, many in zip(own, counts, strict=True)),
        terms="non-commercial: " + ", ".join(TERMS[corpus] for corpus in own),
        figures=figures,
        record={
            "recipe": asdict(recipe),
            "seed": seed,
            "revision": records.git_revision(),
            "took_s": round(time.monotonic() - begun),
            "parameters": sum(value.numel() for value in found["all"]["state"].values()),
            "runs": runs,
        },
    )
    return figures


def all_runs(
    data_dir: Path,
    folder: Path,
    recipe: VoiceRecipe,
    seed: int,
    *,
    resume: bool,
    say: Callable[[str], None],
    names: Sequence[str] = (),
) -> tuple[list[Example], dict[str, dict[str, Any]]]:
    """Gives the examples and each run by name: `all`, `fold-0` ... and `without-CORPUS`; see `train_encoder`.

    `names` are the runs that are wanted, all if not given.
    """
    examples = examples_of(data_dir, folder, say)
    wanted = names or _splits(examples)
    return examples, {name: _kept(name, examples, recipe, seed, folder, resume, say) for name in wanted}


def examples_of(data_dir: Path, folder: Path, say: Callable[[str], None]) -> list[Example]:
    """Gives all clips and what is heard of them: of the two corpora that have to be there, and of further ones.

    Raises:
        DataError: a corpus is missing or malformed.
        WeightsError: `ge2e` or `whisper-base` has not been pulled.
    """
    speech = data_dir / "speech"
    there = speech_data.found(speech)
    for corpus, kept in FURTHER.items():
        if corpus not in there:
            say(f"no {speech / corpus}, so that nothing is learned from it ({kept})")
    groups = (CORPORA, *((corpus,) for corpus in there))
    return [one for group in groups for one in speech_bank.load(speech_data.load(speech, group), folder, say)]


def runs_beside_shipped(
    data_dir: Path, folder: Path, names: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Example], dict[str, VoiceNetwork]]:
    """Gives the examples, the shipped network as `all`, and by their names networks that know less than it.

    Those are made here where `folder` has none. On another processor they come out a little otherwise than those that
    were made beside the shipped one. That doesn't matter to who maps their numbers to where the shipped one has them
    (`live_speech.mapped`).

    Raises:
        DataError: a corpus is missing, or the shipped encoder was made by another recipe than this version has.
        WeightsError: the voice encoders' weights are not here.
    """
    recipe = VoiceRecipe()
    networks = {"all": shipped_network()}
    examples, runs = all_runs(data_dir, folder, recipe, 0, resume=True, say=say, names=names)
    for name, run in runs.items():
        networks[name] = VoiceNetwork(len(LABELS), recipe.shape)
        networks[name].load_state_dict(run["state"])
    return examples, networks


def shipped_network() -> VoiceNetwork:
    """Gives the network of the voice encoder that comes with the project.

    Raises:
        DataError: it was made by another recipe than this version has.
        WeightsError: it is missing or damaged.
    """
    recipe = VoiceRecipe()
    state, card = shipped.load("voice")
    if card.record["recipe"] != json.loads(json.dumps(asdict(recipe))):
        raise DataError("the shipped voice encoder has another recipe: make it anew, mer-agent train-encoder voice")
    network = VoiceNetwork(len(LABELS), recipe.shape)
    network.load_state_dict(state)
    return network


def _corpora(examples: Sequence[Example]) -> list[str]:
    return list(dict.fromkeys(one.clip.corpus for one in examples))


def _splits(examples: Sequence[Example]) -> dict[str, tuple[list[Example], list[Example]]]:
    """Gives the name of each run, what it learns from and what it is tested on."""
    splits = {}
    for fold in range(FOLDS):
        own = [one for one in examples if one.clip.fold == fold]
        splits[f"fold-{fold}"] = [one for one in examples if one.clip.fold != fold], own
    for corpus in _corpora(examples):
        own = [one for one in examples if one.clip.corpus == corpus]
        splits[f"without-{corpus}"] = [one for one in examples if one.clip.corpus != corpus], own
    splits["all"] = list(examples), []
    return splits


def _kept(
    name: str,
    examples: Sequence[Example],
    recipe: VoiceRecipe,
    seed: int,
    folder: Path,
    resume: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Gives a run: from the folder if it is there and wanted, else made now and kept."""
    path = folder / f"voice-{name}.pt"
    learned, tested = _splits(examples)[name]
    if resume and path.is_file():
        kept: dict[str, Any] = torch.load(path, weights_only=True)
        if kept["recipe"] != json.dumps(asdict(recipe)):
            raise DataError(f"{path} is a run of another recipe: give another folder or remove it")
        if kept["taught"] != _corpora(learned):
            raise DataError(f"{path} is a run of other corpora: give another folder or remove it")
        return kept
    begun = time.monotonic()
    network, loss = fit(learned, recipe, seed, lambda epoch, at: say(f"{name}  epoch {epoch + 1:2}  loss {at:.3f}"))
    judged = {condition: predict(network, tested, copy) for condition, copy in CONDITIONS.items()} if tested else {}
    run = {
        "recipe": json.dumps(asdict(recipe)),
        "state": network.state_dict(),
        "logits": judged,
        "labels": torch.tensor([one.clip.label for one in tested], dtype=torch.int64),
        "corpora": [one.clip.corpus for one in tested],
        "taught": _corpora(learned),
        "tested": len(tested),
        "loss": round(loss, 4),
        "took_s": round(time.monotonic() - begun),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(run, partial)
    partial.replace(path)
    return run


def fit(
    examples: Sequence[Example], recipe: VoiceRecipe, seed: int, progress: Callable[[int, float], None] | None = None
) -> tuple[VoiceNetwork, float]:
    """Trains a network; gives it with the averaged weights, and the last epoch's loss.

    Raises:
        DataError: the loss is no longer a number.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = VoiceNetwork(len(LABELS), recipe.shape)
    heard = _heard(examples)
    network.standardise(heard.flatten(0, 1))
    distorted = [(1 - recipe.clean) / speech_bank.COPIES] * speech_bank.COPIES
    odds = torch.tensor([*[(1 - recipe.brief) * share for share in (recipe.clean, *distorted)], recipe.brief])
    labels = torch.tensor([one.clip.label for one in examples])
    possible = torch.from_numpy(speech_data.possible([one.clip.corpus for one in examples]))
    weights = _weights(examples)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(examples) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, steps, pct_start=0.15)
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    total, step = 0.0, 0
    for epoch in range(recipe.epochs):
        network.train()
        total = 0.0
        for rows in torch.randperm(len(examples), generator=random).split(recipe.batch):  # type: ignore[no-untyped-call]
            copies = torch.multinomial(odds, len(rows), replacement=True, generator=random)
            logits = network(heard[rows, copies])
            loss = _loss(logits, labels[rows], possible[rows], weights[rows], recipe.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            step += 1
            total += loss.item() * len(rows) / len(examples)
            decay = min(recipe.average, step / (step + 10))  # early on, forget the random start quickly
            for key, value in network.state_dict().items():
                average[key] = value.lerp(average[key], decay)
        if not total < float("inf"):
            raise DataError("the training loss is no longer a number: lower the learning rate")
        if progress:
            progress(epoch, total)
    network.load_state_dict(average)
    return network.eval(), total


def _heard(examples: Sequence[Example]) -> Tensor:
    """Gives [N, KINDS, 1536]; a copy of which nothing can be heard is that of the clean recording."""
    heard = torch.stack([one.heard for one in examples])
    return torch.where(heard.isnan(), heard[:, :1], heard)


@torch.inference_mode()
def predict(network: VoiceNetwork, examples: Sequence[Example], copy: int = 0) -> Tensor:
    """Gives the logits [examples, labels] of one copy of each clip, in full precision, as the live encoder computes."""
    logits: Tensor = network.head(features(network, examples, copy))
    return logits


@torch.inference_mode()
def features(network: VoiceNetwork, examples: Sequence[Example], copy: int) -> Tensor:
    """Gives the network's features [examples, 100] of one copy of each clip."""
    network.eval()
    return network.features(_heard(examples)[:, copy])


def figures_of(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Gives unweighted average recall and weighted F1 of each corpus: mean and deviation over folds, and each of them.

    Folds in which a corpus has no speaker are left out.

    A clip is judged among the labels that its corpus has. `distorted` and `brief` are of the same clips (`CONDITIONS`).
    `unknown` is by the network that learned from the other corpora alone, among the labels that one of those has.
    """
    figures: dict[str, Any] = {}
    folds = {}
    for corpus in dict.fromkeys(corpus for run in found.values() for corpus in run["corpora"]):
        names = [label for label in LABELS if label not in MISSING[corpus]]
        without = found[f"without-{corpus}"]
        taught = {label for other in without["taught"] for label in LABELS if label not in MISSING[other]}
        for condition in CONDITIONS:
            runs = [found[f"fold-{fold}"] for fold in range(FOLDS)]
            judged = [_judge(run, corpus, names, condition) for run in runs if corpus in run["corpora"]]
            strange = _judge(without, corpus, [label for label in names if label in taught], condition)
            name = corpus if condition == "clean" else f"{corpus}_{condition}"
            for key in ("uar", "weighted_f1"):
                values = [one[key] for one in judged]
                figures[f"{name}_{key}"] = round(mean(values), 1)
                figures[f"{name}_{key}_deviation"] = round(pstdev(values), 1)
                figures[f"{name}_unknown_{key}"] = round(strange[key], 1)
            folds[name] = [{key: round(value, 1) for key, value in one.items()} for one in judged]
    figures["folds"] = folds
    figures["protocol"] = "5 folds without a common speaker, fixed epochs, one seed; unknown: the corpus left out"
    return figures


def _judge(run: Mapping[str, Any], corpus: str, names: Sequence[str], condition: str) -> dict[str, float]:
    columns = torch.tensor([LABELS.index(name) for name in names])
    place = torch.full((len(LABELS),), -1)
    place[columns] = torch.arange(len(names))
    labels = place[run["labels"]]
    rows = (labels >= 0) & torch.tensor([one == corpus for one in run["corpora"]])
    likely = run["logits"][condition][rows][:, columns].softmax(-1)
    table = confusion(likely.argmax(-1), labels[rows], len(names)).double()
    recall = table.diagonal() / table.sum(1).clamp_min(1)
    return {"uar": 100 * float(recall.mean()), "weighted_f1": scores(likely, labels[rows], names)["weighted_f1"]}


def _loss(logits: Tensor, labels: Tensor, possible: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Cross entropy over the labels that a clip's corpus has, with label smoothing."""
    log_likely = logits.masked_fill(~possible, float("-inf")).log_softmax(-1).masked_fill(~possible, 0.0)
    own = functional.nll_loss(log_likely, labels, reduction="none")
    even = -log_likely.sum(-1) / possible.sum(-1)
    return ((1 - smoothing) * own + smoothing * even).mul(weights).mean()


def _weights(examples: Sequence[Example]) -> Tensor:
    """Gives each clip's weight, 1 on average: rare labels of a corpus count more, by the root of their rarity."""
    keys = [(one.clip.corpus, one.clip.label) for one in examples]
    rarity = torch.tensor([keys.count(key) for key in keys], dtype=torch.float32).rsqrt()
    return rarity / rarity.mean()
