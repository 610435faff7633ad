"""A data set in a folder of our own layout: what imports and the encoding of raw corpora leave behind.

    dialogues.jsonl        a dialogue a line: dialogue, split, kind, and utterances of id, speaker, text, label, and
                           where they are known start and end (seconds) and affect (valence, activation, dominance);
                           the label is null where an utterance is there for the others' sake
    features.safetensors   for each feature id a tensor [N, dimension] and `present/ID` uint8 [N]; its metadata name
                           the data set, its labels, the columns, and the sha256 of dialogues.jsonl

Neither file can run anything when it is read. Both hold what was said by whom: personal data, as the corpus is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mer_agent.errors import DataError
from mer_agent.models.data.datasets import Corpus, EncodeTexts, text_features
from mer_agent.models.data.dialogues import Dialogue, Line, Table, check_finite, ordered

LINES = "dialogues.jsonl"
FEATURES = "features.safetensors"


def write_table(table: Table, folder: Path) -> Path:
    """Writes a data set into `folder`, which it creates; gives the folder.

    Raises:
        DataError: a feature is not finite, or does not fit the lines; nothing is written then.
    """
    check_finite(table)
    lines = "".join(json.dumps(_record(dialogue), ensure_ascii=False) + "\n" for dialogue in table.dialogues).encode()
    facts = {
        "name": table.name,
        "label_set": table.label_set,
        "labels": list(table.labels),
        "columns": {feature: list(names) for feature, names in table.columns.items()},
        "lines_sha256": hashlib.sha256(lines).hexdigest(),
    }
    tensors = {feature: values.contiguous() for feature, values in table.values.items()}
    tensors |= {f"present/{feature}": table.present[feature].to(torch.uint8) for feature in table.values}
    content = save(tensors, {"mer-agent": json.dumps(facts)})
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((LINES, lines), (FEATURES, content)):
        partial = folder / f"{name}.partial"
        partial.write_bytes(data)
        partial.replace(folder / name)
    return folder


def read_table(folder: Path) -> Table:
    """Gives the data set that `write_table` wrote into `folder`.

    Raises:
        DataError: a file is missing, damaged, or does not belong to the other.
    """
    try:
        lines = (folder / LINES).read_bytes()
        with safe_open(folder / FEATURES, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["mer-agent"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
        if facts["lines_sha256"] != hashlib.sha256(lines).hexdigest():
            raise DataError(f"{folder}: {LINES} has changed since {FEATURES} was made: convert the data again")
        labels = tuple(facts["labels"])
        found = [_dialogue(json.loads(line)) for line in lines.decode().splitlines()]
        values = {name: tensor for name, tensor in tensors.items() if not name.startswith("present/")}
        present = {name: tensors[f"present/{name}"].bool() for name in values}
        columns = {feature: tuple(names) for feature, names in facts["columns"].items()}
        name, label_set = str(facts["name"]), str(facts["label_set"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise DataError(f"{folder} does not hold converted data ({LINES}, {FEATURES}): {error!r}") from error
    dialogues = ordered(str(folder), found, labels)
    table = Table(name, label_set, labels, dialogues, values, present, columns)
    check_finite(table)
    return table


def load_converted(
    folder: Path,
    features: Sequence[str] = (),
    *,
    encode_texts: EncodeTexts | None = None,
    descriptors: Sequence[str] = (),
) -> Corpus:
    """Gives the data set in `folder` with these features, or all that it brings if none is named.

    A text feature that it does not bring is made of its words by the encoder that the id names (or `encode_texts`).

    Raises:
        DataError: the folder is not sound, or has no such feature or descriptor.
    """
    table = read_table(folder)
    values, present = dict(table.values), dict(table.present)
    words = [line.text for line in table.lines]
    for feature in features:
        if feature.startswith("text/") and feature not in values and any(words):
            values[feature], present[feature] = text_features(feature, words, encode_texts)
    return replace(table, values=values, present=present).corpus(features, descriptors)


def _record(dialogue: Dialogue) -> dict[str, Any]:
    utterances = []
    for line in dialogue.lines:
        record: dict[str, Any] = {"id": line.id, "speaker": line.speaker, "text": line.text, "label": line.label}
        if line.start_s is not None and line.end_s is not None:
            record |= {"start": line.start_s, "end": line.end_s}
        if line.affect is not None:
            record["affect"] = line.affect
        utterances.append(record)
    return {
        "dialogue": dialogue.name,
        "split": dialogue.split,
        "kind": dialogue.kind,
        "utterances": utterances,
    }


def _dialogue(record: dict[str, Any]) -> Dialogue:
    lines = tuple(
        Line(
            str(u["id"]),
            str(u["speaker"]),
            str(u["text"]),
            None if u["label"] is None else str(u["label"]),
            u.get("start"),
            u.get("end"),
            tuple(u["affect"]) if "affect" in u else None,
        )
        for u in record["utterances"]
    )
    return Dialogue(str(record["dialogue"]), str(record["split"]), str(record["kind"]), lines)
