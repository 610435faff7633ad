"""A record says what was predicted, of which data, and refuses to be read when it no longer holds together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support import made_records, tiny_iemocap

from mer_agent.errors import DataError
from mer_agent.models.training import records
from mer_agent.models.training.recipe import Recipe


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_iemocap.corpus(tmp_path_factory.mktemp("data"))


def test_predictions_survive_packing():
    probabilities = torch.randn(50, 12).softmax(-1)
    labels = torch.randint(12, (50,))
    told = json.loads(json.dumps(records.pack(probabilities, labels)))
    found = records.unpack(told)
    assert torch.equal(found[0], labels)
    assert torch.equal(found[1], probabilities.argmax(-1))
    torch.testing.assert_close(found[2], probabilities.amax(-1), atol=5.1e-4, rtol=0)


def test_a_record_is_written_whole_and_read_back(tmp_path):
    record = made_records.record(Recipe())
    records.write(tmp_path / "a" / "one.json", record)
    assert records.read(tmp_path / "a" / "one.json") == record
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda record: record.pop("test"), "damaged"),
        (lambda record: record.update(format=1), "format 1"),
        (lambda record: record["predictions"]["test"].update(called="0"), "damaged"),
        (lambda record: record["predictions"]["test"].update(called="!" * 68), "damaged"),
        (lambda record: record["test"].update(accuracy=99.0), "not those of its scores"),
    ],
    ids=["missing", "old", "cut", "nonsense", "other"],
)
def test_a_damaged_record_is_refused(tmp_path, damage, says):
    record = made_records.record(Recipe())
    damage(record)
    (tmp_path / "one.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=says):
        records.read(tmp_path / "one.json")


def test_a_record_cut_short_is_refused(tmp_path):
    (tmp_path / "one.json").write_text('{"format": 2, ')
    with pytest.raises(DataError, match="damaged"):
        records.read(tmp_path / "one.json")
    with pytest.raises(DataError, match="can't read"):
        records.read(tmp_path / "none.json")


def test_the_fingerprint_is_that_of_the_data(corpus):
    known = records.fingerprint(corpus)
    batch = corpus.batch
    assert records.fingerprint(replace(corpus, batch=replace(batch))) == known
    relabelled = batch.labels.clone()
    relabelled[3] = (relabelled[3] + 1) % 6
    louder = {**batch.features, "audio/prosody@1": batch.features["audio/prosody@1"] * 1.01}
    for other in (
        replace(corpus, batch=replace(batch, labels=relabelled)),
        replace(corpus, batch=replace(batch, speakers=batch.speakers.flip(0))),
        replace(corpus, batch=replace(batch, features=louder)),
        replace(corpus, split=(*corpus.split[1:], corpus.split[0])),
    ):
        assert records.fingerprint(other) != known


def test_the_last_bits_of_a_feature_change_no_fingerprint(corpus):
    batch = corpus.batch
    noisy = {name: rows + 1e-7 * torch.randn_like(rows) for name, rows in batch.features.items()}
    assert records.fingerprint(replace(corpus, batch=replace(batch, features=noisy))) == records.fingerprint(corpus)
