"""Training of the text encoder, from the corpora to the shipped weights and their card.

`FOLDS` runs, each with a seed of its own and without another part of the training dialogues. What is shipped holds all
of them: their mean is the encoder, and each alone reads the dialogues that it did not learn from, for models that are
trained on top. Validation chose the recipe; the test splits are judged once, at the end, by the shipped encoder, each
utterance read as it is live.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mer_agent.encoders import shipped, weights
from mer_agent.encoders.text import load_model
from mer_agent.encoders.text_emotion import NAME, TextEmotionEncoder, parts
from mer_agent.encoders.turns import LOWER, TOKEN_BUDGET, Words
from mer_agent.models import corpora, text_data
from mer_agent.models.metrics import scores
from mer_agent.models.records import git_revision, pack
from mer_agent.models.text_data import LABELS, Talk
from mer_agent.models.text_features import FOLDS, encode
from mer_agent.models.text_run import RECIPE, TextRecipe, TextRun
from mer_agent.streams.types import Turn


def train_encoder(data_dir: Path, folder: Path, *, resume: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains the text encoder and writes `text.safetensors` and `text.json` into `folder`; gives the card's figures.

    Takes some 20 minutes of one core with bfloat16 in hardware, half of them for the runs; a run that was stopped goes
    on after its last epoch.

    Raises:
        DataError: a corpus is missing or malformed.
        WeightsError: the base has not been pulled.
    """
    if not resume:
        for path in (*folder.glob("text-*.state.pt"), *folder.glob("text-*.safetensors")):
            path.unlink()
    words = Words(load_model(weights.path("mpnet"), torch.device("cpu"))[1])
    talks = text_data.load(data_dir, words)
    state: dict[str, Tensor] = {}
    records = []
    for part in range(FOLDS):
        run = TextRun(RECIPE, talks, part, part, folder)
        run.train(say)
        state |= {f"{part}.{name}": value for name, value in run.result().items()}
        records.append({"seed": run.seed, "without": run.fold, "epochs": run.epochs})
    return publish(state, talks, RECIPE, records, folder, say)


def publish(
    state: dict[str, Tensor],
    talks: Sequence[Talk],
    recipe: TextRecipe,
    records: Sequence[dict[str, Any]],
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Judges the encoder as it is shipped, writes weights and card into `folder`, and gives the card's figures."""
    figures: dict[str, Any] = {"protocol": "clean"}

    def save() -> None:
        shipped.save(
            folder,
            NAME,
            state,
            feature=TextEmotionEncoder.feature,
            recipe={**asdict(recipe), "parts": FOLDS, "lower": LOWER, "token_budget": TOKEN_BUDGET},
            data="; ".join(corpora.DATA[name].data for name in recipe.corpora),
            terms="; ".join(f"{name}: {corpora.DATA[name].terms}" for name in recipe.corpora),
            figures=figures,
            record={"runs": list(records), "revision": git_revision()},
        )

    save()  # so that what is judged is what is shipped
    encoder = TextEmotionEncoder(trained=folder)
    each = [TextEmotionEncoder(trained=folder, without=part, precision="bfloat16") for part in range(FOLDS)]
    for corpus in recipe.corpora:
        figures[corpus] = {}
        for split in ("valid", "test"):
            whole = judge(encoder, judges(state, corpus, None), talks, corpus, split)
            single = [
                judge(one, judges(state, corpus, part), talks, corpus, split)["weighted_f1"]
                for part, one in enumerate(each)
            ]
            whole["one_part_weighted_f1"] = {
                "mean": statistics.mean(single),
                "deviation": statistics.stdev(single),
                "each": single,
            }
            figures[corpus][split] = whole
            figures[f"{corpus} {split}"] = whole["weighted_f1"]
            say(f"{corpus} {split}: weighted F1 {whole['weighted_f1']:.2f}, one part {statistics.mean(single):.2f}")
    save()
    return figures


def judges(state: dict[str, Tensor], corpus: str, part: int | None) -> tuple[Tensor, Tensor]:
    """Gives weight [C, 768] and bias [C] of what judges a corpus: one part's, or the mean of all."""
    own = parts(state, part)
    weight, bias = (
        torch.stack([one[f"judges.{corpus}.{key}"].float() for one in own]).mean(0) for key in ("weight", "bias")
    )
    return weight, bias


def judge(
    encoder: TextEmotionEncoder, by: tuple[Tensor, Tensor], talks: Sequence[Talk], corpus: str, split: str
) -> dict[str, Any]:
    """Gives the scores of one split, with its predictions as records have them."""
    vectors: list[Tensor] = []
    labels = []
    for talk in talks:
        if (talk.corpus, talk.split) == (corpus, split):
            rows = encode(encoder, [Turn(one.speaker, one.text) for one in talk.said])
            vectors += [torch.zeros(encoder.dimension) if row is None else row for row in rows]
            labels += [one.label for one in talk.said]
    probabilities = (torch.stack(vectors) @ by[0].T + by[1]).softmax(-1)
    truth = torch.tensor(labels)
    return scores(probabilities, truth, LABELS[corpus]) | {"predictions": pack(probabilities, truth)}
