"""Trains what plans name, each run once: a run whose record is there is skipped, one that was stopped goes on.

Nothing here says how well a model does on the test split: that stands in the records, for the report.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from mer_agent.encoders import weights
from mer_agent.errors import DataError
from mer_agent.models.bench.plan import Plan
from mer_agent.models.data.corpora import load
from mer_agent.models.data.datasets import Corpus
from mer_agent.models.training import records
from mer_agent.models.training.recipe import Recipe
from mer_agent.models.training.train import train

UNFINISHED = "unfinished"
"""Folder in that of the records where the state of runs that were stopped lies."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a recipe, its data and a seed."""

    recipe: Recipe
    data: str
    seed: int

    @property
    def name(self) -> str:
        """Data set, model, what tells the recipe from others, and the seed: the record's file name."""
        return f"{self.data}-{self.recipe.model}-{digest(self.recipe)}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Done:
    """A finished task; `took_s` is None where its record was there already."""

    task: Task
    record: dict[str, Any]
    took_s: float | None


def digest(recipe: Recipe) -> str:
    """Gives eight hexadecimal digits of all that differs from a plain `Recipe`, so that a new field changes none."""
    plain = asdict(Recipe())
    own = {key: value for key, value in asdict(recipe).items() if value != plain[key]}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]


def is_of(record: dict[str, Any], recipe: Recipe) -> bool:
    """Tells whether a record was made by this recipe; a field that is younger than the record had its default."""
    known = {field.name for field in fields(Recipe)}
    plain = json.loads(json.dumps(asdict(Recipe())))
    if not set(record["recipe"]) <= known:
        return False
    return bool({**plain, **record["recipe"]} == json.loads(json.dumps(asdict(recipe))))


def tasks(plans: Sequence[Plan], seeds: int | None = None) -> list[Task]:
    """Gives the runs of all rows, each once, all rows' first seed before any row's second.

    Args:
        plans: the tables.
        seeds: how many seeds; each plan's own number if not given.
    """
    found: dict[str, Task] = {}
    for plan in plans:
        recipes = [(row.recipe, row.data) for row in plan.rows]
        for seed in range(seeds or plan.seeds):
            for recipe, data in recipes:
                task = Task(recipe, data, seed)
                found.setdefault(task.name, task)
    return list(found.values())


def bench(
    wanted: Sequence[Task],
    data_dir: Path,
    folder: Path,
    *,
    jobs: int = 1,
    again: bool = False,
    device: str = "cpu",
    progress: Callable[[Task, int, float], None] | None = None,
) -> Iterator[Done]:
    """Runs tasks and gives each when it is done; its record lies in `folder` then.

    Args:
        wanted: what to run.
        data_dir: the folder that holds a folder of each data set.
        folder: where records and unfinished runs lie.
        jobs: how many processes; each computes with one thread, so that figures don't depend on how many there are.
        again: train again what has a record.
        device: where to train.
        progress: called after each epoch with the task, the epoch and validation F1, with one job only.

    Raises:
        DataError: data are missing, or a record is damaged.
    """
    if jobs == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for task in wanted:
                yield run(task, data_dir, folder, again=again, device=device, progress=progress)
        finally:
            torch.set_num_threads(threads)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would share the parent's threads and locks
    with ProcessPoolExecutor(jobs, spawn, _start, (weights.cache_dir(),)) as pool:
        running = [pool.submit(run, task, data_dir, folder, again=again, device=device) for task in wanted]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            for future in running:
                future.cancel()


def _start(weights_dir: Path) -> None:
    torch.set_num_threads(1)
    weights.set_directory(weights_dir)


def run(
    task: Task,
    data_dir: Path,
    folder: Path,
    *,
    again: bool = False,
    device: str = "cpu",
    progress: Callable[[Task, int, float], None] | None = None,
) -> Done:
    """Runs one task, unless its record is there; see `bench`."""
    corpus, fingerprint = _corpus(task.data, data_dir, task.recipe.features, task.recipe.descriptors)
    path = folder / f"{task.name}.json"
    if path.is_file() and not again:
        record = records.read(path)
        if is_of(record, task.recipe) and record["fingerprint"] == fingerprint:
            return Done(task, record, None)
    whole = hashlib.sha256(json.dumps(asdict(task.recipe), sort_keys=True).encode()).hexdigest()[:8]
    state = folder / UNFINISHED / f"{task.name}-{whole}"  # an unfinished run goes on with the very recipe or not at all
    tell = (lambda epoch, loss, score: progress(task, epoch, score)) if progress else None
    record = train(task.recipe, corpus, task.seed, device=device, folder=state, progress=tell).record
    records.write(path, record)
    for left in state.glob("*"):
        left.unlink()
    state.rmdir()
    return Done(task, record, record["took_s"])


@lru_cache(maxsize=4)
def _corpus(data: str, data_dir: Path, features: tuple[str, ...], descriptors: tuple[str, ...]) -> tuple[Corpus, str]:
    """Gives a data set and its fingerprint, kept for the runs that follow."""
    corpus = load(data, data_dir, features, descriptors=descriptors)
    return corpus, records.fingerprint(corpus)


def read_all(folder: Path) -> list[dict[str, Any]]:
    """Gives all records of a folder, by file name.

    Raises:
        DataError: there is none, or one is damaged.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder} holds no records: run mer-agent bench accuracy first")
    return [records.read(path) for path in paths]
