"""`mer-agent encode` and `train-encoder`: features of a media file, and the encoders that this project trains."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer
from rich.markup import escape
from rich.table import Table

from mer_agent.terminal import agent_extra, out, say, spare

if TYPE_CHECKING:
    from mer_agent.encode import Encoded


class Trainable(StrEnum):
    """The encoders that are trained here; `models.perception.train_NAME` trains NAME."""

    FACE = "face"
    VOICE = "voice"
    TEXT = "text"


class Trainer(Protocol):
    """What `models.perception.train_NAME` has to have for `mer-agent train-encoder NAME`."""

    def train_encoder(
        self, data_dir: Path, folder: Path, *, resume: bool, say: Callable[[str], None]
    ) -> dict[str, Any]:
        """Trains to the end, writes NAME.safetensors and NAME.json into `folder` (`encoders.shipped.save`).

        Args:
            data_dir: the folder of all data sets (the setting `data.dir`).
            folder: where the result and the state of an unfinished run are kept.
            resume: go on from the state in `folder`, if there is one.
            say: takes a line of progress.

        Returns:
            The figures of the card, name -> number in percent or a mapping of those.
        """
        ...


def train_encoder(
    context: typer.Context,
    name: Annotated[Trainable, typer.Argument(help="Which encoder.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run stopped.")] = False,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Data sets (default: data.dir).")] = None,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where state, weights and card are kept.")] = Path(
        "runs/encoders"
    ),
) -> None:
    """Train one of the project's own encoders; `--resume` goes on with a run that was stopped."""
    settings = context.obj.settings
    with agent_extra():
        from mer_agent.encoders import base, weights
    weights.set_directory(settings.weights.dir)
    base.limit_threads(settings.encoders.threads)
    with agent_extra("train"):
        trainer = cast("Trainer", importlib.import_module(f"mer_agent.models.perception.train_{name.value}"))
    figures = trainer.train_encoder(data_dir or settings.data.dir, folder, resume=resume, say=say)
    for key, value in figures.items():
        if not isinstance(value, dict | list):
            out.print(f"{key:<28} {value:.2f}" if isinstance(value, float) else f"{key:<28} {value}", markup=False)
    out.print(f"Weights and card are in {folder}: {name.value}.safetensors, {name.value}.json", markup=False)


def encode(
    context: typer.Context,
    media: Annotated[Path, typer.Argument(metavar="FILE", help="Media file or session folder.")],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them to this .safetensors file.")] = None,
    feature: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this feature; may be given again (default: all).")
    ] = None,
    with_text: Annotated[bool, typer.Option("--with-text", help="Write the words, too.")] = False,
) -> None:
    """Give the features of every utterance in a recording, as the agent would compute them live."""
    with agent_extra():
        from mer_agent import encode as encoding
    if output is not None:
        spare(media, output)
    encoded = asyncio.run(
        encoding.encode(context.obj.settings, media, wanted=feature or (), with_text=with_text, say=say)
    )
    if output is not None:
        encoding.save(encoded, output, with_text=with_text)
    out.print(_table(encoded, with_text))
    for name, count in encoded.failed.items():
        say(f"{name} failed on {count} of {len(encoded.utterances)} utterances")
    if output is not None:
        out.print(f"{len(encoded.utterances)} utterances, {len(encoded.encoders)} features: {output}", markup=False)


def _table(encoded: Encoded, with_text: bool) -> Table:
    """One line for each utterance: who, when, how long each feature is (- where it is absent)."""
    table = Table("utterance", "speaker", "start s", "end s", box=None, header_style="bold")
    for encoder in encoded.encoders:
        table.add_column(encoder.feature, justify="right")
    if with_text:
        table.add_column("words")
    for i, one in enumerate(encoded.utterances):
        cells = [one.id, "?" if one.speaker is None else str(one.speaker)]
        cells += [f"{one.start_ns / 1e9:.2f}", f"{one.end_ns / 1e9:.2f}"]
        rows = (encoded.rows[encoder.feature][i] for encoder in encoded.encoders)
        cells += ["-" if row is None else str(len(row)) for row in rows]
        table.add_row(*cells, *([escape(one.text)] if with_text else []))
    return table
