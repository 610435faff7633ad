"""Several seeds of one recipe, and what they leave behind: records, checkpoints and their mean."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mer_agent.models.ar_iigcn import ARIIGCN
from mer_agent.models.checkpoint import save
from mer_agent.models.datasets import DATA, load
from mer_agent.models.train import Recipe, Run, train


def train_seeds(
    recipe: Recipe,
    data: str,
    data_dir: Path,
    seeds: Sequence[int],
    folder: Path,
    *,
    device: str = "cpu",
    progress: Callable[[int, int, float, float], None] | None = None,
) -> list[Run]:
    """Trains the same recipe with several seeds; each run leaves its record and its checkpoint in `folder`.

    `progress` is called after each epoch with seed, epoch, training loss and validation F1. A run whose record is in
    the folder already is trained again; one that was stopped goes on.
    """
    corpus = load(data, data_dir, recipe.features, descriptors=recipe.descriptors)
    runs = []
    for seed in seeds:
        tell = (lambda *at, seed=seed: progress(seed, *at)) if progress else None
        run = train(recipe, corpus, seed, device=device, folder=folder, progress=tell)
        if isinstance(run.model, ARIIGCN):
            keep(run, folder, f"{recipe.model}-{seed}")
        runs.append(run)
    return runs


def keep(run: Run, folder: Path, name: str, figures: dict[str, Any] | None = None) -> Path:
    """Writes a run's model as the checkpoint `name`, with `figures` beside its own; gives the card's path."""
    record = run.record
    own = {split: {k: v for k, v in record[split].items() if k != "per_class"} for split in ("valid", "test")}
    return save(
        folder,
        run.model,
        name=name,
        label_set=record["label_set"],
        labels=tuple(record["labels"]),
        data=DATA[record["data"]].data,
        terms=DATA[record["data"]].terms,
        figures={"protocol": record["protocol"], "this_run": own, **(figures or {})},
        training={key: record[key] for key in ("recipe", "seed", "revision")},
    )


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gives mean, sample deviation and each run's weighted F1 over several seeds, on validation and test."""
    summary: dict[str, Any] = {"seeds": [record["seed"] for record in records]}
    for split in ("valid", "test"):
        each = [record[split]["weighted_f1"] for record in records]
        summary[split] = {
            "weighted_f1_mean": round(statistics.mean(each), 2),
            "weighted_f1_deviation": round(statistics.stdev(each), 2) if len(each) > 1 else None,
            "weighted_f1_each": [round(value, 2) for value in each],
        }
    return summary
