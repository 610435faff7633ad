"""Training of the live model, from the corpora to the shipped checkpoint: `mer-agent train --live`.

The protocol is `clean`: recipe and mix were chosen on MELD's validation split, on acted speakers and on faces that are
kept apart; the number of epochs is fixed, the moving average of the weights at the end is what counts, and the test
splits are judged once, by the finished model.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mer_agent.encoders.prosody import DESCRIPTORS
from mer_agent.errors import DataError
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import NO_LABEL, Batch, presence
from mer_agent.models.checkpoint import read_card, save
from mer_agent.models.data import corpora
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.ensemble import Ensemble
from mer_agent.models.live import live_figures
from mer_agent.models.live.beside import judge_of_voices, judge_of_words
from mer_agent.models.live.live_data import (
    FACE,
    GE2E,
    LOWER,
    PROSODY,
    TEXT,
    VOICE,
    Mix,
    Mixer,
    joined,
)
from mer_agent.models.live.live_parts import HELD_OUT, LiveData, load
from mer_agent.models.training import verdicts
from mer_agent.models.training.learner import Learner
from mer_agent.models.training.metrics import fit_sureness, fit_temperature
from mer_agent.models.training.recipe import Recipe, feature_specs
from mer_agent.models.training.records import git_revision
from mer_agent.streams.types import Modality

FEWEST = 200
"""Utterances from which a subset's temperature is fitted; with fewer, it is that of all."""

RECIPE = Recipe(
    features=(TEXT, LOWER, GE2E, VOICE, PROSODY, FACE),
    descriptors=DESCRIPTORS,
    ignored=("intensity_db_mean",),  # it depends on the microphone's gain
    shape={
        "dimension": 128,
        "hidden": 128,
        "share": False,
        "rates": True,
        "tempered": True,
        "dropout": 0.3,
        "input_dropout": 0.3,
    },
    epochs=12,
    learning_rate=1.5e-3,
    affect_weight=0.5,
    balance=0.3,
    pick="last",
)


SPEECH_AND_FACES = (
    "RAVDESS and EmoDB, acted speech: four fifths of the speakers; FER+ faces: four fifths of its validation split "
    "(the face encoder learned from its training split)"
)
STRANGE = (
    "the voice encoder, its judge and the certainty of a voice alone, nothing else: nEMO, ASED, TESS, URDU, TurEV-DB, "
    "EmoTale and CREMA-D, as far as they were there"
)
TERMS = (
    "research, non-commercial: IEMOCAP is licensed for research, MELD's annotations are under GPL-3 and its footage "
    "belongs to its owners, RAVDESS is CC BY-NC-SA 4.0, EmoDB free for research, FER2013's pictures are for research; "
    "what taught the voice encoder and its judge has terms of its own (its card)"
)


def train(data: LiveData, recipe: Recipe, mix: Mix, seed: int, say: Callable[[str], None] = lambda _: None) -> ARIIGCN:
    """Gives a trained and calibrated model. The same data, recipe, mix, seed and threads give the same weights.

    Its weights are numbers that half precision holds, so that a checkpoint of several takes half the room.

    Raises:
        DataError: the loss is no longer a number.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    pool = data.pool
    everything = joined([part for part in (pool.talks, pool.voices, pool.faces) if len(part)])
    specs = feature_specs(everything, recipe)
    model = ARIIGCN(specs, len(MELD_LABELS), Shape(**recipe.shape))
    learner = Learner(model, recipe, seed, specs, pool.talks, len(MELD_LABELS))
    mixer = Mixer(pool, mix, specs, random)
    short = (~pool.is_long).nonzero().flatten()
    short = short[torch.isin(short, pool.talks.dialogue)]
    long = pool.is_long.nonzero().flatten()
    long = long[torch.isin(long, pool.talks.dialogue)]
    steps = math.ceil(len(short) / mix.talks)
    for epoch in range(recipe.epochs):
        model.train()
        total = 0.0
        order = short[torch.randperm(len(short), generator=random)]
        for step, some in enumerate(order.split(mix.talks)):  # type: ignore[no-untyped-call]
            learner.set_rate(epoch + step / steps)
            also = long[torch.randperm(len(long), generator=random)[: mix.long_talks]]
            total += learner.learn(mixer.draw(torch.cat([some, also]))) / steps
        if not math.isfinite(total):
            raise DataError("the training loss is no longer a number: lower the learning rate")
        say(f"seed {seed}  epoch {epoch + 1:2}/{recipe.epochs}  loss {total:.3f}")
    model.load_state_dict({key: value.half().float() for key, value in learner.average.items()})
    model.eval().requires_grad_(False)
    calibrate(model, data.valid)
    return model


def calibrate(model: ARIIGCN | Ensemble, valid: dict[str, Batch]) -> None:
    """Fits the temperatures on validation: one for all, and how much each subset of the modalities differs from it.

    Subsets with words are judged by MELD's, as written and as recognised; others by all parts that have them, but for
    voices of unknown corpora. By these an ensemble learns how far it may trust a voice alone, since live every one is.
    """
    model.temperature.fill_(1.0)
    spoken = [valid[name] for name in ("meld", "misheard")]
    whole = [_logits(model, batch) for batch in spoken]
    model.temperature.fill_(fit_temperature(*map(torch.cat, zip(*whole, strict=True))))
    if model.temperatures is None:
        return
    model.temperatures.fill_(1.0)
    if isinstance(model, Ensemble) and model.doubt is not None:
        model.doubt.fill_(1.0)
    for size in range(1, len(model.modalities)):
        for subset in itertools.combinations(model.modalities, size):
            others = [batch for name, batch in valid.items() if name not in ("misheard", "unknown", "worded")]
            parts = spoken if "text" in subset else others
            rows = [_logits(model, batch, subset) for batch in parts]
            logits, labels = map(torch.cat, zip(*rows, strict=True))
            if len(labels) >= FEWEST:
                number = sum(2 ** model.modalities.index(modality) for modality in subset)
                model.temperatures[number] = fit_temperature(logits, labels)
    if isinstance(model, Ensemble) and model.doubt is not None:
        model.doubt.fill_(fit_sureness(*_logits(model, valid["unknown"])))


def _logits(model: ARIIGCN | Ensemble, batch: Batch, subset: Sequence[Modality] | None = None) -> tuple[Tensor, Tensor]:
    """Gives logits and labels of the labelled utterances: all, or those that have every modality of `subset`.

    The latter are shown nothing else.
    """
    known = batch.labels != NO_LABEL
    if subset is not None:
        batch = batch.without([spec.id for spec in model.specs if spec.modality not in subset])
        wanted = torch.tensor([modality in subset for modality in model.modalities])
        known &= (presence(batch.present, model.specs) == wanted).all(1)
    return model(batch).logits[known], batch.labels[known]


def train_all(
    data_dir: Path, folder: Path, encoders: Path, seeds: Sequence[int], say: Callable[[str], None]
) -> dict[str, Any]:
    """Trains the live model with several seeds and writes `live` (weights, card, verdicts, picture) into `folder`.

    What is shipped is all of them, as an ensemble; the card also has mean and deviation of the seeds by themselves.

    Args:
        data_dir: holds meld/, iemocap/, speech/ and faces/.
        folder: where the checkpoint goes.
        encoders: the folder of `mer-agent train-encoder voice`; its runs are made if they are not there.
        seeds: of the runs.
        say: takes a line of progress.

    Returns:
        The card's figures.

    Raises:
        DataError: a data set is missing or malformed, or a loss is no longer a number.
        WeightsError: an encoder's weights are not here.
    """
    recipe, mix = RECIPE, Mix()
    data = load(data_dir, encoders, recipe, mix, say)
    models = [train(data, recipe, mix, seed, say) for seed in seeds]
    each = {
        part: [live_figures.brief(live_figures.told(model, batches["meld"])) for model in models]
        for part, batches in (("valid", data.valid), ("test", data.test))
    }
    summary = {part: _summary(own) for part, own in each.items()}
    figures: dict[str, Any] = {"protocol": "clean", "meld_seeds": {"seeds": list(seeds), **summary}}
    words = judge_of_words(data.pool.talks.dialogues((~data.pool.is_long).nonzero().flatten()), recipe)
    whole = Ensemble.of(models, (words, judge_of_voices()), VOICE if "unknown" in data.valid else "")
    taught = [*(corpora.DATA[name].data for name in ("meld", "iemocap")), SPEECH_AND_FACES]
    if "unknown" in data.valid:
        taught.append(STRANGE)
    calibrate(whole, data.valid)
    figures |= live_figures.of(whole, data.valid, data.test)
    live_figures.draw_risk(figures, folder / "live-risk.png")
    card = save(
        folder,
        whole,
        name="live",
        label_set="meld7",
        labels=MELD_LABELS,
        data="; ".join(taught),
        terms=TERMS,
        figures=figures,
        training={
            "recipe": asdict(recipe),
            "mix": asdict(mix),
            "held_out_fold": HELD_OUT,
            "seeds": list(seeds),
            "revision": git_revision(),
        },
    )
    verdicts.write(card, read_card(card).sha256, verdicts.of(whole, data.valid))
    return figures


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("weighted_f1", "macro_f1", "ece"):
        own = [run[key] for run in runs]
        found[f"{key}_mean"] = round(statistics.mean(own), 2)
        found[f"{key}_deviation"] = round(statistics.stdev(own), 2) if len(own) > 1 else None
    return found
