"""The command line: `mer-agent --mic 0 --camera 0` or `mer-agent --replay FILE`, and commands around it.

Each command is a few lines that call the part which does the work. Heavy packages are imported inside the commands,
so that `--help` answers at once and the client's commands work without torch.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mer_agent import __version__
from mer_agent.commands import bench_models, client, encoders, export, research, voices, weights
from mer_agent.config import settings as config
from mer_agent.errors import InputError
from mer_agent.terminal import INTERRUPTED, agent_extra, leave, out, report, say, spare

if TYPE_CHECKING:
    from mer_agent.wire.schema import EmotionMessage

app = typer.Typer(
    name="mer-agent",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(weights.app, name="weights")
app.add_typer(bench_models.bench, name="bench")  # with those of `bench`
app.command()(client.chat)
app.command()(client.publish)
app.command()(research.train)
app.command()(research.evaluate)
app.command()(research.convert)
app.command()(encoders.encode)
app.command()(encoders.train_encoder)
app.command()(export.export)
app.command()(voices.enroll)
app.command()(voices.forget)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    mic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]DEVICE",
            help="Microphone: default, an index or (part of) a name. Several, each with its speaker: "
            "--mic ann=0 --mic bob=1.",
        ),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE",
            help="Camera, beside a microphone: default, an index, (part of) a name, a file, or a stream's URL.",
        ),
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Media file (wav, flac, mp3, mp4, mkv ...) or session folder.")
    ] = None,
    speed: Annotated[str, typer.Option(metavar="1.0|max", help="Replay speed: 1.0 is real time.")] = "1.0",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write each prediction as a JSON line.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write all that is heard, seen and said into a new folder, for --replay."),
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option(metavar="URL", help="Broker, mqtt://HOST:PORT; without it an embedded one starts.")
    ] = None,
    mqtt_port: Annotated[int | None, typer.Option(help="Port of the embedded broker (1883 if that is free).")] = None,
    publish_text: Annotated[bool, typer.Option("--publish-text", help="Send the spoken words over MQTT, too.")] = False,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint", "--model", metavar="NAME", help="Fusion model: a shipped name or a .safetensors file."
        ),
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Session id in the topics (default: made from the file's name or the time).")
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file with settings.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as in --set mqtt.port=1884.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print neither predictions nor progress.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print predictions as JSON, a line each.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Say more, and show where an error came from.")] = False,
) -> None:
    """Streaming emotion recognition in conversation.

    Hears a conversation, finds out who speaks and what is said, and publishes over MQTT which emotion each utterance
    expresses, while the conversation runs.

    **Try it:** `mer-agent demo` · **Live:** `mer-agent --mic default --camera default`
    · **Your recording:** `mer-agent --replay talk.mp4 --speed max --output out.jsonl`
    · **Listen:** `mer-agent listen`
    """
    logging.basicConfig(format="mer-agent: %(message)s", level=logging.WARNING)
    if debug:
        logging.getLogger("mer_agent").setLevel(logging.INFO)
    if version:
        out.print(f"mer-agent {__version__}")
        return
    options: dict[str, tuple[Any, str]] = {}
    for key, name, value in (
        ("mqtt.url", "--mqtt", mqtt),
        ("mqtt.port", "--mqtt-port", mqtt_port),
        ("mqtt.publish_text", "--publish-text", publish_text or None),
        ("model.checkpoint", "--checkpoint", checkpoint),
        ("agent.session", "--session", session),
        ("microphone.device", "--mic", ";".join(mic) if mic else None),
        ("camera.device", "--camera", ";".join(camera) if camera else None),
    ):
        if value is not None:
            options[key] = (value, name)
    context.obj = loaded = config.load(config_file, os.environ, assignments or (), options)
    if context.invoked_subcommand is not None:
        for option, given in (("--replay", replay), ("--mic", mic), ("--camera", camera), ("--record", record)):
            if given:
                raise InputError(f"{option} and `{context.invoked_subcommand}` are two things to do; give one of them")
        return
    if replay is not None and (mic or camera):
        raise InputError("--replay plays a recording, --mic and --camera are live; give one or the other")
    if speed not in ("1.0", "1", "max"):
        raise InputError(f"--speed {speed}: it is 1.0 (real time) or max")
    if replay is not None and record is not None:
        raise InputError("--record is for live sessions: a replay is a recording already")
    if json_lines and quiet:
        raise InputError("--json prints and --quiet doesn't; give one of them")
    _run(
        loaded.settings, replay, real_time=speed != "max", output=output, record=record, quiet=quiet, as_json=json_lines
    )


def _run(
    settings: config.Settings,
    recording: Path | None,
    *,
    real_time: bool,
    output: Path | None,
    record: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    with agent_extra():
        from mer_agent import inputs
        from mer_agent import run as session
        from mer_agent.view import View
    from mer_agent.jsonl import JsonLines
    from mer_agent.listen import print_emotion

    if recording is not None:
        heard: inputs.Input = inputs.ReplayInput(recording, settings, real_time)
    elif settings.microphone.device or settings.camera.device:
        heard = inputs.LiveInput(settings)
    else:
        raise InputError(
            "nothing to hear: name a microphone with --mic default, or a recording with --replay PATH, "
            "or try `mer-agent demo`"
        )
    with ExitStack() as stack:
        view = View(out) if real_time and out.is_terminal and not (quiet or as_json) else None
        sinks: list[Any] = [] if quiet else [view or _printer(partial(print_emotion, json_lines=as_json))]
        if output is not None:
            if recording is not None:
                spare(recording, output)
            sinks.append(stack.enter_context(JsonLines(output)))
        if view is not None:
            stack.enter_context(view)
        telling = view.say if view else (lambda text: None) if quiet else say
        summary = asyncio.run(session.run(settings, heard, sinks=sinks, say=telling, record=record, view=view))
    if not quiet:
        say(
            f"{summary.utterances} utterances in {summary.media_s:.1f} s of sound, worked on for {summary.work_s:.1f} s"
        )
    if summary.stopped:
        leave()


def _printer(print_emotion: Callable[[Console, EmotionMessage], None]) -> Callable[[EmotionMessage], None]:
    """Prints predictions for as long as anybody reads them; publishing goes on either way."""
    gone = False

    def sink(message: EmotionMessage) -> None:
        nonlocal gone
        if not gone:
            try:
                print_emotion(out, message)
            except OSError:
                gone = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return sink


@app.command("config")
def show_config(
    context: typer.Context,
    toml: Annotated[bool, typer.Option("--toml", help="As a file for --config, with what each setting means.")] = False,
) -> None:
    """Print the effective settings, and where each came from."""
    loaded: config.Loaded = context.obj
    if toml:
        out.print(config.as_toml(loaded), markup=False, end="")
        return
    width = max(len(setting.key) for setting in loaded)
    for setting in loaded:
        changed = setting.origin != "default"
        line = f"{setting.key:<{width}}  {config.plain(setting.value) or '-':<24}  {setting.origin}"
        out.print(line, markup=False, style="bold" if changed else "")


@app.command()
def demo(context: typer.Context) -> None:
    """Replay a recorded conversation at real speed; a second process prints the emotions that reach it over MQTT."""
    with agent_extra():
        from mer_agent.demo import run_demo
    weights.pull(context)
    if asyncio.run(run_demo(context.obj.settings)).stopped:
        raise typer.Exit(INTERRUPTED)


@app.command()
def listen(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option("--mqtt", metavar="URL", help="Broker (default: mqtt.url, or loopback).")
    ] = None,
    agent: Annotated[str, typer.Option(help="Which agent; + is any.")] = "+",
    session: Annotated[str, typer.Option(help="Which session; + is any.")] = "+",
    speaker: Annotated[str, typer.Option(help="Which speaker; + is any.")] = "+",
    until_offline: Annotated[bool, typer.Option("--until-offline", help="End when the agent goes offline.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print the messages themselves, a line each.")] = False,
) -> None:
    """Subscribe to the emotions as a chatbot would, and print them as they arrive."""
    from mer_agent.listen import listen as subscribe
    from mer_agent.wire.endpoint import Endpoint

    settings = context.obj.settings.mqtt
    address = url or settings.url or f"mqtt://127.0.0.1:{settings.port or 1883}"
    endpoint = Endpoint.from_settings(settings.model_copy(update={"url": address}))
    asyncio.run(
        subscribe(
            endpoint,
            agent=agent,
            session=session,
            speaker=speaker,
            until_offline=until_offline,
            json_lines=json_lines,
            prefix=settings.prefix,
        )
    )


@app.command()
def devices(
    json_lines: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the microphones and cameras of this machine, as --mic and --camera take them."""
    with agent_extra("live"):
        from mer_agent.streams.camera import cameras
        from mer_agent.streams.microphone import microphones
    found = {"microphone": microphones(), "camera": cameras()}
    if json_lines:
        listing = {kind: [asdict(device) for device in listed] for kind, listed in found.items()}
        out.file.write(json.dumps(listing, indent=2) + "\n")
        return
    for kind, listed in found.items():
        out.print(f"{kind}s (--{kind.replace('microphone', 'mic')}):", style="bold")
        for device in listed:
            star = "*" if device.default else " "
            out.print(f"{star}{device.index:>3}  {device.name:<40}  {device.format}", markup=False)
        if not listed:
            out.print("  none", style="dim")
    out.print("* is the default", style="dim", markup=False)


@app.command()
def schema(
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="The whole contract, as an AsyncAPI document.")] = False,
) -> None:
    """Print the JSON Schema of every message."""
    from mer_agent.wire.asyncapi import document, json_schemas

    # Past rich, which would break lines at the terminal's width.
    out.file.write(json.dumps(document() if asyncapi else json_schemas(), indent=2) + "\n")


def main() -> None:
    """Runs the command line. An error is one line on standard error and an exit code: 2 bad input, 1 fault."""
    try:
        app()
    except (KeyboardInterrupt, asyncio.CancelledError):
        leave()
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Nothing is left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(report(error))


if __name__ == "__main__":
    main()
