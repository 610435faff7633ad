"""The FER+ protocol on rows that were counted by hand, and tables that are none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mer_agent.errors import DataError
from mer_agent.models.data.ferplus import EMOTIONS, NOT_EMOTIONS, for_training, in_protocol, load, without_outliers

VOTES = (*EMOTIONS, *NOT_EMOTIONS)


def votes(**given: int) -> torch.Tensor:
    return torch.tensor([[float(given.get(name, 0)) for name in VOTES]])


@pytest.mark.parametrize(
    ("given", "judged", "learned"),
    [
        ({"happiness": 10}, True, True),
        ({"happiness": 6, "neutral": 4}, True, True),
        ({"happiness": 5, "neutral": 5}, False, True),  # no majority
        ({"happiness": 5, "neutral": 4, "fear": 1}, True, True),  # 5 of 9, once the outlier is gone
        ({"happiness": 4, "neutral": 3, "fear": 3}, False, True),
        ({"unknown": 6, "anger": 4}, False, False),
        ({"anger": 4, "unknown": 4, "fear": 2}, False, True),
        ({"NF": 10}, False, False),
        (dict.fromkeys(VOTES, 1), False, False),  # all outliers
    ],
)
def test_the_protocol(given: dict[str, int], judged: bool, learned: bool) -> None:
    assert in_protocol(votes(**given)).item() is judged
    assert for_training(votes(**given)).item() is learned


def test_one_rater_alone_is_an_outlier() -> None:
    assert without_outliers(votes(fear=1, anger=2)).sum() == 2


def png(side: int = 48, level: int = 0) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(np.full((side, side), level, np.uint8)).save(kept, "PNG")
    return kept.getvalue()


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    import pyarrow
    from pyarrow import parquet

    blank = dict.fromkeys(VOTES, 0)
    parquet.write_table(pyarrow.Table.from_pylist([{**blank, **row} for row in rows]), path)
    return path


def rows() -> list[dict[str, object]]:
    return [{"split": split, "png": png(level=9), "happiness": 8, "fear": 2} for split in ("train", "valid", "test")]


def test_a_table_becomes_faces_and_distributions(tmp_path: Path) -> None:
    extra = [{"split": "test", "png": png(), "unknown": 10}, {"split": "train", "png": png(), "fear": 5, "anger": 5}]
    parts = load(write(tmp_path / "f.parquet", rows() + extra))
    assert {split: len(part) for split, part in parts.items()} == {"train": 2, "valid": 1, "test": 1}
    test = parts["test"]
    assert (test.images.shape, test.images.dtype, test.images.unique().tolist()) == ((1, 1, 48, 48), torch.uint8, [9])
    assert test.votes[0, EMOTIONS.index("happiness")] == pytest.approx(0.8)
    assert parts["train"].votes.sum(1).tolist() == pytest.approx([1, 1])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        load(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.parquet").write_bytes(content)
    with pytest.raises(DataError, match="not the table of FER\\+ faces"):
        load(tmp_path / "bad.parquet")


@pytest.mark.parametrize("change", [{"png": b"no picture"}, {"png": png(side=47)}], ids=["broken", "other size"])
def test_a_picture_that_is_none_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not the table of FER\\+ faces"):
        load(write(tmp_path / "f.parquet", [*rows(), {**rows()[0], **change}]))


def test_a_split_without_faces_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split test"):
        load(write(tmp_path / "f.parquet", rows()[:2]))


def test_missing_columns_are_an_error(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"split": ["train"]}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match="not the table"):
        load(tmp_path / "f.parquet")
