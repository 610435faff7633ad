"""Published feature files: read in each layout, converted once, refused when they are of another."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from support import published_files as files

from mer_agent.errors import DataError
from mer_agent.models.data.convert import convert
from mer_agent.models.data.converted import load_converted
from mer_agent.models.data.datasets import IEMOCAP_LABELS
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.data.published import LAYOUTS, read_published


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_converted_and_loaded(tmp_path, layout):
    kind, fields = LAYOUTS[layout], files.content(layout)
    convert(files.write(tmp_path, layout), tmp_path / "out", layout)
    corpus = load_converted(tmp_path / "out")
    assert corpus.name == kind.data
    assert corpus.labels == (IEMOCAP_LABELS if kind.data == "iemocap" else MELD_LABELS)
    assert corpus.split == ("train", "valid", "test")
    batch = corpus.batch
    ids = [f"{modality}/{kind.recipe}@1" for modality in ("text", "audio", "face")]
    assert set(batch.features) == set(ids)
    for feature, of_file, size in zip(ids, fields[3:6], kind.sizes, strict=True):
        expected = np.concatenate([np.stack(list(rows)) for rows in of_file.values()])
        assert expected.shape[1] == size
        assert np.array_equal(batch.features[feature].numpy(), expected)
        assert batch.present[feature].all()
    assert batch.labels.tolist() == [label for labels in fields[2].values() for label in labels]
    assert batch.speakers[batch.dialogue == 0].tolist()[:3] == ([0, 1, 0] if kind.data == "iemocap" else [0, 1, 2])


def test_the_words_and_names_are_kept(tmp_path):
    table = read_published(files.write(tmp_path, "iemocap-raw"), "iemocap-raw")
    assert table.lines[1].text == "line 1"
    assert table.lines[1].id == "Ses01F_impro01_F001"
    assert [dialogue.kind for dialogue in table.dialogues] == ["improvised", "improvised", "scripted"]
    table = read_published(files.write(tmp_path, "meld-mmgcn"), "meld-mmgcn")
    assert table.lines[4].id == "1040_1"


def test_a_malicious_one_is_refused_and_nothing_is_written(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'was-run'}",)

    fields = files.content("iemocap-raw")
    fields[6]["Ses01F_impro01"][0] = Evil()
    with pytest.raises(DataError, match="was not run"):
        convert(files.write(tmp_path, "iemocap-raw", fields), tmp_path / "out", "iemocap-raw")
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("layout", "other"), [("iemocap-raw", "iemocap-mmgcn"), ("iemocap-raw", "meld-mmgcn")])
def test_one_of_another_layout_is_told_apart(tmp_path, layout, other):
    path = files.write(tmp_path, layout)
    with pytest.raises(DataError, match="another layout"):
        read_published(path, other)
    with pytest.raises(DataError, match="iemocap-multiemo"):
        read_published(path, "mine")


def spoil(change):
    def edit(fields):
        change(fields)
        return fields

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (spoil(lambda f: f[2]["Ses01F_impro01"].pop()), "iemocap-raw"),  # an utterance without label
        (spoil(lambda f: f[2].pop("Ses01F_impro01")), "iemocap-raw"),
        (spoil(lambda f: f[2]["Ses01F_impro01"].__setitem__(0, 6)), "label 6"),
        (spoil(lambda f: f[2]["Ses01F_impro01"].__setitem__(0, -1)), "label -1"),
        (spoil(lambda f: f[2]["Ses01F_impro01"].__setitem__(0, None)), "iemocap-raw"),
        (spoil(lambda f: f[3]["Ses01F_impro01"][2].__setitem__(5, np.nan)), "Ses01F_impro01_F002 is not finite"),
        (spoil(lambda f: f[4]["Ses01F_impro01"].pop()), r"shape \[3, 100\]"),
        (spoil(lambda f: f[5].pop("Ses05F_script01_1")), "iemocap-raw"),
        (spoil(lambda f: f[7].remove("Ses01M_impro01")), "split 'valid'"),
        (spoil(lambda f: f[8].clear()), "split 'test'"),
        (spoil(lambda f: f[8].append("Ses01F_impro01")), "for testing"),
        (spoil(lambda f: f.__setitem__(1, ["M"])), "the speakers should be a dict"),
        (lambda f: f[:8], "8 fields, not a tuple of 9"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, edit, message):
    path = files.write(tmp_path, "iemocap-raw", edit(files.content("iemocap-raw")))
    with pytest.raises(DataError, match=message):
        convert(path, tmp_path / "out", "iemocap-raw")
    assert not (tmp_path / "out").exists()


def test_a_speaker_is_a_letter_or_one_hot(tmp_path):
    fields = files.content("meld-mmgcn")
    fields[1][0][1] = [0] * 9
    with pytest.raises(DataError, match="one-hot"):
        read_published(files.write(tmp_path, "meld-mmgcn", fields), "meld-mmgcn")


def test_a_missing_file_of_multiemo_is_named(tmp_path):
    (files.write(tmp_path, "meld-multiemo") / "AudioFeatures.pkl").unlink()
    with pytest.raises(DataError, match=r"AudioFeatures\.pkl"):
        read_published(tmp_path, "meld-multiemo")
    (tmp_path / "AudioFeatures.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="should be a dict"):
        read_published(tmp_path, "meld-multiemo")
