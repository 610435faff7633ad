"""`mer-agent weights`: list, pull and verify pretrained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table

from mer_agent.encoders.weights import Progress as Report
from mer_agent.errors import WeightsError
from mer_agent.terminal import err, out

app = typer.Typer(no_args_is_help=True, help="Pretrained weights: list, pull, verify.")


@app.command("list")
def list_weights(context: typer.Context) -> None:
    """List the weights that the project knows, and which of them are here."""
    weights = _weights(context)
    table = Table("name", "for", "size", "licence", "here", box=None, header_style="bold")
    for entry in weights.entries():
        here = "yes" if weights.is_ready(entry.name) else "[dim]no[/]"
        size = "?" if entry.size is None else f"{entry.size / 1e6:,.1f} MB"
        table.add_row(entry.name, entry.role, size, entry.licence, here)
    out.print(table)
    out.print(f"Kept in {weights.cache_dir()}")


@app.command("pull")
def pull_weights(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Names as in `weights list`; none: what is needed.")] = None,
    source: Annotated[
        str | None, typer.Option(help="`hub`, or a folder that holds the files; default: each source in turn.")
    ] = None,
) -> None:
    """Fetch weights, check their sha256 and keep them in the cache. What is there already is not fetched again."""
    pull(context, names or [], source)
    out.print(f"Ready in {_weights(context).cache_dir()}")


@app.command("verify")
def verify_weights(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(help="Names as in `weights list`; none: all that are here.")
    ] = None,
) -> None:
    """Read every byte of the pulled weights again and compare its sha256; broken files are removed."""
    weights = _weights(context)
    if not names and not any(weights.is_ready(entry.name) for entry in weights.entries()):
        raise WeightsError(f"no weights are in {weights.cache_dir()}; run: mer-agent weights pull")
    with _progress() as report:
        problems = weights.verify(names or (), progress=report)
    for problem in problems:
        err.print(str(problem), style="red", markup=False)
    if problems:
        raise typer.Exit(1)
    out.print("All weights are as they should be.")


def pull(context: typer.Context, names: list[str] = [], source: str | None = None) -> None:  # noqa: B006 - not changed
    """Pulls what is missing of `names` (none: what the agent needs), with a progress bar."""
    weights = _weights(context)
    with _progress() as report:
        weights.pull(names, source=source, local=context.obj.settings.weights.local, progress=report)


def _weights(context: typer.Context) -> ModuleType:
    """The catalogue, told where the settings keep the weights."""
    from mer_agent.encoders import weights

    weights.set_directory(context.obj.settings.weights.dir)
    return weights


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar for each file that moves; nothing at all when everything is here."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("[dim]{task.fields[stage]}")
    with Progress(*columns, console=err, transient=False) as bars:
        shown: dict[str, TaskID] = {}

        def report(name: str, file: str, done: int, total: int, stage: str) -> None:
            if stage == "ready" and name not in shown:
                return
            if name not in shown:
                shown[name] = bars.add_task(name, total=None, stage=stage)
            bars.update(shown[name], completed=done, total=total or None, stage=f"{stage} {file}")

        yield report
