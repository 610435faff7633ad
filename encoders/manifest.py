"""What was verified, written beside the files: so that a start needn't read hundreds of megabytes again.

`manifest.json` maps each file to the length and sha256 of what is kept, to the catalogue's sha256 that it was checked
against (`pin`; a new release in the catalogue makes the old file count as absent), and to the source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mer_agent.encoders.catalogue import Entry, WeightFile
from mer_agent.encoders.storing import Stored, write_whole

NAME = "manifest.json"


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Gives file -> record; a manifest that is absent or can't be read counts as empty."""
    try:
        records = json.loads((folder / NAME).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(records, dict):
        return {}
    return {name: record for name, record in records.items() if isinstance(record, dict) and "sha256" in record}


def add(folder: Path, entry: Entry, file: WeightFile, stored: Stored, source: str) -> None:
    """Records that `file` was verified; only whoever holds the folder's lock may call this."""
    records = read(folder)
    records[file.name] = {"sha256": stored.sha256, "size": stored.size, "pin": file.sha256, "source": source}
    text = json.dumps({"name": entry.name, "licence": entry.licence, "files": records}, indent=1)
    write_whole([text.encode()], folder / NAME)


def missing(folder: Path, entry: Entry) -> list[WeightFile]:
    """Gives the files that are absent, of another length than recorded, or of another release than the catalogue's."""
    records = read(folder)

    def whole(file: WeightFile) -> bool:
        record = records.get(file.name)
        if record is None or record.get("pin") != file.sha256:
            return False
        try:
            return (folder / file.name).stat().st_size == record.get("size")
        except OSError:
            return False

    return [file for file in entry.files if not whole(file)]
