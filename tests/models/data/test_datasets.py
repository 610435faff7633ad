"""The loader on small files of the same layout, and on ones that are broken."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support import tiny_iemocap as corpus

from mer_agent.errors import DataError
from mer_agent.models.data.corpora import load
from mer_agent.models.data.datasets import IEMOCAP_LABELS


def read(tmp_path, features=corpus.FEATURES, **more):
    more = {"encode_texts": corpus.encode_texts, "descriptors": corpus.DESCRIPTORS} | more
    return load("iemocap", tmp_path, features, **more)


def change(folder, edit):
    path = folder / "dialogues.jsonl"
    dialogues = [json.loads(line) for line in path.read_text().splitlines()]
    edit(dialogues)
    path.write_text("\n".join(map(json.dumps, dialogues)))


def test_it_reads_everything(tmp_path):
    corpus.write(tmp_path)
    found = read(tmp_path)
    assert found.label_set == "iemocap6"
    assert found.labels == IEMOCAP_LABELS
    assert len(found.batch) == 140
    assert {name: tuple(values.shape) for name, values in found.batch.features.items()} == {
        "text/mpnet@1": (140, 16),
        "audio/ge2e@1": (140, 256),
        "audio/prosody@1": (140, 3),
    }
    assert all(present.all() for present in found.batch.present.values())
    assert len(found.part("train")) == 80
    assert len(found.part("test", "improvised")) == 20
    row = found.batch.names.index("valid1_4")
    assert torch.equal(
        found.batch.features["text/mpnet@1"][row], corpus.encode_texts([f"{text(tmp_path, 'valid1_4')}"])[0]
    )
    prosody = found.batch.features["audio/prosody@1"]
    assert prosody[:, 1].tolist() == [50 + 5 * k for k in found.batch.labels.tolist()]
    assert prosody[:, 2].isnan().any()


def test_ratings_are_read_where_they_are(tmp_path):
    folder = corpus.write(tmp_path)
    assert read(tmp_path).batch.affect is None
    path = folder / "dimensional.csv"
    path.write_text("utterance_id,valence,activation,dominance,raters\ntrain0_1,3.5,2,,2\n")
    affect = read(tmp_path).part("train").affect
    assert affect.shape == (80, 3)
    assert affect[1, :2].tolist() == [2.5, 4]  # in the file 5 is unpleasant and calm
    assert int(affect.isnan().sum()) == 80 * 3 - 2
    path.write_text("utterance_id,valence\ntrain0_1,high\n")
    with pytest.raises(DataError, match=r"dimensional\.csv"):
        read(tmp_path)


def test_pitch_is_undefined_as_a_whole(tmp_path):
    corpus.write(tmp_path)
    names = ("pitch_hz_mean", "pitch_hz_deviation", "pitch_hz_range", "hnr_db_mean")
    rows = read(tmp_path, descriptors=names).batch.features["audio/prosody@1"].isnan()
    assert 0 < rows[:, 0].sum() < len(rows)
    assert torch.equal(rows[:, 0], rows[:, 1])
    assert torch.equal(rows[:, 0], rows[:, 2])
    assert not rows[:, 3].any()


def text(tmp_path, name):
    for line in (tmp_path / "iemocap" / "dialogues.jsonl").read_text().splitlines():
        for utterance in json.loads(line)["utterances"]:
            if utterance["id"] == name:
                return utterance["text"]
    raise AssertionError(name)


def test_utterances_stand_in_the_order_of_their_ends_and_speakers_in_that_of_appearance(tmp_path):
    folder = corpus.write(tmp_path, length=4)

    def edit(dialogues):
        first = dialogues[0]["utterances"]
        for utterance, end, speaker in zip(first, (9.0, 2.0, 5.0, 3.0), "MFMF", strict=True):
            utterance.update(end=end, speaker=speaker)

    change(folder, edit)
    found = read(tmp_path)
    assert found.batch.names[:4] == ["train0_1", "train0_3", "train0_2", "train0_0"]
    assert found.batch.speakers[:4].tolist() == [0, 0, 1, 1]


def test_an_utterance_that_was_not_measured_is_absent_not_zero(tmp_path):
    folder = corpus.write(tmp_path)
    with np.load(folder / "ge2e.npz") as archive:
        np.savez(folder / "ge2e.npz", id=archive["id"][1:], embedding=archive["embedding"][1:])
    change(folder, lambda dialogues: dialogues[0]["utterances"][0].update(text=""))
    found = read(tmp_path)
    assert not found.batch.present["audio/ge2e@1"][0]
    assert not found.batch.present["text/mpnet@1"][0]
    assert found.batch.present["audio/ge2e@1"][1:].all()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d[0]["utterances"][0].update(label="xxx"), "label 'xxx'"),
        (lambda d: d[0]["utterances"][0].pop("label"), "'label' is missing"),
        (lambda d: d[0]["utterances"][0].update(end=float("nan")), "no proper start and end"),
        (lambda d: d[0]["utterances"][0].update(start=None), "no proper start and end"),
        (lambda d: d[0]["utterances"][0].update(text=None), "no proper text"),
        (lambda d: d[0]["utterances"][1].update(id="train0_0"), "stands there twice"),
        (lambda d: d[0].update(split="dev"), "split 'dev'"),
        (lambda d: d[0].update(utterances=[]), "without utterances"),
        (lambda d: d[0].pop("utterances"), "'utterances' is missing"),
        (lambda d: [x.update(split="train") for x in d], "no dialogue of the split 'valid'"),
    ],
)
def test_broken_dialogues_are_told(tmp_path, edit, message):
    change(corpus.write(tmp_path), edit)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_broken_files_are_told(tmp_path):
    with pytest.raises(DataError, match="--data-dir"):
        read(tmp_path)
    folder = corpus.write(tmp_path)
    (folder / "prosody.csv").write_text("utterance_id,duration\ntrain0_0,long\n")
    with pytest.raises(DataError, match=r"prosody\.csv"):
        read(tmp_path)
    (folder / "prosody.csv").unlink()
    with pytest.raises(DataError, match=r"prosody\.csv"):
        read(tmp_path)
    (folder / "ge2e.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match=r"ge2e\.npz"):
        read(tmp_path)
    (folder / "dialogues.jsonl").write_text("{not json\n")
    with pytest.raises(DataError, match=r"dialogues\.jsonl, line 1"):
        read(tmp_path)
    (folder / "dialogues.jsonl").unlink()
    with pytest.raises(DataError, match=r"dialogues\.jsonl"):
        read(tmp_path)


def test_bad_embeddings_are_told(tmp_path):
    folder = corpus.write(tmp_path)
    with np.load(folder / "ge2e.npz") as archive:
        names, values = archive["id"], archive["embedding"].copy()
    values[3, 7] = np.nan
    np.savez(folder / "ge2e.npz", id=names, embedding=values)
    with pytest.raises(DataError, match="train0_3 are not 256 finite numbers"):
        read(tmp_path)
    np.savez(folder / "ge2e.npz", id=np.array(["other"]), embedding=values[:1])
    with pytest.raises(DataError, match="none of the utterances"):
        read(tmp_path)


def test_what_is_not_there_can_not_be_asked_for(tmp_path):
    corpus.write(tmp_path)
    with pytest.raises(DataError, match="no data set is called 'nothing'"):
        load("nothing", tmp_path, corpus.FEATURES)
    with pytest.raises(DataError, match="face/densenet@1"):
        read(tmp_path, features=("face/densenet@1",))
    with pytest.raises(DataError, match="no prosodic descriptor 'jitter'"):
        read(tmp_path, descriptors=("jitter",))
    with pytest.raises(DataError, match="without naming"):
        read(tmp_path, descriptors=())


def test_text_features_are_kept(tmp_path, monkeypatch):
    corpus.write(tmp_path / "data")
    calls = []
    monkeypatch.setattr("mer_agent.models.data.datasets.user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(
        "mer_agent.models.data.datasets._encoder",
        lambda feature: lambda texts: calls.append(len(texts)) or corpus.encode_texts(texts),
    )
    first = load("iemocap", tmp_path / "data", ["text/mpnet@1"])
    assert sum(calls) == 140
    again = load("iemocap", tmp_path / "data", ["text/mpnet@1"])
    assert sum(calls) == 140
    assert torch.equal(first.batch.features["text/mpnet@1"], again.batch.features["text/mpnet@1"])
    load("iemocap", tmp_path / "data", ["text/minilm@1"])  # another recipe is another cache
    assert sum(calls) == 280
