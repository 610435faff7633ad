"""`mer-agent bench text`: what the recipe of `text/mpnet-emotion@1` is worth, and what precision costs.

Runs of other recipes have the seeds, left-out parts and epochs of the shipped ones, so that they can be laid side by
side. Each is judged alone and by stretches, as the shipped runs are in their card (`text_run.TextRun.judge`).
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mer_agent.encoders import shipped, weights
from mer_agent.encoders.text import load_model
from mer_agent.encoders.text_emotion import NAMES, WRITTEN, TextEmotionEncoder
from mer_agent.encoders.turns import Words
from mer_agent.models.data import text_data
from mer_agent.models.data.text_data import LABELS
from mer_agent.models.perception.text_run import WRITTEN as RECIPE
from mer_agent.models.perception.text_run import TextRecipe, TextRun
from mer_agent.models.perception.train_text import called, judges
from mer_agent.models.training.metrics import scores
from mer_agent.streams.types import Turn


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe beside the shipped one."""

    recipe: TextRecipe
    named: bool = False
    """Lines begin with the name of who says them."""


VARIANTS = {
    "MELD alone": Variant(replace(RECIPE, corpora=("meld",))),
    "MELD alone, speakers named": Variant(replace(RECIPE, corpora=("meld",)), named=True),
    "IEMOCAP alone": Variant(replace(RECIPE, corpora=("iemocap",))),
}
SHIPPED = "both corpora, speakers anonymous (shipped)"

INT8 = "int8"
"""Linear layers with weights of 8 bits for each row, by torch's dynamic quantisation."""
PRECISIONS = ("float32", "bfloat16", INT8)


def bench(data_dir: Path, folder: Path, seeds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Gives what `variants` and `precisions` do, and as `ratio` the cost of bfloat16 to that of float32."""
    found = precisions(data_dir, say)
    ratio = found["bfloat16"]["ms"] / found["float32"]["ms"]
    return {"variants": variants(data_dir, folder, seeds, say), "precisions": found, "ratio": ratio}


def variants(data_dir: Path, folder: Path, seeds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains each variant, going on where an earlier call stopped.

    Args:
        data_dir: the folder of all data sets.
        folder: where the runs' states are kept.
        seeds: how many runs of each, at most as many as are shipped.
        say: takes a line of progress.

    Returns:
        Variant -> corpus -> `valid` and `test`, weighted F1 in percent of each run with mean and deviation.

    Raises:
        DataError: a corpus is missing or malformed, or a state is of another recipe.
        WeightsError: the base has not been pulled.
    """
    runs = shipped.read_card(NAMES[WRITTEN]).record["runs"][:seeds]
    found = {
        SHIPPED: {
            corpus: {
                "valid": _several([run["epochs"][-1]["valid"][corpus] for run in runs]),
                "test": _several([run["test"][corpus] for run in runs]),
            }
            for corpus in RECIPE.corpora
        }
    }
    words = Words(load_model(weights.path("mpnet"), torch.device("cpu"))[1])
    talks = {named: text_data.load(data_dir, words, named=named) for named in (False, True)}
    judged: dict[str, dict[str, dict[str, list[float]]]] = {}
    for seed in range(len(runs)):  # each variant once before any has its second run
        for name, variant in VARIANTS.items():
            run = TextRun(variant.recipe, talks[variant.named], seed, seed, folder / _folder(name))
            run.train(say)
            for corpus in variant.recipe.corpora:
                of = judged.setdefault(name, {}).setdefault(corpus, {"valid": [], "test": []})
                of["valid"].append(run.epochs[-1]["valid"][corpus])
                of["test"].append(run.judge(corpus, "test"))
    for name, by_corpus in judged.items():
        found[name] = {
            corpus: {split: _several(scored) for split, scored in of.items()} for corpus, of in by_corpus.items()
        }
    return found


def _folder(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "-")


def _several(scored: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(scored) if len(scored) > 1 else None
    return {"mean": statistics.mean(scored), "deviation": deviation, "each": [round(one, 2) for one in scored]}


def precisions(data_dir: Path, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Judges the shipped encoder on both validation splits in each precision, one torch thread, on the CPU.

    Returns:
        Precision -> `weighted_f1` (corpus -> percent), `changed` (share of utterances that float32 calls something
        else, percent) and `ms`, the median of CPU time for one utterance with six past turns.

    Raises:
        DataError: a corpus is missing or malformed.
        WeightsError: the base has not been pulled.
    """
    state, _ = shipped.load(NAMES[WRITTEN])
    words = Words(load_model(weights.path("mpnet"), torch.device("cpu"))[1])
    talks = [talk for talk in text_data.load(data_dir, words) if talk.split == "valid"]
    found: dict[str, dict[str, Any]] = {}
    exact: dict[str, Tensor] = {}
    for precision in PRECISIONS:
        encoder = _encoder(precision)
        found[precision] = {"weighted_f1": {}, "ms": round(_cost_ms(encoder), 1)}
        changed = []
        for corpus in RECIPE.corpora:
            probabilities, truth = called(encoder, judges(state, corpus), talks, corpus, "valid")
            found[precision]["weighted_f1"][corpus] = scores(probabilities, truth, LABELS[corpus])["weighted_f1"]
            labels = probabilities.argmax(-1)
            changed.append(labels != exact.setdefault(corpus, labels))
        found[precision]["changed"] = 100 * float(torch.cat(changed).float().mean())
        say(f"{precision}: {found[precision]}")
    return found


def _encoder(precision: str) -> TextEmotionEncoder:
    encoder = TextEmotionEncoder("cpu", precision="bfloat16" if precision == "bfloat16" else "float32", feature=WRITTEN)
    if precision == INT8:
        from torch.ao import quantization

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is to be replaced by a package of its own, in some later version
            encoder._network = quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
                encoder._network, {torch.nn.Linear: quantization.per_channel_dynamic_qconfig}
            )
    return encoder


def _cost_ms(encoder: TextEmotionEncoder) -> float:
    took = []
    for k in range(7):  # other words each time, so that nothing remembered can be given back
        said = [Turn(at % 2, f"Well, that is number {k} of what I {at} wanted to tell you") for at in range(7)]
        begun = time.thread_time()
        encoder.encode_dialogue(said)
        took.append(1000 * (time.thread_time() - begun))
    return statistics.median(took)
