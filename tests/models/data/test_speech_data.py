"""What the names of acted recordings say, and that no speaker is on both sides of a fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import media_files, voices

from mer_agent.errors import DataError
from mer_agent.models.data.speech_data import FOLDS, LABELS, load, possible, sound

NAMES = {
    "ravdess": [f"03-01-{emotion:02}-01-01-01-{actor:02}" for emotion in (1, 2, 5, 8) for actor in range(1, 25)],
    "emodb": [f"{speaker:02}a01{letter}a" for letter in "WLN" for speaker in (3, *range(8, 17))],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for corpus, names in NAMES.items():
        (tmp_path / corpus / "deeper").mkdir(parents=True)
        for name in names:
            (tmp_path / corpus / "deeper" / f"{name}.wav").touch()
    return tmp_path


def test_reads_names(folder: Path) -> None:
    clips = {clip.path.stem: clip for clip in load(folder)}
    assert len(clips) == sum(map(len, NAMES.values()))
    label = {name: LABELS[clip.label] for name, clip in clips.items()}
    assert label["03-01-02-01-01-01-07"] == "neutral"  # calm
    assert label["03-01-08-01-01-01-07"] == "surprise"
    assert (label["03a01Wa"], label["16a01La"]) == ("angry", "boredom")


def test_no_speaker_is_in_two_folds_and_each_fold_has_both_corpora(folder: Path) -> None:
    clips = load(folder)
    for speaker in {clip.speaker for clip in clips}:
        assert len({clip.fold for clip in clips if clip.speaker == speaker}) == 1
    for fold in range(FOLDS):
        assert {clip.corpus for clip in clips if clip.fold == fold} == {"ravdess", "emodb"}


def test_a_corpus_says_nothing_about_labels_that_it_lacks() -> None:
    rows = possible(["ravdess", "emodb"])
    assert [label for label, there in zip(LABELS, rows[0], strict=True) if not there] == ["boredom"]
    assert [label for label, there in zip(LABELS, rows[1], strict=True) if not there] == ["surprise"]


@pytest.mark.parametrize(("corpus", "name"), [("ravdess", "03-01-09-01-01-01-01"), ("emodb", "03a01Xa")])
def test_another_name_is_refused(folder: Path, corpus: str, name: str) -> None:
    (folder / corpus / f"{name}.flac").touch()
    with pytest.raises(DataError, match=name):
        load(folder)


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ravdess"):
        load(tmp_path)


def test_gives_sound_at_16_khz(folder: Path) -> None:
    clip = load(folder)[0]
    media_files.write_sound(clip.path, voices.speech(1.0)[None])
    assert np.allclose(sound(clip), voices.speech(1.0), atol=1e-6)
