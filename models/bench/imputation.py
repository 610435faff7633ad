"""Is a generated vector better than none, where a modality is missing? Measured with modalities taken away.

Three ways to meet a missing modality, each trained with the same seeds:

    left out     no generators; a learned vector tells the graph that it is absent
    after        trained so with the adversarial stage beside it; generators stand in when the model is used
    throughout   generators stand in in training, too, where features are dropped

"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any, cast

from mer_agent.errors import DataError
from mer_agent.models.ar_iigcn import ARIIGCN
from mer_agent.models.batch import NO_LABEL, Batch
from mer_agent.models.data.datasets import Corpus
from mer_agent.models.training.evaluate import probabilities_by
from mer_agent.models.training.metrics import scores
from mer_agent.models.training.recipe import Recipe
from mer_agent.models.training.records import fingerprint, git_revision
from mer_agent.models.training.train import train

STAGE: dict[str, Any] = {"w3": 0.1, "adversary": {"paired": 1.0}}
"""The adversarial stage of those who impute; `paired`, because a space is not enough: it must be this utterance's."""

SPLITS = ("valid", "test")


def bench(
    recipe: Recipe, corpus: Corpus, seeds: Sequence[int], progress: Callable[[str, int], None] | None = None
) -> dict[str, Any]:
    """Gives a record of kind `imputation`: weighted F1 by way, subset of modalities that is left, and split.

    Args:
        recipe: of `ar-iigcn`, without the stage.
        corpus: the data, with two modalities or more.
        seeds: of the runs; each way is trained with all of them, but `after` and its being switched off share runs.
        progress: called with way and seed when one is measured.
    """
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for seed in seeds:
        for way, changes in (
            ("left out", {}),
            ("after", STAGE),
            ("throughout", {**STAGE, "shape": {**recipe.shape, "impute": True}}),
        ):
            model = cast(ARIIGCN, train(replace(recipe, **changes), corpus, seed).model)
            if way == "after":
                found.setdefault("after, switched off", []).append(_figures(model, corpus))
                model.shape = replace(model.shape, impute=True)
            found.setdefault(way, []).append(_figures(model, corpus))
            if progress:
                progress(way, seed)
    return {
        "kind": "imputation",
        "data": corpus.name,
        "fingerprint": fingerprint(corpus),
        "model": recipe.model,
        "recipe": asdict(recipe),
        "stage": STAGE,
        "protocol": "clean",
        "seeds": list(seeds),
        "revision": git_revision(),
        "weighted_f1": {way: _summary(runs) for way, runs in found.items()},
    }


def read_all(folder: Path) -> list[dict[str, Any]]:
    """Gives what `bench` recorded in a folder, a file a data set; nothing if there is no such folder.

    Raises:
        DataError: a file is not such a record.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if record["kind"] != "imputation":
                raise ValueError("it is of another kind")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"the record {path} is damaged ({error}): run mer-agent bench imputation again") from error
        found.append(record)
    return found


def figures(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Gives every figure of a record, as `report.figures` does."""
    fields = {key: record[key] for key in ("data", "model", "protocol", "seeds")}
    return [
        {
            "plan": "imputation",
            "row": way,
            **fields,
            "modalities": left.split("+"),
            "causal": not record["recipe"]["shape"].get("future"),
            "measure": f"{'valid_' * (split == 'valid')}weighted_f1",
            **value,
        }
        for way, splits in record["weighted_f1"].items()
        for split, subsets in splits.items()
        for left, value in subsets.items()
    ]


def table(record: Mapping[str, Any]) -> str:
    """Gives a record as a table in Markdown: what is left of the modalities down, the ways across."""
    found = record["weighted_f1"]
    lines = [f"| {record['data']}, n = {len(record['seeds'])} | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for left in next(iter(found.values()))["test"]:
        cells = []
        for splits in found.values():
            valid, test = (splits[split][left] for split in SPLITS)
            spread = "" if test["deviation"] is None else f" ± {test['deviation']:.2f}"
            cells.append(f"{valid['mean']:.2f}, {test['mean']:.2f}{spread}")
        lines.append(f"| {left} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figures(model: ARIIGCN, corpus: Corpus) -> dict[str, dict[str, float]]:
    """Gives weighted F1 by split and by what is left of the modalities."""
    model.eval()
    figures: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        batch = corpus.part(split)
        known = batch.labels != NO_LABEL
        subsets = [
            some for size in range(1, len(model.modalities) + 1) for some in combinations(model.modalities, size)
        ]
        figures[split] = {
            "+".join(left): scores(
                probabilities_by(model, _left(model, batch, left))[known], batch.labels[known], corpus.labels
            )["weighted_f1"]
            for left in subsets
        }
    return figures


def _left(model: ARIIGCN, batch: Batch, modalities: Sequence[str]) -> Batch:
    return batch.without([spec.id for spec in model.specs if spec.modality not in modalities])


def _summary(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        split: {
            left: {
                "mean": round(statistics.mean(run[split][left] for run in runs), 2),
                "deviation": round(statistics.stdev(run[split][left] for run in runs), 2) if len(runs) > 1 else None,
            }
            for left in runs[0][split]
        }
        for split in SPLITS
    }
