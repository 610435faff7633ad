"""`mer-agent train`, `evaluate` and `bench`: what a researcher runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mer_agent.errors import InputError
from mer_agent.terminal import agent_extra, out, say

bench = typer.Typer(no_args_is_help=True, help="Measure speed; the JSON has a headline `ratio`, lower is better.")

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to this file.")]
DataName = Annotated[str, typer.Option("--data", metavar="NAME", help="Data set: iemocap, meld, mosi, or converted.")]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with iemocap/ (default: data.dir).")]

_FIRST_TIME = "Reading the data ... (the first time, all words are encoded and kept, which takes some minutes)"


def train(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="ar-iigcn, gru (the floor), dialogue-rnn, ...")
    ] = "ar-iigcn",
    data: DataName = "iemocap",
    seed: Annotated[list[int] | None, typer.Option(help="Seed; give it again for more runs (default: 0 to 4).")] = None,
    data_dir: DataDir = None,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Records and checkpoints; a stopped run goes on.")] = Path(
        "runs"
    ),
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Look at what comes later, too.")] = False,
    device: Annotated[str, typer.Option(help="Torch device to train on.")] = "cpu",
) -> None:
    """Train a fusion model; the epoch is chosen on validation, the test split is only reported."""
    with agent_extra():
        from mer_agent.models import registry, runs
    if model not in runs.RECIPES:
        raise InputError(f"--model {model}: it is one of {', '.join(runs.RECIPES)}")
    _find_weights(context)

    def progress(of_seed: int, epoch: int, loss: float, weighted_f1: float) -> None:
        say(f"seed {of_seed}  epoch {epoch + 1:3}/{recipe.epochs}  loss {loss:.3f}  validation {weighted_f1:.2f}")

    recipe = runs.RECIPES[model]
    direction = registry.direction(model, bidirectional=bidirectional)
    recipe = replace(recipe, shape={**recipe.shape, **direction})
    seeds = seed or list(range(5))
    say(_FIRST_TIME)
    finished = runs.train_seeds(
        recipe, data, data_dir or context.obj.settings.data.dir, seeds, folder, device=device, progress=progress
    )
    summary = runs.summarise([run.record for run in finished])
    for split in ("valid", "test"):
        mean, deviation = summary[split]["weighted_f1_mean"], summary[split]["weighted_f1_deviation"]
        spread = "" if deviation is None else f" ± {deviation:.2f}"
        out.print(f"{split:<6} weighted F1 {mean:.2f}{spread}  ({len(seeds)} seeds, protocol clean)")
    out.print(f"Records and checkpoints are in {folder}")


def evaluate(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="A shipped name or a .safetensors file.")] = "iemocap6",
    data: DataName = "iemocap",
    data_dir: DataDir = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the confusion matrix (png, svg).")] = None,
    json_file: JsonFile = None,
) -> None:
    """Score a checkpoint on the test split of a data set; figures are in percent."""
    with agent_extra():
        from mer_agent.models import evaluate as evaluation
    _find_weights(context)
    say(_FIRST_TIME)
    figures = evaluation.evaluate(checkpoint, data, data_dir or context.obj.settings.data.dir)
    table = Table("class", "F1", box=None, header_style="bold")
    for label, scores in figures["per_class"].items():
        table.add_row(label, f"{scores['f1']:.1f}" if isinstance(scores, dict) else f"{scores:.1f}")
    out.print(table)
    for key in ("weighted_f1", "macro_f1", "accuracy", "ece"):
        out.print(f"{key:<12} {figures[key]:6.2f}")
    out.print(f"{'n':<12} {figures['n']:6d}")
    if picture is not None:
        with agent_extra("train"):
            evaluation.draw_confusion(figures, picture)
    _write(figures, json_file)


@bench.command()
def throughput(
    context: typer.Context,
    media: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Recording (default: the sample conversation).")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Fresh processes to measure; the median counts.")] = 3,
    json_file: JsonFile = None,
) -> None:
    """Real-time factor (the ratio), cold start, peak memory and the share of each stage."""
    with agent_extra():
        from mer_agent.bench import throughput as measure
        from mer_agent.demo import sample_conversation
    _find_weights(context)
    figures = measure(context.obj.settings, media or sample_conversation(), runs)
    out.print(f"real-time factor {figures['ratio']:.2f} (seconds of work for each second of sound, {figures['words']})")
    out.print(f"cold start to ready {figures['cold_start_s']:.1f} s, peak memory {figures['peak_memory_mb']:.0f} MB")
    for stage, share in sorted(figures["stage_share"].items(), key=lambda item: -item[1]):
        out.print(f"{share:6.1%}  {stage}")
    _write(figures, json_file)


@bench.command()
def graph(
    context: typer.Context,
    checkpoint: Annotated[str | None, typer.Argument(help="A shipped name or a .safetensors file.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Cost of graph and fusion at utterance 10, 1,000 and 100,000 of one session; the ratio is last to first."""
    with agent_extra():
        from mer_agent.models import checkpoint as checkpoints
        from mer_agent.models.bench_graph import bench as measure
    model, _ = checkpoints.load(checkpoint or context.obj.settings.model.checkpoint)
    say("Walking 100,000 utterances; this takes a few minutes ...")
    figures = measure(model)
    for length, median_us in figures["median_us"].items():
        out.print(f"utterance {int(length):>7,}: {median_us:8.1f} µs")
    out.print(f"ratio {figures['ratio']:.2f}")
    _write(figures, json_file)


def _find_weights(context: typer.Context) -> None:
    """Tells the catalogue where the settings keep the weights."""
    from mer_agent.encoders import weights

    weights.set_directory(context.obj.settings.weights.dir)


def _write(figures: dict[str, Any], file: Path | None) -> None:
    if file is None:
        return
    try:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--json {file}: can't be written ({error.strerror})") from error
