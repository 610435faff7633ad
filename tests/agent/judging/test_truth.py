"""Reading what is true of recordings: beside them, in session folders, or by MELD's names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import media_files, tiny_meld

from mer_agent.encoders.prosody import ProsodyEncoder
from mer_agent.errors import DataError, MediaError
from mer_agent.judging.truth import find, named
from mer_agent.models.data.datasets import PROSODY_COLUMNS
from mer_agent.models.data.meld import FILES, MELD_LABELS

SESSION = Path(__file__).parents[2] / "sessions" / "two-voices"
SECOND = np.zeros((1, 16_000), np.float32)


def recording(folder: Path, name: str, *lines: dict[str, object]) -> Path:
    media_files.write_sound(folder / f"{name}.wav", SECOND)
    if lines:
        (folder / f"{name}.truth.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_a_file_beside_the_recording_tells(tmp_path: Path) -> None:
    later = {"label": "joy", "speaker": "bob", "text": "Hi", "start_ns": 6, "end_ns": 9}
    first = {"label": "anger", "speaker": "ann", "text": "Go", "start_ns": 1, "end_ns": 5, "mood": "unknown key"}
    (case,) = find(recording(tmp_path, "talk", later, first), tmp_path)
    assert [(one.label, one.start_ns, one.until_ns) for one in case.truth] == [("anger", 1, 5), ("joy", 6, 9)]
    assert case.speakers == {"ann": 0, "bob": 1}
    assert case.known == {"segmentation", "words", "speakers"}
    assert not case.trained


def test_without_times_the_recording_is_the_utterance(tmp_path: Path) -> None:
    (case,) = find(recording(tmp_path, "clip", {"label": "joy"}), tmp_path)
    assert (case.truth[0].start_ns, case.truth[0].until_ns) == (0, 1_000_000_000)
    assert case.known == {"segmentation"}


def test_a_recording_that_nobody_knows_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not media")
    (tmp_path / "broken.wav").write_text("not media, either")
    (case,) = find(recording(tmp_path, "clip"), tmp_path)
    assert (case.truth, case.known) == ((), frozenset())


def test_a_session_folder_knows_who_said_what() -> None:
    (case,) = find(SESSION, Path("nowhere"))
    assert set(case.speakers) == {"Anna", "Ben"}
    assert case.known == {"segmentation", "words", "speakers"}


def test_clips_of_meld_are_known_by_their_names(tmp_path: Path) -> None:
    corpus = tiny_meld.write(tmp_path)
    for split in FILES.values():
        table = [",".join(["filename", *PROSODY_COLUMNS.values()]), "dia0_utt0.wav" + ",1.5" * len(PROSODY_COLUMNS)]
        (corpus / f"{split}_prosody.csv").write_text("\n".join(table) + "\n")
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("meld_test_dia0_utt0", "dia0_utt1", "train_dia0_utt0", "meld_test_dia999_utt0"):
        recording(folder, name)
    cases = {case.path.stem: case for case in find(folder, tmp_path, ProsodyEncoder.names)}
    assert cases["meld_test_dia999_utt0"].truth == ()
    known = [cases[name] for name in ("meld_test_dia0_utt0", "dia0_utt1", "train_dia0_utt0")]
    assert all(case.truth[0].label in MELD_LABELS and case.kind == "meld" for case in known)
    assert all(case.known == {"segmentation", "words", "speakers", "features"} for case in known)
    rows = [case.trained[0][ProsodyEncoder.feature] for case in known]
    assert rows[1] is None, "its table has no such clip"
    assert rows[0] is not None
    assert rows[0].tolist() == [1.5] * 8


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"label": "joy"}, {"label": "anger"}], "each needs start_ns and end_ns"),
        ([{"start_ns": 5, "end_ns": 5}], "line 1.*ends before it begins"),
        ([{"start_ns": -5}], "line 1: start_ns"),
    ],
)
def test_a_malformed_truth_is_refused(tmp_path: Path, lines: list[dict[str, object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find(recording(tmp_path, "talk", *lines), tmp_path)


def test_an_error_does_not_quote_the_words(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        find(recording(tmp_path, "talk", {"text": ["my secret"], "end_ns": 3}), tmp_path)
    assert "secret" not in str(caught.value)


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no recording"):
        find(tmp_path, tmp_path)


def test_labels_are_known_by_other_names() -> None:
    assert [MELD_LABELS[named(label, MELD_LABELS) or 0] for label in ("Happy", "sad", "angry", "joy")] == [
        "joy",
        "sadness",
        "anger",
        "joy",
    ]
    assert named("happy", ("happy", "sad")) == named("joy", ("happy", "sad")) == 0
    assert named("boredom", MELD_LABELS) is named(None, MELD_LABELS) is None
