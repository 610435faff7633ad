"""Counting a recogniser's errors: lines are read aloud by real programs and heard by the real recogniser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import needs

from mer_agent.errors import InputError
from mer_agent.models.live import asr_noise, count_asr_errors

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
SAID = ("I am very happy to see you again.", "This is the worst day of my life.", "Where did you put the keys?")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "meld"
    folder.mkdir()
    for split, texts in {"train": SAID, "dev": ("A line of dev.",), "test": ("A line of test.",)}.items():
        times = '"00:00:01,000","00:00:02,000"'
        rows = [f'{n},"{text}",Ross,joy,positive,{n},0,1,1,{times}' for n, text in enumerate(texts)]
        (folder / f"{split}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return tmp_path


def test_noise_lies_as_far_below_the_voice_as_it_was_told_and_around_it():
    rng = np.random.default_rng(0)
    voice = np.sin(np.arange(32_000) / 5).astype(np.float32)
    loud, soft = (count_asr_errors.noisy(voice, db, rng) for db in (-20.0, -35.0))
    quiet = round(count_asr_errors.QUIET_S * 16_000)
    assert len(loud) == len(voice) + 2 * quiet
    for sound, db in ((loud, -20.0), (soft, -35.0)):
        around, within = (np.sqrt(np.mean(np.square(part))) for part in (sound[:quiet], sound[quiet:-quiet]))
        assert 20 * np.log10(around / within) == pytest.approx(db, abs=0.5)


def test_a_missing_program_is_named_with_the_package_that_brings_it(data_dir, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="apt-get install espeak-ng"):
        count_asr_errors.main([str(data_dir)])


@pytest.mark.real_weights
def test_plain_sentences_are_read_aloud_heard_and_counted(data_dir, tmp_path, capsys):
    for program in {voice[0] for voice in count_asr_errors.VOICES}:
        needs.program(program)
    needs.weights(count_asr_errors.RECOGNISER)
    count_asr_errors.main([str(data_dir), "--output", str(tmp_path / "errors.json"), "--lines", "3"])
    found = asr_noise.read(tmp_path / "errors.json")
    assert found.words == sum(len(asr_noise.plain(text)) for text in SAID)
    assert found.error_rate < 0.3
    assert "line" not in found.heard, "only the training split is read"
    assert f"{found.words} words" in capsys.readouterr().out
