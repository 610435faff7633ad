"""`mer-agent bench accuracy` and its like: how good models are, what their parts are worth, and the report of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mer_agent.commands.bench import bench as bench
from mer_agent.commands.research import FIRST_TIME, DataDir, DataName, JsonFile, find_weights, write_json
from mer_agent.errors import InputError
from mer_agent.terminal import agent_extra, out, say

if TYPE_CHECKING:
    from mer_agent.models.bench.accuracy import Task
    from mer_agent.models.bench.plan import Plan

RECORDS = Path("docs/results/records")
IMPUTATION = "imputation"
"""Folder beside the records, for what `bench imputation --json` writes; the report shows it, too."""

Records = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the records of all runs lie.")]


@bench.command()
def accuracy(
    context: typer.Context,
    plans: Annotated[list[str] | None, typer.Argument(metavar="[PLAN]...", help="Tables; --list names them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Every model once, three epochs: does all run?")] = False,
    show: Annotated[bool, typer.Option("--list", help="Name the plans and their rows, and train nothing.")] = False,
    model: Annotated[list[str] | None, typer.Option(help="Instead of plans: these models ...")] = None,
    data: Annotated[list[str] | None, typer.Option(help="... on these data sets ...")] = None,
    modalities: Annotated[
        list[str] | None, typer.Option(metavar="M+M", help="... with these modalities (text+audio), or all ...")
    ] = None,
    ways: Annotated[str, typer.Option(metavar="causal|both|each", help="... looking back only, both ways, each.")] = (
        "causal"
    ),
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each row (default: the plan's own).")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")] = 1,
    again: Annotated[bool, typer.Option("--again", help="Train again what has a record.")] = False,
    data_dir: DataDir = None,
    folder: Records = RECORDS,
    device: Annotated[str, typer.Option(help="Torch device to train on.")] = "cpu",
) -> None:
    """Train what plans name; what has a record is skipped, what was stopped goes on. `bench report` shows the rest."""
    with agent_extra("train"):
        from mer_agent.models.bench import accuracy
        from mer_agent.models.bench import plans as known
    if model or data or modalities:
        sides = {"causal": (False,), "both": (True,), "each": (False, True)}
        if ways not in sides:
            raise InputError(f"--ways {ways}: it is one of {', '.join(sides)}")
        subsets = tuple(known.subset(each) for each in modalities or ["all"])
        chosen = [known.crossed(tuple(model or ["ar-iigcn"]), tuple(data or ["iemocap"]), subsets, sides[ways])]
    elif quick:
        chosen, folder = [known.quick()], Path("runs/quick") if folder == RECORDS else folder
    else:
        unknown = [name for name in plans or () if name not in known.PLANS]
        if unknown:
            raise InputError(f"no plan is called {unknown[0]!r}: there are {', '.join(known.PLANS)}")
        chosen = [known.PLANS[name] for name in plans or [n for n in known.PLANS if n not in known.BY_NAME_ONLY]]
    if show:
        _list(chosen)
        return
    find_weights(context)
    wanted = accuracy.tasks(chosen, seeds)
    say(f"{len(wanted)} runs, {jobs} at a time. {FIRST_TIME}")

    def progress(task: Task, epoch: int, score: float) -> None:
        if (epoch + 1) % 5 == 0 or epoch + 1 == task.recipe.epochs:
            say(f"  {task.name}  epoch {epoch + 1}/{task.recipe.epochs}  validation {score:.2f}")

    trained, spent_s = 0, 0.0
    found = accuracy.bench(
        wanted,
        data_dir or context.obj.settings.data.dir,
        folder,
        jobs=jobs,
        again=again,
        device=device,
        progress=progress if jobs == 1 else None,
    )
    for done, one in enumerate(found, 1):
        took = "had a record"
        if one.took_s is not None:
            trained, spent_s, took = trained + 1, spent_s + one.took_s, f"{one.took_s:.0f} s"
        left = f", about {(len(wanted) - done) * spent_s / trained / jobs / 60:.0f} min left" if trained else ""
        score = one.record["valid"]["weighted_f1"]
        out.print(f"{done}/{len(wanted)} {one.task.name}  validation {score:.2f}  ({took}{left})")
    out.print(f"Records are in {folder}; mer-agent bench report --folder {folder} shows them, the test split too")


def _list(plans: list[Plan]) -> None:
    from mer_agent.models.bench.plans import PLANS

    names = {id(plan): name for name, plan in PLANS.items()}
    for plan in plans:
        out.print(f"{names.get(id(plan), 'chosen')}: {plan.title}, {plan.seeds} seeds", markup=False)
        for row in plan.rows:
            out.print(f"  {row.name}", markup=False)


@bench.command()
def report(
    folder: Records = RECORDS,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Page to rewrite between its marks; none: print the tables.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Show what all records say, or rewrite docs/results.md and its pictures with it."""
    with agent_extra("train"):
        from mer_agent.models.bench import accuracy, imputation, pictures
        from mer_agent.models.bench import report as reports
    measured = reports.gather(accuracy.read_all(folder))
    imputed = imputation.read_all(folder.parent / IMPUTATION)
    if json_file is not None:
        missing = [figure for record in imputed for figure in imputation.figures(record)]
        write_json({"figures": reports.figures(measured) + missing}, json_file)
    if page is None:
        out.print(reports.markdown(measured, {}, imputed), markup=False)
        return
    reports.rewrite(page, reports.markdown(measured, pictures.draw(measured, page.parent), imputed))
    out.print(f"Wrote {page} and the pictures in {page.parent / pictures.FOLDER}")


@bench.command()
def space(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="A shipped name or a .safetensors file.")] = "iemocap6",
    data: Annotated[str, typer.Option(metavar="NAME", help="Data set whose test split is drawn.")] = "iemocap",
    data_dir: DataDir = None,
    docs: Annotated[Path, typer.Option(metavar="DIR", help="The picture goes into images/results in it.")] = Path(
        "docs"
    ),
) -> None:
    """Draw the learned space of a checkpoint: where t-SNE puts the fused vectors of the test split."""
    with agent_extra("train"):
        from mer_agent.models import checkpoint as checkpoints
        from mer_agent.models.bench import pictures
        from mer_agent.models.training import evaluate
    find_weights(context)
    trained, card = checkpoints.load(checkpoint)
    say(FIRST_TIME)
    corpus = evaluate.load_for(card, data, data_dir or context.obj.settings.data.dir)
    batch = corpus.part("test")
    vectors = pictures.learned(trained, batch)
    drawn = pictures.space(vectors, batch.labels.tolist(), corpus.labels, docs, f"space-{card.name}")
    out.print(f"Wrote {docs / drawn}")


@bench.command()
def text(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(min=1, max=3, help="Runs of each variant; 0.5 h of a core for three.")] = 3,
    data_dir: DataDir = None,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where the state of the runs is kept.")] = Path(
        "runs/bench-text"
    ),
    json_file: JsonFile = None,
) -> None:
    """The text encoder's recipe beside others: names, one corpus alone, precisions; the ratio is bfloat16's cost."""
    with agent_extra("train"):
        from mer_agent.encoders import base
        from mer_agent.models.bench.text import bench as measure
    find_weights(context)
    base.limit_threads(1)
    figures = measure(data_dir or context.obj.settings.data.dir, folder, seeds, say)
    for name, by_corpus in figures["variants"].items():
        for corpus, splits in by_corpus.items():
            for split, of in splits.items():
                deviation = "" if of["deviation"] is None else f" ± {of['deviation']:.2f}"
                out.print(f"{name:<44} {corpus:<8} {split:<6} weighted F1 {of['mean']:.2f}{deviation}", markup=False)
    for name, of in figures["precisions"].items():
        scored = ", ".join(f"{corpus} {score:.2f}" for corpus, score in of["weighted_f1"].items())
        out.print(f"{name:<10} {of['ms']:6.1f} ms  {of['changed']:5.2f} % called otherwise  weighted F1 {scored}")
    out.print(f"ratio {figures['ratio']:.2f}")
    write_json(figures, json_file)


@bench.command()
def imputation(
    context: typer.Context,
    data: DataName = "iemocap",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each way.")] = 3,
    data_dir: DataDir = None,
    json_file: JsonFile = None,
) -> None:
    """Compare generated vectors with none, for every subset of the modalities that is left."""
    with agent_extra():
        from mer_agent.models.bench.imputation import bench as measure
        from mer_agent.models.data import corpora
        from mer_agent.models.training import runs
    find_weights(context)
    recipe = runs.recipe_for("ar-iigcn", data)
    say(FIRST_TIME)
    corpus = corpora.load(
        data, data_dir or context.obj.settings.data.dir, recipe.features, descriptors=recipe.descriptors
    )
    figures = measure(recipe, corpus, range(seeds), lambda way, seed: say(f"seed {seed}: {way}"))
    for way, splits in figures["weighted_f1"].items():
        for left, found in splits["test"].items():
            out.print(f"{way:<20} {left:<20} test weighted F1 {found['mean']:6.2f}")
    write_json(figures, json_file)


@bench.command()
def training(
    dialogues: Annotated[int, typer.Option(min=2, max=108, help="Dialogues of made-up numbers to train on.")] = 108,
    rounds: Annotated[int, typer.Option(min=1, help="How often the ways take turns.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Training DialogueGCN with the graph of a whole batch at once; the ratio is to Python loops over its edges."""
    with agent_extra():
        from mer_agent.models.bench.training import bench as measure
        from mer_agent.models.bench.training import made_up
    say("Training three ways in turns; the literal one takes half a minute an epoch ...")
    figures = measure(made_up(dialogues), rounds=rounds)
    for way in ("fast", "careful", "literal"):
        out.print(f"{way:<8} {figures[f'{way}_epochs_per_s']:8.4f} epochs a second")
    out.print(f"ratio {figures['ratio']:.1f} to the published loop, {figures['careful_ratio']:.1f} to a careful one")
    write_json(figures, json_file)
