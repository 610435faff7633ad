"""Words that were really read aloud and really heard: the programs and the recogniser are those that are installed."""

from __future__ import annotations

import numpy as np
import pytest
from support import needs

from mer_agent.errors import InputError
from mer_agent.models.live import asr_noise, read_aloud

SAID = (
    "I am very happy to see you again!",
    "This is the worst day of my life.",
    "Where did you put the keys?",
    "...",
)


def test_noise_lies_as_far_below_the_voice_as_it_was_told_and_around_it():
    rng = np.random.default_rng(0)
    voice = np.sin(np.arange(32_000) / 5).astype(np.float32)
    loud, soft = (read_aloud.noisy(voice, db, rng) for db in (-20.0, -35.0))
    quiet = round(read_aloud.QUIET_S * 16_000)
    assert len(loud) == len(voice) + 2 * quiet
    for sound, db in ((loud, -20.0), (soft, -35.0)):
        around, within = (np.sqrt(np.mean(np.square(part))) for part in (sound[:quiet], sound[quiet:-quiet]))
        assert 20 * np.log10(around / within) == pytest.approx(db, abs=0.5)


def test_marks_are_counted_by_what_was_written_for_them():
    pairs = [("No!", "No."), ("No!\u201d", "no"), ("Who?", "Who?"), ("and", "And."), ("Gone!", "")]
    assert read_aloud.marks(pairs) == {"!": {".": 1, "none": 1}, "?": {"?": 1}, "none": {".": 1}}


def test_a_missing_program_is_named_with_the_package_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="apt-get install espeak-ng"):
        read_aloud.main([str(tmp_path)])


@pytest.mark.real_weights
def test_plain_sentences_are_read_aloud_and_heard():
    for program in {voice[0] for voice in read_aloud.VOICES}:
        needs.program(program)
    needs.weights(read_aloud.RECOGNISER)
    heard = read_aloud.hear(SAID)
    assert heard[-1] == "", "there is nothing to be read"
    wrong = asr_noise.Confusions(**asr_noise.count(list(zip(SAID, heard, strict=True)))).error_rate
    assert wrong < 0.3
