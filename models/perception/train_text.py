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
from mer_agent.encoders.place import fastest
from mer_agent.encoders.text import load_model
from mer_agent.encoders.text_emotion import HEARD, NAMES, TextEmotionEncoder, parts
from mer_agent.encoders.turns import LOWER, TOKEN_BUDGET, Words
from mer_agent.models.data import corpora, text_data
from mer_agent.models.data.text_data import LABELS, Talk
from mer_agent.models.perception.text_features import FOLDS
from mer_agent.models.perception.text_run import RECIPE, TextRecipe, TextRun
from mer_agent.models.training.metrics import scores
from mer_agent.models.training.records import git_revision, pack
from mer_agent.streams.types import Turn


def train_encoder(data_dir: Path, folder: Path, *, resume: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains the text encoder and writes `text.safetensors` and `text.json` into `folder`; gives the card's figures.

    The shipped runs took 11 to 14 minutes of a core with bfloat16 in hardware each; the states of the lower layers
    before them and the judging after them take some minutes. A run that was stopped goes on after its last epoch.

    Raises:
        DataError: a corpus is missing or malformed.
        WeightsError: the base has not been pulled.
    """
    if not resume:
        for path in (*folder.glob("text-*.state.pt"), *folder.glob("text-*.safetensors")):
            path.unlink()
    words = Words(load_model(weights.path("mpnet"), torch.device("cpu"))[1])
    talks = text_data.load(data_dir, words, misheard=RECIPE.misheard > 0)
    state: dict[str, Tensor] = {}
    records = []
    for part in range(FOLDS):
        run = TextRun(RECIPE, talks, part, part, folder)
        run.train(say)
        state |= {f"{part}.{name}": value for name, value in run.result().items()}
        test = {corpus: run.judge(corpus, "test") for corpus in RECIPE.corpora}
        records.append({"seed": run.seed, "without": run.fold, "epochs": run.epochs, "test": test})
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
    figures: dict[str, Any] = {"protocol": "clean", "precision": fastest()}

    def save() -> None:
        shipped.save(
            folder,
            NAMES[HEARD],
            state,
            feature=HEARD,
            recipe={**asdict(recipe), "parts": FOLDS, "lower": LOWER, "token_budget": TOKEN_BUDGET},
            data="; ".join(corpora.DATA[name].data for name in recipe.corpora),
            terms="; ".join(f"{name}: {corpora.DATA[name].terms}" for name in recipe.corpora),
            figures=figures,
            record={"runs": list(records), "revision": git_revision()},
        )

    save()  # so that what is judged is what is shipped
    encoder = TextEmotionEncoder(trained=folder, precision=fastest())
    for corpus in recipe.corpora:
        for split in ("valid", "test"):
            found = judge(encoder, judges(state, corpus), talks, corpus, split)
            figures[f"{corpus} {split}"] = found
            say(f"{corpus} {split}: weighted F1 {found['weighted_f1']:.2f} of {found['n']} utterances")
        each = [record["test"][corpus] for record in records]
        figures[f"{corpus} test, one part by stretches"] = {
            "weighted_f1_mean": statistics.mean(each),
            "weighted_f1_deviation": statistics.stdev(each),
        }
    save()
    return {f"{key}, weighted F1": value["weighted_f1"] for key, value in figures.items() if "weighted_f1" in value}


def judges(state: dict[str, Tensor], corpus: str) -> tuple[Tensor, Tensor]:
    """Gives weight [C, 768] and bias [C] of what judges a corpus, the mean of all parts'."""
    own = parts(state, None)
    weight, bias = (
        torch.stack([one[f"judges.{corpus}.{key}"].float() for one in own]).mean(0) for key in ("weight", "bias")
    )
    return weight, bias


def judge(
    encoder: TextEmotionEncoder, by: tuple[Tensor, Tensor], talks: Sequence[Talk], corpus: str, split: str
) -> dict[str, Any]:
    """Gives the scores of one split, with its predictions as records have them."""
    probabilities, truth = called(encoder, by, talks, corpus, split)
    return scores(probabilities, truth, LABELS[corpus]) | {"predictions": pack(probabilities, truth)}


def called(
    encoder: TextEmotionEncoder, by: tuple[Tensor, Tensor], talks: Sequence[Talk], corpus: str, split: str
) -> tuple[Tensor, Tensor]:
    """Gives probabilities [N, C] and labels [N] of one split, each utterance read as it is live."""
    vectors: list[Tensor] = []
    labels = []
    for talk in talks:
        if (talk.corpus, talk.split) == (corpus, split):
            rows = encoder.encode_dialogue([Turn(one.speaker, one.text) for one in talk.said])
            vectors += [torch.zeros(encoder.dimension) if row is None else row for row in rows]
            labels += [one.label for one in talk.said]
    return (torch.stack(vectors) @ by[0].T + by[1]).softmax(-1), torch.tensor(labels)
