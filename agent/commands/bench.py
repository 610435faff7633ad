"""`mer-agent bench`: how fast it is, how good, and the report of what was measured."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mer_agent.commands.research import FIRST_TIME, DataDir, DataName, JsonFile, find_weights, write_json
from mer_agent.errors import InputError
from mer_agent.terminal import agent_extra, out, say

if TYPE_CHECKING:
    from mer_agent.models.bench.accuracy import Task
    from mer_agent.models.bench.plan import Plan

bench = typer.Typer(
    no_args_is_help=True, help="Measure speed (the JSON has a headline `ratio`, lower is better) and accuracy."
)

RECORDS = Path("docs/results/records")
IMPUTATION = "imputation"
"""Folder beside the records, for what `bench imputation --json` writes; the report shows it, too."""

Records = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the records of all runs lie.")]


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
        from mer_agent.bench.throughput import throughput as measure
        from mer_agent.demo import sample_conversation
    find_weights(context)
    figures = measure(context.obj.settings, media or sample_conversation(), runs)
    out.print(f"real-time factor {figures['ratio']:.2f} (seconds of work for each second of sound, {figures['words']})")
    out.print(f"cold start to ready {figures['cold_start_s']:.1f} s, peak memory {figures['peak_memory_mb']:.0f} MB")
    for stage, share in sorted(figures["stage_share"].items(), key=lambda item: -item[1]):
        out.print(f"{share:6.1%}  {stage}")
    write_json(figures, json_file)


@bench.command()
def latency(
    context: typer.Context,
    media: Annotated[
        list[Path] | None, typer.Argument(help="Recordings to take utterances from (default: the sample conversation).")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.2, max=60, help="Length of the sound that each hears.")] = 2.0,
    peer: Annotated[
        bool, typer.Option(help="Also measure whisper_streaming and RealtimeSTT, in environments made for them.")
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """End of speech to the emotion at a subscriber; the ratio is to the time at which RealtimeSTT has the words."""
    with agent_extra():
        from mer_agent.bench.latency import latency as measure
        from mer_agent.demo import sample_conversation
    find_weights(context)
    systems = ("agent", "sequential", *(("whisperstreaming", "realtimestt") if peer else ()))
    figures = measure(context.obj.settings, media or [sample_conversation()], minutes * 60, systems, say)
    for name, of in figures["systems"].items():
        found = "nothing" if of["p50_s"] is None else f"p50 {of['p50_s']:5.2f} s  p95 {of['p95_s']:5.2f} s"
        spent = "" if of["cpu_s"] is None else f"  {of['cpu_s']:6.1f} s of CPU"
        out.print(f"{name:<16} {found}  missed {of['missed']} of {figures['ends']}{spent}  load {of['load']:.1f}")
    stages = figures["systems"]["agent"]["stages_ms"]
    out.print("agent, median: " + ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in stages.items()), markup=False)
    for name, ratio in figures["ratios"].items():
        out.print(
            f"ratio to {name}: p50 {ratio['p50']:.2f}, p95 {ratio['p95']:.2f} over {ratio['ends']} ends of speech"
        )
    write_json(figures, json_file)


@bench.command()
def graph(
    context: typer.Context,
    checkpoint: Annotated[str | None, typer.Argument(help="A shipped name or a .safetensors file.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Cost of graph and fusion at utterance 10, 1,000 and 100,000 of one session; the ratio is last to first."""
    with agent_extra():
        from mer_agent.models import checkpoint as checkpoints
        from mer_agent.models.bench.graph import bench as measure
    model, _ = checkpoints.load_live(checkpoint or context.obj.settings.model.checkpoint)
    say("Walking 100,000 utterances; this takes a few minutes ...")
    figures = measure(model)
    for length, median_us in figures["median_us"].items():
        out.print(f"utterance {int(length):>7,}: {median_us:8.1f} µs")
    out.print(f"ratio {figures['ratio']:.2f}")
    write_json(figures, json_file)


@bench.command()
def speakers(
    context: typer.Context,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with speech/ and iemocap/.")] = None,
    every: Annotated[int, typer.Option(min=1, max=6, help="Encode only every so manieth clip of a speaker.")] = 3,
    json_file: JsonFile = None,
) -> None:
    """Telling voices apart as they come, beside an offline clustering; the ratio is that of their errors."""
    with agent_extra():
        from mer_agent.models.bench.speakers import bench as measure
    find_weights(context)
    figures = measure(data_dir or context.obj.settings.data.dir, every=every, say=say)
    for name, ways in figures["sets"].items():
        for how, row in ways.items():
            out.print(f"{name:<8} {how:<36} error {row['error']:6.1%}  right number {row['right_number']:.0%}")
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


@bench.command()
def robustness(
    context: typer.Context,
    conversations: Annotated[int, typer.Option(min=1, help="How many are made of acted clips.")] = 5,
    data_dir: DataDir = None,
    json_file: JsonFile = None,
) -> None:
    """Accuracy and calibration under noise, in bad light, with faces hidden and modalities missing."""
    with agent_extra("train"):
        from mer_agent.judging import robustness as harm
    find_weights(context)
    settings = context.obj.settings
    figures = harm.bench(settings, data_dir or settings.data.dir, Path("runs/encoders"), conversations, say=say)
    out.print(harm.markdown(figures), markup=False)
    write_json(figures, json_file)


@bench.command()
def faces(
    context: typer.Context,
    media: Annotated[Path | None, typer.Argument(help="A video with faces (default: the sample face).")] = None,
    rate_hz: Annotated[float, typer.Option(min=0.5, max=60, help="Pictures looked at in a second.")] = 10.0,
    json_file: JsonFile = None,
) -> None:
    """Cost of finding, following and encoding faces; the ratio is the share of one core that a face takes."""
    with agent_extra():
        from mer_agent.encoders import weights
        from mer_agent.models.bench.faces import bench as measure
    find_weights(context)
    figures = measure(media or weights.path("sample-face") / "carphone_pristine.mp4", rate_hz)
    for name, value in figures.items():
        out.print(f"{name:<16} {value}")
    write_json(figures, json_file)


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


def _list(plans: list[Plan]) -> None:
    from mer_agent.models.bench.plans import PLANS

    names = {id(plan): name for name, plan in PLANS.items()}
    for plan in plans:
        out.print(f"{names.get(id(plan), 'chosen')}: {plan.title}, {plan.seeds} seeds", markup=False)
        for row in plan.rows:
            out.print(f"  {row.name}", markup=False)


@bench.command()
def encoders(context: typer.Context, json_file: JsonFile = None) -> None:
    """Utterances a second of each encoder, single and in a batch; the ratio is all of them to an utterance's length."""
    with agent_extra():
        from mer_agent.encoders import base
        from mer_agent.models.bench.encoders import bench as measure
    find_weights(context)
    base.limit_threads(context.obj.settings.encoders.threads)
    figures = measure(say)
    for feature, devices in figures["encoders"].items():
        for device, speed in devices.items():
            out.print(
                f"{feature:<24} {device:<5} {speed['single_ms']:8.1f} ms  {speed['single_per_s']:8.1f}/s single"
                f"  {speed['batch_per_s']:8.1f}/s in a batch of {figures['batch']}"
            )
    out.print(f"{figures['machine']}, {figures['threads']} torch threads; ratio {figures['ratio']:.3f}", markup=False)
    write_json(figures, json_file)


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
def mqtt(
    rounds: Annotated[int, typer.Option(min=10, help="Messages for each latency.")] = 500,
    hours: Annotated[float, typer.Option(min=0.1, help="Length of the simulated session.")] = 24.0,
    json_file: JsonFile = None,
) -> None:
    """Publish to delivered, messages a second, a day's memory; the ratio is our latency to that of plain aiomqtt."""
    with agent_extra():
        from mer_agent.bench.mqtt import bench as measure
    figures = asyncio.run(measure(rounds, day_s=int(hours * 3600), say=say))
    for broker, by_qos in figures["brokers"].items():
        for qos, ways in by_qos.items():
            for way in ("ours", "plain"):
                of = ways[way]
                out.print(
                    f"{broker:<9} {qos}  {way:<5}  p50 {of['p50_ms']:6.2f}  p95 {of['p95_ms']:6.2f}"
                    f"  p99 {of['p99_ms']:6.2f} ms  {of['per_s']:7,.0f} messages/s"
                )
            out.print(f"{broker:<9} {qos}  ratio {ways['ratio']:.2f}")
    day = figures["day"]
    out.print(
        f"{day['utterances']:,} utterances in one session: peak memory {day['peak_memory_mb']:.0f} MB, "
        f"{day['growth_after_first_hour_mb']:.1f} MB of it after the first hour, {day['lost']} messages lost"
    )
    write_json(figures, json_file)
