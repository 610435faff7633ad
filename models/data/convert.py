"""What `mer-agent convert` reads: every layout that data come in, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mer_agent.errors import DataError
from mer_agent.models.data.converted import write_table
from mer_agent.models.data.dialogues import Table
from mer_agent.models.data.published import LAYOUTS, read_published
from mer_agent.models.data.raw_corpora import read_iemocap_release, read_meld_raw
from mer_agent.models.data.ur_funny import read_ur_funny

READERS: dict[str, Callable[[Path], Table]] = {
    **{layout: partial(read_published, layout=layout) for layout in LAYOUTS},
    "ur-funny": read_ur_funny,
    "iemocap-release": read_iemocap_release,
    "meld-raw": read_meld_raw,
}
"""Layout -> what reads it: published features, then raw corpora, whose clips the live encoders encode."""


def convert(source: Path, folder: Path, layout: str) -> Table:
    """Converts data into `folder`, for `converted.load_converted` to read; gives what is in it now.

    Args:
        source: the pickle, or the folder of a layout that has several files.
        folder: where to write safetensors and JSON lines; created if need be.
        layout: a name in `READERS`.

    Raises:
        DataError: another layout, a damaged file, or a pickle with more in it than features (nothing of it is run).
    """
    if layout not in READERS:
        raise DataError(f"no layout is called {layout!r}: give one of {', '.join(READERS)}")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    table = READERS[layout](source)
    write_table(table, folder)
    return table
