"""`mer-agent train` and `evaluate`: what a researcher runs, and what `bench` shares with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mer_agent.errors import InputError, RegressionError
from mer_agent.terminal import agent_extra, out, say

if TYPE_CHECKING:
    from mer_agent.config.settings import Settings

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to this file.")]
DataName = Annotated[str, typer.Option("--data", metavar="NAME", help="Data set: iemocap, meld, mosi, or converted.")]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with iemocap/ (default: data.dir).")]

FIRST_TIME = "Reading the data ... (the first time, all words are encoded and kept, which takes some minutes)"


def train(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="ar-iigcn, gru (the floor), dialogue-rnn, ...")
    ] = "ar-iigcn",
    data: DataName = "iemocap",
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed; give it again for more runs (default: 0 to 4, with --live 0 to 9).")
    ] = None,
    data_dir: DataDir = None,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Records and checkpoints; a stopped run goes on.")] = Path(
        "runs"
    ),
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Look at what comes later, too.")] = False,
    device: Annotated[str, typer.Option(help="Torch device to train on.")] = "cpu",
    live: Annotated[
        bool, typer.Option("--live", help="Train the model that runs live, on all data sets at hand.")
    ] = False,
) -> None:
    """Train a fusion model; the epoch is chosen on validation, the test split is only reported."""
    if live:
        _train_live(context, seed or list(range(10)), data_dir or context.obj.settings.data.dir, folder)
        return
    with agent_extra():
        from mer_agent.models.training import runs
    seeds = seed or list(range(5))
    recipe = runs.recipe_for(model, data, bidirectional=bidirectional)
    find_weights(context)

    def progress(of_seed: int, epoch: int, loss: float, weighted_f1: float) -> None:
        say(f"seed {of_seed}  epoch {epoch + 1:3}/{recipe.epochs}  loss {loss:.3f}  validation {weighted_f1:.2f}")

    say(FIRST_TIME)
    finished = runs.train_seeds(
        recipe, data, data_dir or context.obj.settings.data.dir, seeds, folder, device=device, progress=progress
    )
    summary = runs.summarise([run.record for run in finished])
    for split in ("valid", "test"):
        mean, deviation = summary[split]["weighted_f1_mean"], summary[split]["weighted_f1_deviation"]
        spread = "" if deviation is None else f" ± {deviation:.2f}"
        out.print(f"{split:<6} weighted F1 {mean:.2f}{spread}  ({len(seeds)} seeds, protocol clean)")
    out.print(f"Records and checkpoints are in {folder}")


def _train_live(context: typer.Context, seeds: list[int], data_dir: Path, folder: Path) -> None:
    with agent_extra("train"):
        from mer_agent.models.live import train_live
    find_weights(context)
    say(FIRST_TIME)
    figures = train_live.train_all(data_dir, folder, folder / "encoders", seeds, say)
    for name, own in figures["test"].items():
        out.print(
            f"{name:<10} weighted F1 {own['weighted_f1']:6.2f}  macro F1 {own['macro_f1']:6.2f}  ECE {own['ece']:5.2f}"
        )
    out.print(f"The checkpoint is in {folder}: live.safetensors, live.json")


def evaluate(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="A shipped name or a .safetensors file.")] = "iemocap6",
    data: DataName = "iemocap",
    data_dir: DataDir = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the confusion matrix (png, svg).")] = None,
    regression: Annotated[
        bool, typer.Option("--regression", help="Compare with the shipped `live`; fails if significantly worse.")
    ] = False,
    end_to_end: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Run the agent itself on recordings with truth beside them (docs/end-to-end.md)."
        ),
    ] = None,
    compose: Annotated[
        int, typer.Option(min=0, help="The same on so many conversations made of acted speakers kept apart.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the conversations that are made.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Score a checkpoint on the test split of a data set; figures are in percent."""
    with agent_extra():
        from mer_agent.models.training import evaluate as evaluation
    find_weights(context)
    if end_to_end is not None or compose:
        _end_to_end(context, checkpoint, end_to_end, data_dir, compose, seed, json_file)
        return
    say(FIRST_TIME)
    if regression:
        _compare(context, checkpoint, data_dir or context.obj.settings.data.dir, json_file)
        return
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
    write_json(figures, json_file)


def _end_to_end(
    context: typer.Context,
    checkpoint: str,
    folder: Path | None,
    data_dir: Path | None,
    compose: int,
    seed: int,
    json_file: Path | None,
) -> None:
    with agent_extra("train"):
        from mer_agent.judging import end_to_end
    settings: Settings = context.obj.settings
    model = settings.model.model_copy(update={"checkpoint": checkpoint})
    data = data_dir or settings.data.dir
    figures = end_to_end.evaluate(
        settings.model_copy(update={"model": model}), folder, data, Path("runs/encoders"), compose, seed, say
    )
    kinds = {"all": figures, **figures.get("kinds", {})}
    for name, own in kinds.items():
        table = Table(name, "weighted F1", "lost", "macro F1", "accuracy", "ECE", "missed", "n", box=None)
        for step in own["steps"]:
            lost = f"{step['lost']:+.1f}" if "lost" in step else ""
            scored = [f"{step[key]:.1f}" for key in ("macro_f1", "accuracy", "ece")]
            stage = step["stage"] if step["stage"] == "gold" else f"then {step['stage']}"
            table.add_row(stage, f"{step['weighted_f1']:.1f}", lost, *scored, str(step["missed"]), str(step["n"]))
        out.print(table)
        told = ", ".join(f"{key} {value} %" for key, value in own["heard"].items() if value is not None)
        out.print(f"heard: {told}")
    drop = figures["drop"]
    out.print(f"from gold to live: {drop['weighted_f1']:.1f} lost (95 %: {drop['low']:.1f} to {drop['high']:.1f})")
    for one in figures["without_truth"]:
        out.print(f"{one['name']}: {one['utterances']} utterances, nobody knows the truth", markup=False)
    write_json(figures, json_file)


def _compare(context: typer.Context, name: str, data_dir: Path, json_file: Path | None) -> None:
    with agent_extra("train"):
        from mer_agent.models.training import regression
    found = regression.check(name, "live", data_dir, Path("runs/encoders"), say)
    table = Table("part", "n", "live", name, "difference, 95 %", box=None, header_style="bold")
    for one in found:
        span = f"{one.low:+.1f} to {one.high:+.1f}{'  worse' if one.worse else ''}"
        table.add_row(one.part, str(one.n), f"{one.shipped:.2f}", f"{one.candidate:.2f}", span)
    out.print(table)
    write_json({one.part: asdict(one) | {"worse": one.worse} for one in found}, json_file)
    if any(one.worse for one in found):
        raise RegressionError(f"{name} is significantly worse than live: it must not take its place")


def convert(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A pickle of features, or the folder that holds several or a corpus.")],
    folder: Annotated[Path, typer.Argument(help="Where to write; inside data.dir, its name is one for --data.")],
    layout: Annotated[str, typer.Option(metavar="NAME", help="iemocap-raw, meld-mmgcn, ur-funny, meld-raw, ...")],
) -> None:
    """Convert published features or a raw corpus, once, into files that can't run anything."""
    with agent_extra():
        from mer_agent.models.data.convert import convert as convert_data
    find_weights(context)
    table = convert_data(source, folder, layout)
    for feature, values in table.values.items():
        out.print(f"{feature:<24} {values.shape[1]:5d} numbers, {int(table.present[feature].sum())} utterances")
    out.print(f"{len(table.dialogues)} dialogues, {len(table.lines)} utterances are in {folder}")


def find_weights(context: typer.Context) -> None:
    """Tells the catalogue where the settings keep the weights."""
    from mer_agent.encoders import weights

    weights.set_directory(context.obj.settings.weights.dir)


def write_json(figures: dict[str, Any], file: Path | None) -> None:
    """Writes figures where `--json` says, if it was given.

    Raises:
        InputError: the file can't be written.
    """
    if file is None:
        return
    try:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--json {file}: can't be written ({error.strerror})") from error
