"""One training run of the text encoder: an adapter on a frozen sentence encoder, and a linear judge for each corpus.

Both corpora train one adapter. A stretch of dialogue is one row of tokens in which no turn sees a later one
(`encoders.turns`), so all of its turns are judged in one pass.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from mer_agent.encoders import lora, turns, weights
from mer_agent.encoders.text import load_model
from mer_agent.errors import DataError
from mer_agent.models.data.text_data import LABELS, Stretch, Talk, batches, stretches
from mer_agent.models.training.learner import MIDDLE_OF_SCALE
from mer_agent.models.training.metrics import scores


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """Everything that decides a run but the seed and the fold."""

    corpora: tuple[str, ...] = ("iemocap", "meld")
    rank: int = 32
    scale: float = 1.0
    epochs: int = 3
    batch_tokens: int = 1024
    learning_rate: float = 1e-3
    judge_rate: float = 5e-4
    weight_decay: float = 1e-2
    warmup: float = 0.1
    dropout: float = 0.1
    """Of what an adapter or a judge reads."""
    lose: float = 0.1
    """How often a token is lost in training."""
    nobody: float = 0.1
    """How often a stretch doesn't say who speaks, since live that may be unknown."""
    smoothing: float = 0.0
    misheard: float = 0.0
    """How often a dialogue is read as a recogniser might have written it."""
    affect_weight: float = 0.5
    """Weight of the squared error of valence, activation and dominance, where they are rated."""


RECIPE = TextRecipe(epochs=5, misheard=0.4)
WRITTEN = TextRecipe()
"""What made `text/mpnet-emotion@1`."""

ADAPTED = (
    "attention.attn.q",
    "attention.attn.k",
    "attention.attn.v",
    "attention.attn.o",
    "output.dense",
)


class TextLearner(nn.Module):
    """The adapted network and its judges: one for each corpus and one for valence, activation and dominance."""

    def __init__(self, network: Any, recipe: TextRecipe) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        layers = range(turns.LOWER, network.config.num_hidden_layers)
        names = [f"encoder.layer.{layer}.{part}" for layer in layers for part in ADAPTED]
        lora.add(self.network, names, recipe.rank, recipe.scale, recipe.dropout)
        width = network.config.hidden_size
        self.speakers = nn.Parameter(0.02 * torch.randn(1 + turns.SPEAKERS, width))
        self.judges = nn.ModuleDict({corpus: nn.Linear(width, len(labels)) for corpus, labels in LABELS.items()})
        self.affect = nn.Linear(width, 3)
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, rows: Sequence[Sequence[Tensor]], places: Tensor) -> Tensor:
        """Gives the state of each turn, float32 [rows, turns, width]."""
        return turns.together(self.network, rows, self.speakers, places)

    def trained(self) -> dict[str, nn.Parameter]:
        """Gives what is trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


class TextRun:
    """One run: `train` goes on where the state on disk stops, `result` is what comes of it.

    Args:
        recipe: what to train.
        talks: the dialogues of all splits.
        seed: of weights, order, cuts and dropout.
        fold: this part of the training split is left out; -1 leaves nothing out.
        folder: where the state is kept.
    """

    def __init__(self, recipe: TextRecipe, talks: Sequence[Talk], seed: int, fold: int, folder: Path) -> None:
        self.recipe, self.seed, self.fold = recipe, seed, fold
        self.talks = [talk for talk in talks if talk.corpus in recipe.corpora]
        self.name = f"text-{seed}" + (f"-without-{fold}" if fold >= 0 else "")
        self.state = folder / f"{self.name}.state.pt"
        torch.manual_seed(
            0
        )  # every run starts from the same adapters and judges, so that their features are comparable
        network, _, self.pad = load_model(weights.path("mpnet"), torch.device("cpu"))
        self.learner = TextLearner(network.to(torch.bfloat16), recipe)
        self.lower = self._lower(folder / "text-lower.safetensors", talks)
        judge = [p for name, p in self.learner.trained().items() if not name.startswith("network.")]
        low = [p for name, p in self.learner.trained().items() if name.startswith("network.")]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": low, "lr": recipe.learning_rate, "base": recipe.learning_rate},
                {"params": judge, "lr": recipe.judge_rate, "base": recipe.judge_rate},
            ],
            weight_decay=recipe.weight_decay,
        )
        self.epochs: list[dict[str, Any]] = []
        if self.state.is_file():
            saved = torch.load(self.state, weights_only=True)
            if saved["recipe"] != json.dumps(asdict(recipe)):
                raise DataError(f"{self.state} is of another recipe: give another folder or remove it")
            self.learner.load_state_dict(saved["trained"], strict=False)
            self.optimiser.load_state_dict(saved["optimiser"])
            self.epochs = saved["epochs"]

    def train(self, progress: Callable[[str], None] = print) -> None:
        """Trains the epochs that are left; the state is kept after each."""
        own = [talk for talk in self.talks if talk.split == "train" and talk.fold != self.fold]
        for epoch in range(len(self.epochs), self.recipe.epochs):
            begun = time.monotonic()
            rng = random.Random(f"{self.seed}/{epoch}")  # noqa: S311  # an order, not a secret
            torch.manual_seed(self.seed * 1009 + epoch)
            read = [self._heard(talk, rng) for talk in own]
            groups = batches([piece for talk in read for piece in stretches(talk, rng)], self.recipe.batch_tokens)
            rng.shuffle(groups)
            self.learner.train()
            total = 0.0
            for step, group in enumerate(groups):
                self._set_rate((epoch + step / len(groups)) / self.recipe.epochs)
                loss = self._loss(group, rng)
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.learner.trained().values(), 1.0)
                self.optimiser.step()
                total += loss.item() / len(groups)
                if step % 40 == 0:
                    mean = total * len(groups) / (step + 1)
                    progress(f"{self.name} epoch {epoch} step {step}/{len(groups)} loss {mean:.3f}")
            if not math.isfinite(total):
                raise DataError("the training loss is no longer a number: lower the learning rate")
            kept: dict[str, Any] = {
                "epoch": epoch,
                "loss": round(total, 4),
                "took_s": round(time.monotonic() - begun, 1),
            }
            for split in ("valid", "train") if self.fold >= 0 else ("valid",):
                judged = {corpus: round(self.judge(corpus, split), 2) for corpus in self.recipe.corpora}
                kept["left_out" if split == "train" else split] = judged
            self.epochs.append(kept)
            progress(json.dumps({"run": self.name, **self.epochs[-1]}))
            self._save()

    def _heard(self, talk: Talk, rng: random.Random) -> Talk:
        if not self.recipe.misheard or rng.random() >= self.recipe.misheard:
            return talk
        return replace(talk, said=talk.misheard)

    def _set_rate(self, done: float) -> None:
        warm = min(1.0, (done + 1e-3) / self.recipe.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * warm * 0.5 * (1 + math.cos(math.pi * done))

    @torch.inference_mode()
    def _lower(self, path: Path, talks: Sequence[Talk]) -> list[Tensor]:
        """Gives the states of every utterance after the frozen layers, bfloat16; computed once and kept in `path`."""
        every = [one for talk in talks for one in talk.said]
        every += [one for talk in talks for one in talk.misheard]  # numbers go on there
        told = hashlib.sha256(json.dumps([one.tokens for one in every]).encode()).hexdigest()
        if path.is_file():
            with safe_open(path, "pt") as kept:
                if (kept.metadata() or {}).get("tokens") == told:
                    return list(kept.get_tensor("states").split([len(one.tokens) for one in every]))
        by_length = sorted(every, key=lambda one: len(one.tokens))
        found: list[Tensor] = [torch.empty(0)] * len(every)
        for at in range(0, len(by_length), 64):
            some = by_length[at : at + 64]
            states = turns.alone(self.learner.network, [one.tokens for one in some], self.pad)
            for one, own in zip(some, states, strict=True):
                found[one.number] = own.clone()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file({"states": torch.cat(found)}, partial, {"tokens": told})
        partial.replace(path)
        return found

    def _rows(self, group: Sequence[Stretch], rng: random.Random | None = None) -> tuple[list[list[Tensor]], Tensor]:
        rows, places = [], []
        for piece in group:
            quiet = rng is not None and rng.random() < self.recipe.nobody
            places.append(torch.tensor(turns.marks([None if quiet else one.speaker for one in piece.said])))
            states = [self.lower[one.number] for one in piece.said]
            if rng is not None:
                for at, own in enumerate(states):
                    stays = torch.rand(len(own)) >= self.recipe.lose
                    stays[0] = True  # or a turn could be gone altogether
                    states[at] = own[stays]
            rows.append(states)
        return rows, pad_sequence(places, batch_first=True, padding_value=-1)

    def _loss(self, group: Sequence[Stretch], rng: random.Random) -> Tensor:
        states = self.learner.dropout(self.learner(*self._rows(group, rng)))
        loss = torch.zeros(())
        many = 0
        for corpus, judge in self.learner.judges.items():
            at = [(b, t) for b, piece in enumerate(group) if piece.corpus == corpus for t in range(len(piece.said))]
            if not at:
                continue
            rows, places = torch.tensor(at).unbind(1)
            own = states[rows, places]
            said = [group[b].said[t] for b, t in at]
            labels = torch.tensor([one.label for one in said])
            loss = loss + functional.cross_entropy(
                judge(own), labels, reduction="sum", label_smoothing=self.recipe.smoothing
            )
            many += len(at)
            affect = torch.tensor([one.affect for one in said])
            if self.recipe.affect_weight and affect.isfinite().any():
                error = (self.learner.affect(own) - (affect - MIDDLE_OF_SCALE)).square().nanmean(-1)
                loss = loss + self.recipe.affect_weight * error.nansum()
        return loss / many

    def _save(self) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        partial = self.state.with_suffix(".partial")
        torch.save(
            {
                "recipe": json.dumps(asdict(self.recipe)),
                "trained": {name: p.detach() for name, p in self.learner.trained().items()},
                "optimiser": self.optimiser.state_dict(),
                "epochs": self.epochs,
            },
            partial,
        )
        partial.replace(self.state)

    @torch.inference_mode()
    def states(self, pieces: Sequence[Stretch]) -> Tensor:
        """Gives the states of all turns, piece after piece, float32 [N, width]."""
        self.learner.eval()
        found: dict[int, Tensor] = {}
        for group in batches(pieces, 4 * self.recipe.batch_tokens):
            for piece, row in zip(group, self.learner(*self._rows(group)), strict=True):
                found[id(piece)] = row[: len(piece.said)]
        return torch.cat([found[id(piece)] for piece in pieces])

    def judge(self, corpus: str, split: str) -> float:
        """Gives the weighted F1 on one split, of `train` what this run leaves out.

        The dialogues are read by stretches, so a turn has somewhat less past than live; six times cheaper.
        """
        wanted = [t for t in self.talks if t.corpus == corpus and t.split == split and t.fold in (-1, self.fold)]
        pieces = [piece for talk in wanted for piece in stretches(talk, random.Random(0))]  # noqa: S311
        labels = torch.tensor([one.label for piece in pieces for one in piece.said])
        with torch.inference_mode():
            logits: Tensor = cast("nn.Linear", self.learner.judges[corpus])(self.states(pieces))
        return float(scores(logits.softmax(-1), labels, LABELS[corpus])["weighted_f1"])

    def result(self) -> dict[str, Tensor]:
        """Gives what was trained, as it is shipped: half precision, `down` and `up` of each adapter, judges."""
        own = {name.removeprefix("network."): value for name, value in lora.state(self.learner).items()}
        own["speakers"] = self.learner.speakers.detach()
        for name, value in self.learner.named_parameters():
            if name.startswith(("judges.", "affect.")):
                own[name] = value.detach()
        return {name: value.half() for name, value in own.items()}
