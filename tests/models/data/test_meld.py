"""MELD on small files of the corpus's layout; the real files where they lie beside the repository."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch
from support.tiny_iemocap import encode_texts

from mer_agent.errors import DataError
from mer_agent.models.data.datasets import PROSODY_COLUMNS
from mer_agent.models.data.meld import MELD_LABELS, load_meld, mended, seconds

REAL = Path(__file__).parents[4] / "shared" / "data" / "meld"
HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
FEATURES = ("text/mpnet@1", "audio/prosody@1")
DESCRIPTORS = ("duration_s", "pitch_hz_deviation", "articulation_rate_hz")

ROWS = {
    "train": [
        "1,You\x92re late,Rachel,joy,positive,125,2,8,21,'00:00:05,000','00:00:06,500'",
        "2,'Sorry, sorry',The Waiter,sadness,negative,125,3,8,21,'0:00:01,000','0:00:02,031'",
        "3,No,Rachel,neutral,neutral,126,0,8,21,'01:00:01,000','01:00:02,000'",
    ],
    "dev": ["1,Well,Ross,anger,negative,110,7,1,1,'00:00:01,000','00:00:02,000'"],
    "test": ["1,Oh,Ross,Surprise,neutral,125,2,1,1,'00:00:01,000','00:00:02,000'"],
}


def write(folder, name="{}.csv"):
    folder.mkdir(exist_ok=True)
    for split, rows in ROWS.items():
        path = folder / name.format(split)
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([HEADER, *rows]).replace("'", '"') + "\n", encoding="utf-8")
    prosody = {
        "train": ["dia125_utt2.wav,1.5,60,5,200,20,90,4,9", "dia125_utt3.wav,1,60,5,200,20,90,4,9"],
        "dev": ["dia9_utt9.wav,1,60,5,200,20,90,4,9"],
        "test": ["dia125_utt2.wav,2.5,60,5,,0,0,,9"],
    }
    for split, rows in prosody.items():
        header = ",".join(["filename", *PROSODY_COLUMNS.values()])
        (folder / f"{split}_prosody.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def read(folder, features=FEATURES):
    return load_meld(folder, features, encode_texts=encode_texts, descriptors=DESCRIPTORS)


@pytest.mark.parametrize("name", ["{}.csv", "{}_sent_emo.csv", "{0}/{0}_sent_emo.csv"])
def test_it_reads_the_corpus(tmp_path, name):
    corpus = read(write(tmp_path / "meld", name))
    assert (corpus.label_set, corpus.labels) == ("meld7", MELD_LABELS)
    assert corpus.dialogues == ("train_dia125", "train_dia126", "dev_dia110", "test_dia125")
    assert corpus.split == ("train", "train", "valid", "test")
    train = corpus.part("train")
    assert train.names == ["train_dia125_utt3", "train_dia125_utt2", "train_dia126_utt0"]  # by their ends
    assert train.speakers.tolist() == [0, 1, 0]
    assert [MELD_LABELS[k] for k in train.labels] == ["sadness", "joy", "neutral"]
    assert torch.equal(train.features["text/mpnet@1"][1], encode_texts(["You\u2019re late"])[0])


def test_prosody_is_absent_where_there_is_no_row_or_the_clip_is_broken(tmp_path):
    batch = read(write(tmp_path)).batch
    present = dict(zip(batch.names, batch.present["audio/prosody@1"].tolist(), strict=True))
    assert [name for name, there in present.items() if there] == ["train_dia125_utt2", "test_dia125_utt2"]
    row = batch.features["audio/prosody@1"][batch.names.index("test_dia125_utt2")]
    assert row[0] == 2.5
    assert row[1:].isnan().all()  # nothing was voiced: the table's 0 is undefined
    assert batch.present["text/mpnet@1"].all()


def test_a_file_in_cp1252_is_read_too(tmp_path):
    path = write(tmp_path) / "train.csv"
    path.write_bytes(path.read_text(encoding="utf-8").replace("\x92", "\u2019").encode("cp1252"))
    row = read(tmp_path).part("train").features["text/mpnet@1"][1]
    assert torch.equal(row, encode_texts(["You\u2019re late"])[0])


def test_what_cp1252_left_is_mended():
    assert mended("It\x92s \x93so\x94 na\xefve\x85 \x81") == "It\u2019s \u201cso\u201d naïve… "


def test_times_are_read():
    assert seconds("00:16:16,059") == pytest.approx(976.059)
    assert seconds("1:00:01.5") == pytest.approx(3601.5)
    with pytest.raises(ValueError, match="no time"):
        seconds("16:16")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",joy,", ",,", "train_dia125_utt2 has no label"),
        (",joy,", ",bored,", "'bored'"),
        ("00:00:06,500", "soon", "record 2"),
        ("00:00:06,500", "00:00:04,000", "no proper start"),
        (",125,3,", ",125,2,", "twice"),
        ("Emotion", "Mood", "no column 'Emotion'"),
        (",125,3,", ",125,x,", "record 3"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path, old, new, message):
    path = write(tmp_path) / "train.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    (write(tmp_path) / "dev.csv").unlink()
    with pytest.raises(DataError, match=r"dev\.csv"):
        read(tmp_path)
    write(tmp_path)
    (tmp_path / "test_prosody.csv").unlink()
    with pytest.raises(DataError, match=r"test_prosody\.csv"):
        read(tmp_path)
    write(tmp_path)
    with pytest.raises(DataError, match="audio/ge2e@1"):
        read(tmp_path, ["audio/ge2e@1"])
    (tmp_path / "dev_prosody.csv").write_text("filename,avg_pitch\ndia1_utt1.wav,high\n")
    with pytest.raises(DataError, match=r"dev_prosody\.csv, record 2"):
        read(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real MELD is not beside the repository")
def test_the_real_one_has_its_known_counts():
    corpus = load_meld(REAL, ["audio/prosody@1"], descriptors=DESCRIPTORS)
    assert [len(corpus.part(split)) for split in ("train", "valid", "test")] == [9989, 1109, 2610]
    assert Counter(corpus.split) == {"train": 1038, "valid": 114, "test": 280}
    absent = (~corpus.batch.present["audio/prosody@1"]).nonzero().flatten().tolist()
    assert [corpus.batch.names[i] for i in absent] == ["train_dia125_utt3", "dev_dia110_utt7"]
    with (REAL / "test.csv").open(newline="", encoding="utf-8") as file:
        emotions = Counter(row["Emotion"] for row in csv.DictReader(file))
    assert Counter(MELD_LABELS[k] for k in corpus.part("test").labels) == emotions
