"""`mer-agent bench`: how fast the agent and its parts are; `bench_models` has how good the models are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mer_agent.commands.research import DataDir, JsonFile, find_weights, write_json
from mer_agent.terminal import agent_extra, out, say

bench = typer.Typer(
    no_args_is_help=True, help="Measure speed (the JSON has a headline `ratio`, lower is better) and accuracy."
)


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
