"""What the names of acted recordings say, and that no speaker is on both sides of a fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import media_files, voices

from mer_agent.errors import DataError
from mer_agent.models.data.speech_data import CORPORA, FOLDS, FURTHER, LABELS, MOST, found, load, possible, sound

FURTHER_NAMES = {
    "nemo": [
        f"{speaker}_{emotion}_{k}" for speaker in ("EB0", "TP0") for emotion in ("surprised", "fear") for k in (1, 20)
    ],
    "ased": [
        f"{letter}-{sentence}-01-02-{speaker:02}"
        for letter in ("a5", "S4")
        for sentence in ("01", "03")
        for speaker in range(1, 66)
    ],
    "tess": ["OAF_back_fear", "OA_bite_neutral", "YAF_back_ps", "482testYAF_check_sad3"],
    "urdu": ["SM5_F6_A032", "SF11_F1_N051"],
    "turev": ["1157_kz_beste", "7895_sk_demir"],
    "emotale": ["DK_004_A_5", "EN_014_B_1"],
    "cremad": ["1001_DFA_HAP_XX", "1076_MTI_SAD_XX", "1091_IEO_NEU_HI"],
}
NAMES = {
    "ravdess": [f"03-01-{emotion:02}-01-01-01-{actor:02}" for emotion in (1, 2, 5, 8) for actor in range(1, 25)],
    "emodb": [f"{speaker:02}a01{letter}a" for letter in "WLN" for speaker in (3, *range(8, 17))],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path, NAMES)
    return tmp_path


def add(folder: Path, files: dict[str, list[str]]) -> None:
    for corpus, names in files.items():
        (folder / corpus / "deeper").mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / corpus / "deeper" / f"{name}.wav").touch()


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


def test_further_corpora_are_read_where_they_are(folder: Path) -> None:
    assert found(folder) == ()
    add(folder, FURTHER_NAMES)
    assert found(folder) == tuple(FURTHER)
    clips = {clip.path.stem: clip for clip in load(folder, found(folder))}
    label = {name: LABELS[clip.label] for name, clip in clips.items()}
    assert (label["EB0_surprised_20"], label["a5-01-01-02-50"], label["S4-01-01-02-50"]) == ("surprise", "angry", "sad")
    assert {clips["EB0_fear_1"].speaker, clips["a5-01-01-02-50"].speaker} == {"nemo-EB0", "ased-50"}
    assert (label["YAF_back_ps"], label["482testYAF_check_sad3"]) == ("surprise", "sad")
    assert (label["SM5_F6_A032"], label["1157_kz_beste"], label["7895_sk_demir"]) == ("angry", "angry", "neutral")
    assert clips["OA_bite_neutral"].speaker == clips["OAF_back_fear"].speaker
    assert (clips["SF11_F1_N051"].speaker, clips["7895_sk_demir"].speaker) == ("urdu-SF11", "turev-7895")
    assert (label["DK_004_A_5"], label["EN_014_B_1"], label["1001_DFA_HAP_XX"]) == ("angry", "boredom", "happy")
    assert (clips["DK_004_A_5"].speaker, clips["1091_IEO_NEU_HI"].speaker) == ("emotale-004", "cremad-1091")
    assert "a5-03-01-02-50" not in clips, "it is said with one emotion alone"
    assert "1076_MTI_SAD_XX" not in clips, "nobody speaks in it"
    assert {clip.corpus for clip in load(folder)} == set(CORPORA), "unless asked for"


def test_of_a_further_corpus_so_many_clips_are_read_and_always_the_same(folder: Path) -> None:
    add(folder, {"nemo": [f"EB0_anger_{k}" for k in range(MOST["nemo"] + 10)]})
    first, again = ([clip.path for clip in load(folder, ("nemo",))] for _ in range(2))
    assert len(first) == MOST["nemo"]
    assert first == again
    add(folder, {"nemo": ["EB0_fear_1"]})
    assert len(set(first) - {clip.path for clip in load(folder, ("nemo",))}) <= 1


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ("ravdess", "03-01-09-01-01-01-01"),
        ("emodb", "03a01Xa"),
        ("nemo", "XX0_anger_1"),
        ("ased", "b5-03-01-02-50"),
        ("tess", "OAF_back_calm"),
        ("urdu", "SM5_F6_X032"),
        ("turev", "1157_xx_beste"),
        ("emotale", "DK_004_X_5"),
        ("cremad", "1001_DFA_SUR_XX"),
    ],
)
def test_another_name_is_refused(folder: Path, corpus: str, name: str) -> None:
    add(folder, {corpus: [name]})
    with pytest.raises(DataError, match=name):
        load(folder, (corpus,))


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ravdess"):
        load(tmp_path)


def test_gives_sound_at_16_khz(folder: Path) -> None:
    clip = load(folder)[0]
    media_files.write_sound(clip.path, voices.speech(1.0)[None])
    assert np.allclose(sound(clip), voices.speech(1.0), atol=1e-6)
