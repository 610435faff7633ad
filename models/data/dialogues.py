"""A data set on its way to a `Corpus`: labelled dialogues, and features whose rows follow their lines.

Every reader of data ends here, so that each is checked, ordered and made anonymous by the same rules: lines in the
order in which they end, where their times are known; speakers 0, 1, ... in order of appearance; no label but those of
the set; no dialogue without a line; no split left empty; no NaN where a feature may have none.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mer_agent.errors import DataError
from mer_agent.models.batch import NO_LABEL, Batch
from mer_agent.models.data.datasets import SPLITS, Corpus

MAY_BE_NAN = "audio/prosody@"
"""A descriptor may be undefined (no voiced frame): models replace it. Other features are numbers or absent."""


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance. Times are seconds on the clock of its dialogue, None where nobody knows them."""

    id: str
    speaker: str
    text: str
    label: str | None
    """None: it is there for the others' sake and is not judged, as the sentences before a punchline."""
    start_s: float | None = None
    end_s: float | None = None
    affect: tuple[float, float, float] | None = None
    """Valence, activation and dominance, 1 to 5."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The lines of one conversation (or of a monologue), all in one split."""

    name: str
    split: str
    kind: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A data set with its features: `values[id]` is float32 [N, dimension], `present[id]` bool [N].

    N counts the lines of all `dialogues`, in their order. `columns` names the columns of a feature that has nameable
    ones.
    """

    name: str
    label_set: str
    labels: tuple[str, ...]
    dialogues: tuple[Dialogue, ...]
    values: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    columns: Mapping[str, tuple[str, ...]]

    @property
    def lines(self) -> list[Line]:
        """The lines of all dialogues, as the rows of the features follow them."""
        return [line for dialogue in self.dialogues for line in dialogue.lines]

    def corpus(self, features: Sequence[str] = (), descriptors: Sequence[str] = ()) -> Corpus:
        """Gives what training reads: these features (all of them if none is named).

        Args:
            features: feature ids.
            descriptors: the columns of a feature with named ones, in order; all of them if none is named.

        Raises:
            DataError: a feature or a column is not there, or holds NaN where it must not.
        """
        lines, wanted = self.lines, tuple(features) or tuple(self.values)
        check_finite(self)
        values = {feature: self._picked(feature, descriptors) for feature in wanted}
        speakers: list[int] = []
        for dialogue in self.dialogues:
            seen: dict[str, int] = {}
            speakers += [seen.setdefault(line.speaker, len(seen)) for line in dialogue.lines]
        lengths = torch.tensor([len(dialogue.lines) for dialogue in self.dialogues])
        rated = [line.affect or (math.nan,) * 3 for line in lines] if any(line.affect for line in lines) else None
        batch = Batch(
            values,
            {feature: self.present[feature] for feature in wanted},
            torch.tensor(speakers),
            torch.repeat_interleave(torch.arange(len(self.dialogues)), lengths),
            torch.tensor([NO_LABEL if line.label is None else self.labels.index(line.label) for line in lines]),
            [line.id for line in lines],
            None if rated is None else torch.tensor(rated),
        )
        return Corpus(
            self.name,
            self.label_set,
            self.labels,
            batch,
            tuple(dialogue.split for dialogue in self.dialogues),
            tuple(dialogue.kind for dialogue in self.dialogues),
            tuple(dialogue.name for dialogue in self.dialogues),
        )

    def _picked(self, feature: str, descriptors: Sequence[str]) -> Tensor:
        if feature not in self.values:
            raise DataError(f"{self.name} has no feature {feature!r}; it has {', '.join(self.values) or 'none'}")
        names = self.columns.get(feature, ())
        if not names or not descriptors:
            return self.values[feature]
        missing = [name for name in descriptors if name not in names]
        if missing:
            raise DataError(f"{feature} has no column {missing[0]!r}; it has {', '.join(names)}")
        return self.values[feature][:, [names.index(name) for name in descriptors]]


def ordered(where: str, dialogues: Sequence[Dialogue], labels: Sequence[str]) -> tuple[Dialogue, ...]:
    """Gives the dialogues with their lines in the order of their ends (as they stand where times are unknown).

    Raises:
        DataError: a label that is not of the set, an id that stands there twice, improper times, a dialogue without
            lines, a split that is unknown or has none. `where` begins the message.
    """
    seen: set[str] = set()
    for dialogue in dialogues:
        if dialogue.split not in SPLITS:
            raise DataError(f"{where}: dialogue {dialogue.name} has the split {dialogue.split!r}: give one of {SPLITS}")
        if all(line.label is None for line in dialogue.lines):
            raise DataError(f"{where}: dialogue {dialogue.name} has no utterances to judge")
        for line in dialogue.lines:
            if line.id in seen:
                raise DataError(f"{where}: utterance {line.id} stands there twice")
            seen.add(line.id)
            if line.label is not None and not line.label:
                raise DataError(f"{where}: utterance {line.id} has no label")
            if line.label is not None and line.label not in labels:
                raise DataError(
                    f"{where}: utterance {line.id} has the label {line.label!r}: not of {', '.join(labels)}"
                )
            times = (line.start_s, line.end_s)
            if any(at is not None and not math.isfinite(at) for at in times) or (
                line.start_s is not None and line.end_s is not None and line.end_s < line.start_s
            ):
                raise DataError(f"{where}: utterance {line.id} has no proper start and end")
    count = Counter(dialogue.split for dialogue in dialogues)
    for split in SPLITS:
        if not count[split]:
            raise DataError(f"{where} has no dialogue of the split {split!r}: is a file of it missing?")
    return tuple(replace(dialogue, lines=_by_end(dialogue.lines)) for dialogue in dialogues)


def _by_end(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    if any(line.start_s is None or line.end_s is None for line in lines):
        return lines
    return tuple(sorted(lines, key=lambda line: (line.end_s, line.start_s)))


def held_out(sizes: Mapping[str, int], share: float = 0.1) -> set[str]:
    """Gives the dialogues to validate on: whole ones, at least `share` of all utterances, the same ones every time.

    Their order is that of the sha256 of their names, so neither the order of a file nor a seed decides.
    """
    wanted, total, chosen = share * sum(sizes.values()), 0, set()
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if total >= wanted:
            break
        chosen.add(name)
        total += sizes[name]
    return chosen


def check_finite(table: Table) -> None:
    """Raises DataError where a feature has a wrong shape, or holds NaN or infinity where it may have none."""
    lines = table.lines
    for feature, values in table.values.items():
        present = table.present[feature]
        if values.ndim != 2 or len(values) != len(lines) or present.shape != (len(lines),):
            raise DataError(
                f"{table.name}: {feature} has the shape {list(values.shape)} for {len(lines)} utterances: "
                "it belongs to another data set"
            )
        broken = values.isinf() if feature.startswith(MAY_BE_NAN) else ~values.isfinite()
        rows = (broken.any(1) & present).nonzero().flatten().tolist()
        if rows:
            raise DataError(
                f"{table.name}: {feature} of utterance {lines[rows[0]].id} is not finite ({len(rows)} such rows)"
            )


def gathered(where: str, rows: Mapping[str, Sequence[float] | Tensor], lines: Sequence[Line]) -> tuple[Tensor, Tensor]:
    """Gives the rows [N, dimension] of the lines, and which of them there were; rows of other ids are left out.

    Raises:
        DataError: there is no row of any line, or the rows differ in length.
    """
    present = torch.tensor([line.id in rows for line in lines])
    if not present.any():
        raise DataError(f"{where} holds none of the utterances: is it of another data set?")
    dimension = len(next(rows[line.id] for line in lines if line.id in rows))
    values = torch.zeros(len(lines), dimension)
    for i, line in enumerate(lines):
        row = rows.get(line.id)
        if row is None:
            continue
        if len(row) != dimension:
            raise DataError(f"{where}: utterance {line.id} has {len(row)} values, others {dimension}")
        values[i] = torch.as_tensor(row, dtype=torch.float32)
    return values, present
