"""`mer-agent chat` and `mer-agent publish`: an agent for written conversations, and one that only plays a recording."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Annotated

import typer

from mer_agent.errors import InputError
from mer_agent.terminal import agent_extra, say


def chat(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no emotions.")] = False,
) -> None:
    """Judge a written conversation: no microphone, all that is said comes over MQTT as turns (docs/chatbots.md)."""
    with agent_extra():
        from mer_agent import inputs
        from mer_agent import run as session
    from mer_agent.listen import print_emotion
    from mer_agent.terminal import INTERRUPTED, out

    settings = context.obj.settings
    # Nobody speaks, so the model that finds words in speech needn't be loaded.
    settings = settings.model_copy(update={"transcriber": settings.transcriber.model_copy(update={"engine": "text"})})
    sinks = [] if quiet else [lambda message: print_emotion(out, message)]
    summary = asyncio.run(session.run(settings, inputs.ChatInput(), sinks=sinks, say=say))
    if summary.stopped:
        raise typer.Exit(INTERRUPTED)


def publish(
    context: typer.Context,
    recording: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines of `--output` or `listen --json`.")],
    url: Annotated[
        str | None, typer.Option("--mqtt", metavar="URL", help="Broker (default: mqtt.url, or loopback).")
    ] = None,
    speed: Annotated[str, typer.Option(metavar="1.0|max", help="1.0: at the pace of the recording.")] = "1.0",
    session: Annotated[str, typer.Option(help="Session id in the topics.")] = "replay",
) -> None:
    """Publish recorded predictions as if they happened now, without any model: for trying out a chatbot."""
    from mer_agent.client.testing import FakeAgent, recorded
    from mer_agent.wire.endpoint import Endpoint

    if speed not in ("1.0", "1", "max"):
        raise InputError(f"--speed {speed}: it is 1.0 (the recording's pace) or max")
    settings = context.obj.settings
    mqtt = settings.mqtt
    messages = recorded(recording)
    endpoint = Endpoint.from_settings(
        mqtt.model_copy(update={"url": url or mqtt.url or f"mqtt://127.0.0.1:{mqtt.port or 1883}"})
    )

    async def play() -> int:
        agent = FakeAgent(
            endpoint,
            agent=settings.agent.name,
            session=session,
            publish_text=mqtt.publish_text,
            prefix=mqtt.prefix,
        )
        async with agent:
            return await agent.replay(messages, speed=math.inf if speed == "max" else 1.0)

    say(f"{asyncio.run(play())} predictions published to {endpoint.url}")
