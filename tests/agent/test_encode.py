"""`mer-agent encode`: a recording in, features of every utterance out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from support import media_files, voices

from mer_agent.config.settings import Settings
from mer_agent.encode import Encoded, encode, metadata, save
from mer_agent.encoders.prosody import DESCRIPTORS, ProsodyEncoder
from mer_agent.encoders.words import WordEncoder
from mer_agent.errors import CheckpointError, InputError, MediaError
from mer_agent.streams.types import NS_PER_S, Transcript, Utterance

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
PROSODY = "audio/prosody@1"


def encoded(path: Path, *wanted: str) -> Encoded:
    return asyncio.run(encode(Settings(), path, wanted=wanted or (PROSODY,)))


@pytest.fixture
def two() -> Encoded:
    """Two utterances, the second without words."""
    utterances = (
        Utterance("u1", 0, 0, NS_PER_S, transcript=Transcript("nobody must read this")),
        Utterance("u2", None, 2 * NS_PER_S, 3 * NS_PER_S),
    )
    encoder = WordEncoder()
    rows = tuple(None if row is None else row.numpy() for row in encoder.encode(utterances))
    return Encoded(utterances, (encoder,), {encoder.feature: rows}, {})


def test_gives_a_row_for_each_utterance_of_a_session() -> None:
    found = encoded(SESSION)
    assert len(found.utterances) > 3
    assert not found.failed
    rows = found.rows[PROSODY]
    assert len(rows) == len(found.utterances)
    alone = ProsodyEncoder()
    for one, row in zip(found.utterances, rows, strict=True):
        (expected,) = alone.encode([one])
        assert row is not None
        assert expected is not None
        assert np.array_equal(row, expected.numpy(), equal_nan=True)


@pytest.mark.parametrize(
    "sound",
    [np.zeros(16_000, np.float32), voices.silence(1.0), np.zeros(40, np.float32)],
    ids=["digital silence", "breath", "2.5 ms"],
)
def test_a_recording_in_which_nobody_speaks_has_no_utterance(tmp_path: Path, sound: np.ndarray) -> None:
    found = encoded(media_files.write_sound(tmp_path / "quiet.wav", sound[None]))
    assert found.utterances == ()
    save(found, tmp_path / "quiet.safetensors")
    with safe_open(tmp_path / "quiet.safetensors", "np") as file:
        assert file.get_tensor(PROSODY).shape == (0, len(DESCRIPTORS))


def test_what_can_t_be_read_or_made_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        encoded(tmp_path / "missing.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(MediaError):
        encoded(tmp_path / "text.wav")
    with pytest.raises(CheckpointError, match="no encoder makes audio/none@1"):
        encoded(SESSION, "audio/none@1")


class TestFile:
    def test_holds_rows_and_where_they_are_present(self, two: Encoded, tmp_path: Path) -> None:
        save(two, tmp_path / "f.safetensors")
        with safe_open(tmp_path / "f.safetensors", "np") as file:
            rows, present = file.get_tensor("text/words@1"), file.get_tensor("text/words@1:present")
            about = file.metadata()
        assert present.tolist() == [True, False]
        assert np.isfinite(rows[0]).all()
        assert np.isnan(rows[1]).all()
        assert json.loads(about["features"])["text/words@1"] == {
            "modality": "text",
            "version": 1,
            "dimension": 64,
            "names": [],
        }
        first, second = json.loads(about["utterances"])
        assert (first["speaker"], second["speaker"]) == (0, None)
        assert (second["start_s"], second["end_s"]) == (2.0, 3.0)

    def test_has_the_words_only_where_they_were_asked_for(self, two: Encoded, tmp_path: Path) -> None:
        save(two, tmp_path / "without.safetensors")
        save(two, tmp_path / "with.safetensors", with_text=True)
        assert b"nobody must read" not in (tmp_path / "without.safetensors").read_bytes()
        assert b"nobody must read" in (tmp_path / "with.safetensors").read_bytes()
        assert "words" not in metadata(two)["utterances"]

    def test_that_can_t_be_written_is_said_and_leaves_nothing(self, two: Encoded, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="can't be written"):
            save(two, tmp_path / "no" / "f.safetensors")
        (tmp_path / "taken").mkdir()
        with pytest.raises(InputError, match="can't be written"):
            save(two, tmp_path / "taken")
        assert [path.name for path in tmp_path.iterdir()] == ["taken"]
