"""Several seeds of one recipe, and what they leave behind: records, checkpoints and their mean."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mer_agent.encoders.prosody import DESCRIPTORS
from mer_agent.errors import InputError
from mer_agent.models.checkpoint import load as load_checkpoint
from mer_agent.models.checkpoint import save
from mer_agent.models.data.corpora import DATA, Source, load
from mer_agent.models.data.datasets import Corpus
from mer_agent.models.registry import MODELS, direction
from mer_agent.models.training.evaluate import judge
from mer_agent.models.training.recipe import Recipe
from mer_agent.models.training.train import Run, train

FEATURES = {
    "iemocap": ("text/mpnet-layers@1", "audio/ge2e@1", "audio/prosody@1"),
    "meld": ("text/mpnet-layers@1", "audio/prosody@1"),
    "mosi": ("text/mosi@1", "audio/mosi@1", "face/mosi@1"),
}
"""What our model reads of a data set. MELD's recordings are not at hand, so its voices have no embedding."""

SEQUENCES = {
    "meld": ("text/mpnet-tokens@1", "audio/prosody@1"),
    "mosi": FEATURES["mosi"][:2],  # words and sound are all that it can read
    **{f"acted-{fold}": ("text/mpnet-tokens@1", "audio/mel@1") for fold in range(5)},
}
"""What joint-fusion reads elsewhere than on IEMOCAP: only acted speech has recordings at hand, so only it has mel."""

RECIPES = {
    "ar-iigcn": Recipe(
        features=("text/mpnet-layers@1", "audio/ge2e@1", "audio/prosody@1"),
        descriptors=DESCRIPTORS,
        ignored=("intensity_db_mean",),  # it depends on the microphone's gain
        shape={"dimension": 128, "hidden": 128, "share": False},
        epochs=16,
        batch_dialogues=8,
        learning_rate=1e-3,
        affect_weight=0.5,
        pick="last",  # 12 dialogues are too few to choose an epoch by; the number of epochs was chosen as below
    ),
    "gru": Recipe(
        model="gru",
        descriptors=DESCRIPTORS,
        epochs=35,
        learning_rate=1e-3,
        weight_decay=1e-5,
        label_smoothing=0.0,
        modal_weight=0.0,
        drop_modality=0.0,
        drop_utterance=0.0,
        average=0.0,
    ),
}
"""The recipe of each model.

That of `ar-iigcn` was chosen by leaving out one of the sessions 1 to 4 after the other and training on the other three:
5,810 utterances of unseen speakers to choose by, without a look at Session 5, the test split. `gru` is the floor:
plain, nothing tuned. That of `joint-fusion` is small, for one thread of a CPU, and nothing in it was tuned either.
"""
# The peers are trained as the floor is, with nothing tuned either.
RECIPES |= {name: replace(RECIPES["gru"], model=name, epochs=30) for name in MODELS if name not in RECIPES}
RECIPES["joint-fusion"] = Recipe(
    model="joint-fusion",
    features=("text/mpnet-tokens@1", "audio/ge2e@1", "audio/prosody@1"),
    descriptors=DESCRIPTORS,
    ignored=("intensity_db_mean",),
    shape={"dimension": 128, "hidden": 256},
    epochs=10,
    batch_dialogues=4,
    learning_rate=1e-3,
    icl=0.1,
    pick="last",
)
RECIPES["text-cnn"] = replace(RECIPES["text-cnn"], features=("text/words@1", *FEATURES["iemocap"][1:]))

ELSEWHERE: dict[tuple[str, str], dict[str, Any]] = {
    # A dialogue has 10 utterances there, not 49: about as many of them make a batch.
    ("ar-iigcn", "meld"): {"batch_dialogues": 32, "affect_weight": 0.0},
    ("joint-fusion", "meld"): {"batch_dialogues": 16},
    # Each clip is a dialogue: as many in a batch as in the paper, and nothing that one could have felt before it.
    **{
        ("joint-fusion", f"acted-{fold}"): {
            "batch_dialogues": 32,
            "epochs": 12,
            "pick": "best",
            "shape": {"context": 0},
        }
        for fold in range(5)
    },
}
"""(model, data set) -> in what its recipe there differs from the one above, by what was chosen on that set."""


def recipe_for(model: str, data: str, *, bidirectional: bool = False) -> Recipe:
    """Gives the recipe by which a model is trained on a data set.

    For converted data the features are left empty: those that the folder brings are read.

    Raises:
        InputError: the model is unknown, or only ever looks back.
    """
    if model not in RECIPES:
        raise InputError(f"--model {model}: it is one of {', '.join(RECIPES)}")
    recipe = RECIPES[model]
    if data != "iemocap":
        features = (SEQUENCES if model == "joint-fusion" else FEATURES).get(data, ())
        if model == "text-cnn":
            features = tuple("text/words@1" if f.startswith("text/mpnet") else f for f in features)
        recipe = replace(recipe, features=features)
    if data == "mosi":
        recipe = replace(recipe, pick="last")  # the labels that it validates on are in its features
    if not any(feature.startswith("audio/prosody@") for feature in recipe.features) and recipe.features:
        recipe = replace(recipe, descriptors=(), ignored=())
    changes = dict(ELSEWHERE.get((model, data), {}))
    shape = {**recipe.shape, **changes.pop("shape", {}), **direction(model, bidirectional=bidirectional)}
    return replace(recipe, shape=shape, **changes)


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
    recipe = replace(recipe, features=tuple(corpus.batch.features))
    runs = []
    for seed in seeds:
        tell = (lambda *at, seed=seed: progress(seed, *at)) if progress else None
        run = train(recipe, corpus, seed, device=device, folder=folder, progress=tell)
        keep(run, folder, f"{recipe.model}-{seed}.checkpoint")
        runs.append(run)
    return runs


def keep(run: Run, folder: Path, name: str, figures: dict[str, Any] | None = None) -> Path:
    """Writes a run's model as the checkpoint `name`, with `figures` beside its own; gives the card's path."""
    record = run.record
    source = DATA.get(record["data"], Source(record["data"], "the terms of the data that it was converted from"))
    own = {split: {k: v for k, v in record[split].items() if k != "per_class"} for split in ("valid", "test")}
    return save(
        folder,
        run.model,
        name=name,
        model_name=record["recipe"]["model"],
        specs=run.specs,
        shape=asdict(run.model.shape) if hasattr(run.model, "shape") else run.shape,
        label_set=record["label_set"],
        labels=tuple(record["labels"]),
        data=source.data,
        terms=source.terms,
        figures={"protocol": record["protocol"], "this_run": own, **(figures or {})},
        training={key: record[key] for key in ("recipe", "seed", "revision")},
    )


def publish(runs: Sequence[Run], corpus: Corpus, folder: Path, name: str, floor: Sequence[Run] = ()) -> Path:
    """Writes the run that is best on validation as the checkpoint `name`; gives its card's path.

    The card has the mean over all runs, that of the floor's runs, and the test scores of this run by subset of
    modalities, kind of dialogue and class. Test scores choose nothing.
    """
    best = max(runs, key=lambda run: float(run.record["valid"]["weighted_f1"]))
    key = {1: "one_seed", 5: "five_seeds"}.get(len(runs), "seeds")
    figures: dict[str, Any] = {key: summarise([run.record for run in runs])}
    if floor:
        figures["floor_past_only_gru"] = summarise([run.record for run in floor])
    path = keep(best, folder, name, figures)
    model, card = load_checkpoint(path)
    result = judge(model, card, corpus)
    figures["test"] = {each: result[each] for each in ("subsets", "kinds", "per_class", "confusion")}
    return keep(best, folder, name, figures)


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
