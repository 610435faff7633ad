"""`mer-agent enroll` and `mer-agent forget`: voices that are known by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mer_agent.commands.research import find_weights
from mer_agent.errors import InputError
from mer_agent.terminal import agent_extra, out, say

if TYPE_CHECKING:
    from mer_agent.streams.types import AudioChunk

VoiceName = Annotated[str, typer.Argument(metavar="NAME", help="Whose voice it is.")]


def enroll(
    context: typer.Context,
    name: VoiceName,
    recording: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Recording of that voice alone, ten seconds or so.")
    ] = None,
    mic: Annotated[str | None, typer.Option(metavar="DEVICE", help="Record from this microphone instead.")] = None,
    seconds: Annotated[float, typer.Option(min=3, max=60, help="How long to record.")] = 10.0,
    consent: Annotated[
        bool, typer.Option("--consent", help="Whose voice it is has agreed that a print of it is kept here.")
    ] = False,
) -> None:
    """Learn a voice by name. The print is kept in a file of yours, only with consent, until `mer-agent forget NAME`."""
    if (recording is None) == (mic is None):
        raise InputError("name a recording of the voice, or a microphone with --mic; one of the two")
    if not consent:
        raise InputError(
            "a voice print is biometric data: ask whose voice it is, and say --consent if the answer is yes; "
            "nothing was kept"
        )
    with agent_extra():
        from mer_agent.enrolling import chunks_of, listen_to, voice_of
        from mer_agent.streams import voice_prints
    find_weights(context)
    settings = context.obj.settings
    chunks: list[AudioChunk]
    if recording is not None:
        chunks = chunks_of(recording)
    else:
        say(f"Speak for {seconds:.0f} s ...")
        chunks = listen_to(mic or "default", seconds)
    feature, embedding, speech_s = voice_of(chunks, settings)
    file = settings.speakers.voices or voice_prints.default_file()
    voice_prints.enroll(file, name, feature, embedding, speech_s)
    out.print(f"{name}: learned from {speech_s:.1f} s of speech, kept in {file}", markup=False)


def forget(context: typer.Context, name: VoiceName) -> None:
    """Delete a voice that was enrolled."""
    from mer_agent.streams import voice_prints

    file = context.obj.settings.speakers.voices or voice_prints.default_file()
    if not voice_prints.forget(file, name):
        known = ", ".join(one.name for one in voice_prints.load(file)) or "nobody"
        raise InputError(f"{name} is not enrolled; known: {known}")
    out.print(f"{name}: forgotten", markup=False)
