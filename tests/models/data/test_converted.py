"""What is written into a folder comes back; a folder that was tampered with does not."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from support.tiny_iemocap import encode_texts

from mer_agent.errors import DataError
from mer_agent.models.data.converted import load_converted, read_table, write_table
from mer_agent.models.data.dialogues import Dialogue, Line, Table, ordered

PROSODY = "audio/prosody@1"


def table():
    lines = (
        Line("a", "Ann", "hm", "yes", 0.25, 1.5, (1.0, 2.5, 4.0)),
        Line("b", "Bo", "näh", "no", 1.0, 2.0),
        Line("c", "Ann", "", "no", 2.0, 3.0),
    )
    dialogues = [Dialogue(f"d{i}", s, "scripted", (lines[i],)) for i, s in enumerate(("train", "valid", "test"))]
    return Table(
        "toy",
        "toy2",
        ("no", "yes"),
        ordered("here", dialogues, ("no", "yes")),
        {"face/x@1": torch.randn(3, 4), PROSODY: torch.tensor([[1.0, 2.0], [3.0, math.nan], [5.0, 6.0]])},
        {"face/x@1": torch.tensor([True, False, True]), PROSODY: torch.ones(3).bool()},
        {PROSODY: ("duration_s", "pitch_hz_mean")},
    )


def test_everything_comes_back(tmp_path):
    written = table()
    found = read_table(write_table(written, tmp_path / "deep" / "out"))
    assert (found.name, found.label_set, found.labels) == (written.name, written.label_set, written.labels)
    assert found.dialogues == written.dialogues
    assert found.columns == written.columns
    for feature, values in written.values.items():
        torch.testing.assert_close(found.values[feature], values, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(found.present[feature], written.present[feature])
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == [
        "dialogues.jsonl",
        "features.safetensors",
    ]


def test_features_and_columns_are_picked(tmp_path):
    write_table(table(), tmp_path)
    corpus = load_converted(tmp_path, [PROSODY], descriptors=("pitch_hz_mean",))
    assert list(corpus.batch.features) == [PROSODY]
    assert corpus.batch.features[PROSODY][[0, 2], 0].tolist() == [2.0, 6.0]
    assert corpus.batch.affect[0].tolist() == [1.0, 2.5, 4.0]
    assert corpus.batch.affect[1:].isnan().all()
    with pytest.raises(DataError, match="no column 'hnr_db_mean'"):
        load_converted(tmp_path, [PROSODY], descriptors=("hnr_db_mean",))
    with pytest.raises(DataError, match="no feature 'audio/ge2e@1'"):
        load_converted(tmp_path, ["audio/ge2e@1"])


def test_text_features_are_made_of_the_words(tmp_path):
    write_table(table(), tmp_path)
    batch = load_converted(tmp_path, ["text/mpnet@1", "face/x@1"], encode_texts=encode_texts).batch
    assert batch.present["text/mpnet@1"].tolist() == [True, True, False]
    assert torch.equal(batch.features["text/mpnet@1"][1], encode_texts(["näh"])[0])


def test_features_that_are_no_numbers_are_not_written(tmp_path):
    good = table()
    bad = good.values["face/x@1"].clone()
    bad[1] = math.nan  # absent: nobody reads it
    write_table(replace(good, values={**good.values, "face/x@1": bad}), tmp_path / "out")
    bad[2, 0] = math.nan
    with pytest.raises(DataError, match="utterance c is not finite"):
        write_table(replace(good, values={**good.values, "face/x@1": bad}), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_lines_that_changed_no_longer_belong_to_the_features(tmp_path):
    path = write_table(table(), tmp_path) / "dialogues.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    records[0]["utterances"][0]["label"] = "no"
    path.write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(DataError, match="convert the data again"):
        read_table(tmp_path)


@pytest.mark.parametrize("name", ["dialogues.jsonl", "features.safetensors"])
def test_a_missing_or_damaged_file_is_a_clear_error(tmp_path, name):
    path = write_table(table(), tmp_path) / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError):
        read_table(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="does not hold converted data"):
        read_table(tmp_path)
