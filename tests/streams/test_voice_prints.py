"""Voices that are known by name: kept readable for one user only, and gone when forgotten."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mer_agent.errors import InputError
from mer_agent.streams import voice_prints

VOICE = (0.25, -0.5, 0.125)


def test_a_voice_is_kept_for_this_user_alone_until_it_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "voices.json"
    assert voice_prints.load(file) == ()
    voice_prints.enroll(file, "Ann", "audio/ge2e@1", VOICE, 8.0)
    voice_prints.enroll(file, "Böb", "audio/ge2e@1", VOICE, 9.0)
    voice_prints.enroll(file, "Ann", "audio/ge2e@1", VOICE[::-1], 10.0)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [(one.name, one.embedding, one.speech_s) for one in voice_prints.load(file)] == [
        ("Böb", VOICE, 9.0),
        ("Ann", VOICE[::-1], 10.0),
    ]
    assert voice_prints.forget(file, "Ann")
    assert not voice_prints.forget(file, "Ann")
    assert "Ann" not in file.read_text(encoding="utf-8")
    assert voice_prints.forget(file, "Böb")
    assert list(file.parent.iterdir()) == []


def test_a_few_words_are_too_little(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"only 1\.5 s"):
        voice_prints.enroll(tmp_path / "voices.json", "Ann", "audio/ge2e@1", VOICE, 1.5)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\x1b[2J"])
def test_a_name_must_be_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name"):
        voice_prints.enroll(tmp_path / "voices.json", name, "audio/ge2e@1", VOICE, 8.0)


@pytest.mark.parametrize("content", ["{", '{"format": "x", "voices": []}', '{"voices": [{"name": "Ann"}]}'])
def test_a_broken_file_is_said_and_not_quoted(tmp_path: Path, content: str) -> None:
    file = tmp_path / "voices.json"
    file.write_text(content)
    with pytest.raises(InputError, match="enroll again") as caught:
        voice_prints.load(file)
    assert "Ann" not in str(caught.value)
