"""A small MELD look-alike in which every utterance names its emotion."""

from __future__ import annotations

import random
from pathlib import Path

from mer_agent.models.data.meld import FILES, MELD_LABELS


def write(folder: Path, dialogues: int = 6, length: int = 4) -> Path:
    """Writes meld/ into `folder`, the CSV files of the corpus's layout."""
    rng = random.Random(0)  # noqa: S311  # not cryptography
    folder = folder / "meld"
    folder.mkdir(parents=True)
    for split in FILES.values():
        lines = ["Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID,StartTime,EndTime"]
        for dialogue in range(dialogues):
            for at in range(length):
                label = rng.choice(MELD_LABELS)
                speaker = rng.choice(["Ross", "Rachel"])
                lines.append(f'{label} !,{speaker},{label},{dialogue},{at},"00:00:{at:02},000","00:00:{at:02},900"')
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder
