"""The report's pictures, drawn from records: small SVG files that look the same each time they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mer_agent.errors import InputError, MissingExtraError
from mer_agent.models.batch import Batch
from mer_agent.models.bench.figures import confusion, summary
from mer_agent.models.bench.report import Measured

FOLDER = "images/results"
"""Where the pictures lie, relative to the page that shows them."""

BARS = ("peers", "meld", "ablation", "readings", "contrastive", "fusions", "mosi", "modalities", "bidirectional")
SWEEPS = ("windows", "margin", "batches")
CONFUSED = ("peers", "meld")
"""Plans whose confusion matrix of AR-IIGCN is drawn."""
FOUR = {"iemocap": ("angry", "happy", "sad", "neutral"), "meld": ("anger", "joy", "sadness", "neutral")}
"""The emotions that the paper of joint-vector fusion draws, by data set; those of the plan `joint`."""
_OTHER = "another"
_BLUE, _GREY, _RED = "#3b6ea5", "#b9c4d0", "#c0504d"


def draw(measured: Sequence[Measured], docs: Path) -> dict[str, str]:
    """Draws all pictures of `names` and gives their names.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    for each in measured:
        if not _has_picture(each):
            continue
        if each.name in SWEEPS:
            _save(docs, each.name, partial(_sweep, each), height=2.4)
        else:
            _save(docs, each.name, partial(_bars, each), height=0.45 + 0.3 * len(each.found))
    for each in measured:
        for name, (runs, labels) in _confused(each).items():
            _save(docs, name, partial(_confusion, runs, labels), height=0.6 + 0.6 * len(labels), width=4.8)
    return names(measured)


def names(measured: Sequence[Measured]) -> dict[str, str]:
    """Gives plan name (and plan name + `-confusion...`) -> picture file, relative to the folder of the page."""
    found = [each.name for each in measured if _has_picture(each)]
    found += [name for each in measured for name in _confused(each)]
    return {name: f"{FOLDER}/{name}.svg" for name in found}


def _has_picture(each: Measured) -> bool:
    return len(each.found) > 1 and each.name in (*BARS, *SWEEPS)


def _confused(each: Measured) -> dict[str, tuple[list[dict[str, Any]], tuple[str, ...]]]:
    """Gives the runs and the labels of each confusion matrix of a plan, by the picture's name."""
    if each.name in CONFUSED:
        ours = [runs for row, runs in each.found if row.model == "ar-iigcn"][:1]
        return {f"{each.name}-confusion": (runs, tuple(runs[0]["labels"])) for runs in ours}
    if each.name == "joint":  # its rows of a data set end with the one that reads most
        return {f"joint-confusion-{row.data}": (runs, FOUR[row.data]) for row, runs in each.found}
    return {}


@torch.no_grad()
def learned(model: nn.Module, batch: Batch) -> Tensor:
    """Gives what the classifier of AR-IIGCN reads of each utterance: the fused states [N, M * d].

    Raises:
        InputError: the model has no states of modalities to fuse.
    """
    states = model.eval()(batch).states
    if states is None:
        raise InputError("only AR-IIGCN has a fused space to draw: give one of its checkpoints")
    fusion: Any = model.fusion
    fused: Tensor = fusion(states)
    return fused


def space(rows: Any, labels: Sequence[int], names: Sequence[str], docs: Path, name: str) -> str:
    """Draws where t-SNE (van der Maaten and Hinton 2008) puts vectors [N, d]; gives the file, relative to `docs`.

    Two dimensions can't keep all distances: near points are alike, but the gaps between groups mean nothing.

    Raises:
        MissingExtraError: matplotlib or scikit-learn is not installed.
    """
    _plotting()
    from sklearn.manifold import TSNE

    flat = TSNE(perplexity=min(30, (len(labels) - 1) / 3), init="pca", random_state=0).fit_transform(rows)

    def points(axes: Any) -> None:
        for k, label in enumerate(names):
            own = [i for i, y in enumerate(labels) if y == k]
            axes.scatter(flat[own, 0], flat[own, 1], s=5, linewidths=0, label=label, rasterized=True)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(markerscale=2.5, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    _save(docs, name, points, height=3.6, width=5.2)
    return f"{FOLDER}/{name}.svg"


def _plotting() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("drawing needs matplotlib: pip install 'mer-agent[train]'") from error
    mpl.use("Agg")  # no display needed
    mpl.rcParams.update({"svg.hashsalt": "mer-agent", "svg.fonttype": "none", "font.size": 9, "savefig.dpi": 110})
    import matplotlib.pyplot as plt

    return plt


def _save(docs: Path, name: str, paint: Callable[[Any], None], *, height: float, width: float = 6.4) -> None:
    plt = _plotting()
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    paint(axes)
    path = docs / FOLDER / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(each: Measured, axes: Any) -> None:
    rows = each.found[::-1]
    values = [summary(runs, "clean")["weighted_f1"] for _, runs in rows]
    means = [value["mean"] or 0.0 for value in values]
    colours = [_RED if row.name == each.plan.baseline else _BLUE for row, _ in rows]
    axes.barh(range(len(rows)), means, xerr=[value["deviation"] or 0 for value in values], color=colours, height=0.6)
    axes.set_yticks(range(len(rows)), [row.name for row, _ in rows])
    axes.set_xlim(max(0, min(means) - 8), max(means) + 3)
    for y, mean in enumerate(means):
        axes.text(axes.get_xlim()[0] + 0.3, y, f"{mean:.1f}", va="center", color="white", fontsize=8)
    axes.set_xlabel("weighted F1 on test, protocol clean; lines: deviation over seeds; red: baseline")
    axes.spines[["top", "right"]].set_visible(False)


def _sweep(each: Measured, axes: Any) -> None:
    order = sorted(each.found, key=lambda found: _number(found[0].name))
    values = [summary(runs, "clean")["weighted_f1"] for _, runs in order]
    deviations = [value["deviation"] or 0 for value in values]
    axes.errorbar(range(len(order)), [value["mean"] for value in values], deviations, marker="o", color=_BLUE)
    axes.set_xticks(range(len(order)), [row.name for row, _ in order])
    axes.set_ylabel("weighted F1 on test")
    axes.grid(axis="y", color=_GREY, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _number(name: str) -> float:
    return next(float(word) for word in name.split() if word.replace(".", "", 1).isdigit())


def _confusion(runs: Sequence[dict[str, Any]], labels: Sequence[str], axes: Any) -> None:
    places = [runs[0]["labels"].index(label) for label in labels]
    share, names = confusion(runs)[places], list(labels)
    if len(labels) < share.shape[1]:
        share, names = np.column_stack([share[:, places], 100 - share[:, places].sum(1)]), [*labels, _OTHER]
    else:
        share = share[:, places]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true, each row sums to 100 %")
    for i, j in np.ndindex(*share.shape):
        colour = "white" if share[i, j] > 55 else "black"
        axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=8)
