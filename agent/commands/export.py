"""`mer-agent export`: a recorded session's emotions as a file that other programs open."""

from __future__ import annotations

import asyncio
import math
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mer_agent.errors import InputError
from mer_agent.terminal import agent_extra, out

CAPTURED = 500
"""Of a recording's sound and pictures so many are looked at for the meters, the last ones: ten seconds."""


class Format(StrEnum):
    """What a session can be written as."""

    VTT = "vtt"
    RTTM = "rttm"
    CTM = "ctm"
    CSV = "csv"
    EAF = "eaf"
    EMOTIONML = "emotionml"
    SVG = "svg"
    PNG = "png"
    VIEW = "view"


def export(
    session: Annotated[
        Path, typer.Argument(metavar="SESSION|FILE", help="Session folder, or the predictions that --output wrote.")
    ],
    to: Annotated[
        Format,
        typer.Option(
            help="vtt: subtitles; rttm: who spoke when; ctm: words; csv: a table; eaf: ELAN; emotionml: W3C's XML; "
            "svg, png: a picture of the session; view: the terminal view at its end, as SVG."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it (default: standard output)."),
    ] = None,
) -> None:
    """Write a recorded session's emotions as subtitles, annotations, a table or a picture."""
    content = _written(to, session)
    if output is None:
        if to is Format.PNG and sys.stdout.isatty():
            raise InputError("a PNG is nothing for a terminal; name a file with -o")
        out.file.flush()
        sys.stdout.buffer.write(content)
        return
    if output.resolve() == session.resolve() or output.resolve().parent == session.resolve():
        raise InputError(f"--output {output}: that is in the session itself; choose another file")
    try:
        output.write_bytes(content)
    except OSError as error:
        raise InputError(f"--output {output}: can't be written ({error.strerror})") from error


def _written(to: Format, session: Path) -> bytes:
    """The session in the format that was asked for."""
    with agent_extra():
        from mer_agent import exports, exports_xml, timeline
    judged = exports.read(session)
    if to is Format.SVG:
        return timeline.draw(judged, "svg")
    if to is Format.PNG:
        return timeline.draw(judged, "png")
    if to is Format.VIEW:
        with agent_extra():
            from mer_agent.view import picture
        return picture(session.name, judged.utterances, _captured(session)).encode()
    writers = {**exports.TEXTS, "eaf": exports_xml.to_eaf, "emotionml": exports_xml.to_emotionml}
    return writers[to.value](judged).encode()


def _captured(session: Path) -> list[Any]:
    """All that was heard and seen, if there is more of the session than its predictions."""
    if not session.is_dir():
        return []
    from mer_agent.streams.clock import VirtualClock
    from mer_agent.streams.mailbox import Mailbox
    from mer_agent.streams.replay import ReplaySource

    async def play() -> list[Any]:
        items = Mailbox[Any](CAPTURED, "drop_oldest")
        await ReplaySource(session, clock=VirtualClock(), speed=math.inf).run(items, items)
        return [item async for item in items]

    return asyncio.run(play())
