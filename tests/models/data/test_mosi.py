"""CMU-MOSI on small files of the same layout, rows sorted by label; the real files where they are."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from support.tiny_iemocap import encode_texts

from mer_agent.errors import DataError
from mer_agent.models.data.mosi import MOSI_FEATURES, MOSI_LABELS, load_mosi

REAL = Path(__file__).parents[4] / "shared" / "data" / "mosi"
# The order of the transcripts: by title, then by number as a word. Videos 1 to 3 are for training.
LINES = [
    ("alpha_1", "IT WAS GOOD", 2, 1),
    ("alpha_10", "I HATED THE END", 2, 0),
    ("alpha_2", "REALLY GOOD", 2, 1),
    ("beta_1", "SO BORING", 4, 0),
    ("beta_2", "BUT FUNNY", 4, 1),
    ("gam_ma_1", "AWFUL", 1, 0),
    ("gam_ma_2", "LOVELY", 1, 1),
    ("delta_1", "NICE", 3, 1),
]


def write(folder):
    with (folder / "transcripts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(LINES)
    for kind, size in (("text", 3), ("audio", 2), ("video", 4)):
        for part, wanted in (("train", lambda video: video <= 3), ("test", lambda video: video > 3)):
            rows = [(i, line) for i, line in enumerate(LINES) if wanted(line[2])]
            rows.sort(key=lambda row: -row[1][3])  # stable: positive ones first
            with (folder / f"{kind}_{part}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([[i] * size + [line[3]] for i, line in rows])
    return folder


def read(folder, features=tuple(MOSI_FEATURES)):
    return load_mosi(folder, features, encode_texts=encode_texts, last_training_video=3)


def test_each_video_is_a_monologue_with_the_features_of_its_own_utterances(tmp_path):
    corpus = read(write(tmp_path))
    batch = corpus.batch
    assert (corpus.label_set, corpus.labels) == ("mosi2", MOSI_LABELS)
    assert corpus.dialogues == ("alpha", "beta", "gam_ma", "delta")
    assert batch.names[:3] == ["alpha_1", "alpha_2", "alpha_10"]  # as they were spoken
    assert batch.speakers.tolist() == [0] * 8
    assert {name: values.shape[1] for name, values in batch.features.items()} == {
        "text/mosi@1": 3,
        "audio/mosi@1": 2,
        "face/mosi@1": 4,
    }
    places = [[line[0] for line in LINES].index(name) for name in batch.names]
    for values in batch.features.values():
        assert values[:, 0].tolist() == places
    assert batch.labels.tolist() == [LINES[i][3] for i in places]


def test_whole_training_videos_are_held_out(tmp_path):
    corpus = read(write(tmp_path))
    splits = dict(zip(corpus.dialogues, corpus.split, strict=True))
    assert splits["beta"] == "test"
    assert sorted(splits.values()) == ["test", "train", "train", "valid"]


def test_our_encoders_read_the_transcripts(tmp_path):
    corpus = read(write(tmp_path), ["text/minilm@1", "face/mosi@1"])
    row = corpus.batch.features["text/minilm@1"][corpus.batch.names.index("beta_2")]
    assert torch.equal(row, encode_texts(["BUT FUNNY"])[0])


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("text_train.csv", lambda text: text.replace("0,0,0,1", "0,0,nan,1"), "not a finite number"),
        ("text_train.csv", lambda text: text.replace("0,0,0,1", "0,0,0,0"), "is not that of alpha_1"),
        ("text_train.csv", lambda text: text.replace("0,0,0,1", "0,0,x,1"), "record 1"),
        ("text_train.csv", lambda text: text.replace("0,0,0,1", "0,0,1"), "has . values, others ."),
        ("face", None, "no feature"),
        ("video_test.csv", lambda text: text.partition("\n")[2], "1 rows, the transcripts have 2"),
        ("transcripts.csv", lambda text: text.replace("alpha_1,IT WAS GOOD,2,1", "alpha_1,IT WAS GOOD,2,"), "record 1"),
        (
            "transcripts.csv",
            lambda text: text.replace("alpha_1,IT WAS GOOD,2,1", "alpha_1,IT WAS GOOD,2,7"),
            "the label 7",
        ),
        ("transcripts.csv", lambda text: text.replace(",4,", ",3,"), "split 'test'"),
        ("transcripts.csv", lambda text: text.replace("alpha_10", "alpha_x"), "record 2"),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path, name, edit, message):
    write(tmp_path)
    features = tuple(MOSI_FEATURES)
    if edit is None:
        features = ("face/mine@1",)
    else:
        path = tmp_path / name
        changed = edit(path.read_text().replace("\r", ""))
        assert changed != path.read_text().replace("\r", "")
        path.write_text(changed)
    with pytest.raises(DataError, match=message):
        read(tmp_path, features)


def test_a_missing_file_is_named(tmp_path):
    (write(tmp_path) / "audio_test.csv").unlink()
    with pytest.raises(DataError, match=r"audio_test\.csv"):
        read(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real CMU-MOSI is not beside the repository")
def test_the_real_one_fits_its_transcripts():
    corpus = load_mosi(REAL)
    sizes = [len(corpus.part(split)) for split in ("train", "valid", "test")]
    assert (sizes[0] + sizes[1], sizes[2]) == (1447, 752)
    assert 0.1 <= sizes[1] / 1447 < 0.12
    names, text = corpus.batch.names, corpus.batch.features["text/mosi@1"]
    for one, other in (("bOL9jKpeJRs_24", "bOL9jKpeJRs_25"), ("d6hH302o4v8_27", "d6hH302o4v8_34")):
        assert torch.equal(text[names.index(one)], text[names.index(other)])  # the very same words
