"""Enrolling and forgetting from the command line: never without consent."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import needs
from typer.testing import CliRunner

from mer_agent.cli import app
from mer_agent.errors import InputError
from mer_agent.streams import voice_prints

SESSION = Path(__file__).parents[2] / "sessions" / "two-voices"


def run(file: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["--set", f"speakers.voices={file}", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_nothing_is_kept_without_consent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--consent"):
        run(tmp_path / "voices.json", "enroll", "Ann", str(SESSION / "audio-0.flac"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["enroll", "Ann"], ["enroll", "Ann", "a.wav", "--mic", "0"]])
def test_a_voice_comes_from_a_file_or_a_microphone(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(InputError, match="one of the two"):
        run(tmp_path / "voices.json", *words, "--consent")


def test_who_is_not_enrolled_cannot_be_forgotten(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Ann is not enrolled"):
        run(tmp_path / "voices.json", "forget", "Ann")


@pytest.mark.real_weights
def test_a_recording_becomes_a_voice_print_that_is_forgotten_on_command(tmp_path: Path) -> None:
    needs.weights("ge2e")
    file = tmp_path / "voices.json"
    assert "learned from" in run(file, "enroll", "Both", str(SESSION / "audio-0.flac"), "--consent")
    (one,) = voice_prints.load(file)
    assert (one.name, one.feature, len(one.embedding)) == ("Both", "audio/ge2e@1", 256)
    assert one.speech_s > voice_prints.LEAST_S
    assert "forgotten" in run(file, "forget", "Both")
    assert not file.exists()
