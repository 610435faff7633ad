"""How good a checkpoint is on a data set, in numbers that anybody can reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mer_agent.errors import DataError, MissingExtraError
from mer_agent.models import checkpoint
from mer_agent.models.batch import NO_LABEL, Batch
from mer_agent.models.checkpoint import Card
from mer_agent.models.data.corpora import BRINGS, load
from mer_agent.models.data.datasets import Corpus
from mer_agent.models.training.metrics import confusion, scores
from mer_agent.streams.types import Modality


def evaluate(
    name_or_path: str | Path = "iemocap6",
    data: str = "iemocap",
    data_dir: Path = Path("../shared/data"),
    *,
    modalities: Sequence[Modality] | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Gives a checkpoint's scores; see `judge` for what is in them.

    Args:
        name_or_path: a shipped checkpoint's name, or a path.
        data: the data set's name.
        data_dir: the folder that holds a folder of each data set.
        modalities: what the model may use; everything it knows if not given.
        split: `train`, `valid` or `test`.

    Raises:
        CheckpointError: the checkpoint is unknown or damaged.
        DataError: the data are missing, or have other labels than the checkpoint.
        WeightsError: the text encoder's weights are not here, and its features are not cached.
    """
    model, card = checkpoint.load(name_or_path)
    return judge(model, card, load_for(card, data, data_dir), modalities=modalities, split=split)


def load_for(card: Card, data: str, data_dir: Path) -> Corpus:
    """Gives a data set with the features that a card names; those that the data can't have are absent from it.

    Raises:
        DataError: it has other labels.
    """
    descriptors = next((spec.names for spec in card.features if spec.id.startswith("audio/prosody@")), ())
    brings = BRINGS.get(data, ("",))
    wanted = [spec.id for spec in card.features if spec.id.startswith(brings)]
    corpus = load(data, data_dir, wanted, descriptors=descriptors)
    if corpus.labels != card.labels:
        raise DataError(f"{card.name} tells {', '.join(card.labels)} apart; {data} has {', '.join(corpus.labels)}")
    for feature in wanted:
        card.check(feature, corpus.batch.features[feature].shape[1])
    return replace(corpus, batch=corpus.batch.completed({spec.id: spec.dimension for spec in card.features}))


def judge(
    model: nn.Module,
    card: Card,
    corpus: Corpus,
    *,
    modalities: Sequence[Modality] | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Gives the scores of a model on one split of a corpus.

    The keys are those of `metrics.scores` (percent) and: `confusion` (rows are true labels, columns predicted ones,
    both in the order of `labels`), `modalities`, `subsets` (weighted F1 with each subset of the modalities, when all
    were asked for) and `kinds` (weighted F1 and n of improvised and scripted dialogues, which differ: scripts recur
    across sessions, so the words alone partly tell which script it is).
    """
    batch = corpus.part(split)
    there = [spec.modality for spec in card.features if batch.present[spec.id].any()]
    used = tuple((m for m in card.modalities if m in there) if modalities is None else modalities)
    unknown = [m for m in used if m not in card.modalities]
    if unknown or not used:
        raise DataError(f"{card.name} knows the modalities {', '.join(card.modalities)}, not {', '.join(unknown)}")

    def probabilities_of(batch: Batch, modalities: Sequence[Modality]) -> Tensor:
        hidden = [spec.id for spec in card.features if spec.modality not in modalities]
        return probabilities_by(model, batch.without(hidden))

    known = batch.labels != NO_LABEL
    labels = batch.labels[known]
    probabilities = probabilities_of(batch, used)[known]
    result = scores(probabilities, labels, corpus.labels)
    result |= {
        "checkpoint": card.name,
        "sha256": card.sha256,
        "data": corpus.name,
        "split": split,
        "labels": list(corpus.labels),
        "modalities": list(used),
        "confusion": confusion(probabilities.argmax(-1), labels, len(corpus.labels)).tolist(),
        "kinds": {},
    }
    for kind in sorted(set(corpus.kind)):
        part = corpus.part(split, kind)
        if len(part):
            judged = part.labels != NO_LABEL
            own = scores(probabilities_of(part, used)[judged], part.labels[judged], corpus.labels)
            result["kinds"][kind] = {"weighted_f1": own["weighted_f1"], "n": own["n"]}
    if modalities is None:
        result["subsets"] = {
            "+".join(subset): scores(probabilities_of(batch, subset)[known], labels, corpus.labels)["weighted_f1"]
            for size in range(1, len(used) + 1)
            for subset in combinations(used, size)
        }
    return result


@torch.no_grad()
def probabilities_by(model: nn.Module, batch: Batch) -> Tensor:
    """Gives the distribution [N, C] of each utterance."""
    result: Tensor = model(batch).logits.softmax(-1)
    return result


def draw_confusion(result: dict[str, Any], path: Path) -> None:
    """Draws the confusion matrix of `judge` into a picture: each row is a true label and sums to 100 %.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("drawing needs matplotlib: pip install 'mer-agent[train]'") from error
    mpl.use("Agg")  # no display needed
    import matplotlib.pyplot as plt

    table = torch.tensor(result["confusion"], dtype=torch.double)
    share = 100 * table / table.sum(1, keepdim=True).clamp_min(1)
    figure, axes = plt.subplots(figsize=(6.2, 5.4), layout="constrained")
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=100)
    names = result["labels"]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for i in range(len(names)):
        for j in range(len(names)):
            colour = "white" if share[i, j] > 55 else "black"
            axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", color=colour)
    axes.set_title(
        f"{result['checkpoint']} on {result['data']} {result['split']}: weighted F1 {result['weighted_f1']:.1f} %"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
