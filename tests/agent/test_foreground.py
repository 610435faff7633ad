"""A voice in the background is speech, but not that of who is meant."""

import numpy as np

from mer_agent.config.settings import SegmenterSettings
from mer_agent.foreground import Foreground
from mer_agent.segmenter import Segmenter
from mer_agent.streams.types import Segment

FRAME = 512
NS = 32_000_000


def cut(*parts: tuple[float, float, float]) -> list[Segment]:
    """Cuts parts of (seconds, level in dB, probability of speech)."""
    segmenter = Segmenter(SegmenterSettings(), frame_samples=FRAME)
    segments, at = [], 0
    for seconds, level_db, probability in parts:
        for _ in range(round(seconds / 0.032)):
            sound = np.full(FRAME, 10 ** (level_db / 20), np.float32)
            segments += segmenter.push(probability, sound, at)
            at += NS
    return segments + segmenter.finish()


def test_somebody_at_the_next_table_does_not_fill_the_pauses() -> None:
    segments = cut((2, -20, 0.9), (1, -42, 0.9), (2, -20, 0.9))
    assert len(segments) == 2
    assert segments[0].end_ns < 2.3e9
    assert len(cut((2, -20, 0.9), (1, -30, 0.9), (2, -20, 0.9))) == 1, "somebody who is merely softer"


def test_a_softer_speaker_who_answers_a_louder_one_is_heard() -> None:
    segments = cut((2, -15, 0.9), (0.5, -70, 0.01), (2, -38, 0.9))
    assert len(segments) == 2
    assert 2.5e9 <= segments[1].start_ns <= 3.6e9, "a moment later at most"


def test_without_anybody_louder_soft_speech_is_speech() -> None:
    assert len(cut((1, -55, 0.9))) == 1


def test_silence_and_noise_that_is_no_speech_change_nothing() -> None:
    foreground = Foreground()
    bang, whisper = np.ones(FRAME, np.float32), np.full(FRAME, 1e-3, np.float32)
    for _ in range(8):
        foreground.holds(0.1, bang, 0.032)
    for _ in range(5):
        heard = foreground.holds(0.9, whisper, 0.032)
    assert heard
    assert foreground.holds(0.9, np.zeros(0, np.float32), 0.032) is not None


def babble(level_db: float, probability: float) -> list[Segment]:
    """Five turns of a second and a half at -20 dB over something that never pauses."""
    return cut(*[(1.5, -20, 0.9), (0.6, level_db, probability)] * 5)


def test_voices_that_never_pause_are_the_background_of_who_is_meant() -> None:
    segments = babble(-30, 0.9)
    assert len(segments) == 3, "the first pauses are over before anybody can tell a babble from a softer speaker"
    assert all(1.3e9 <= segment.end_ns - segment.start_ns <= 1.8e9 for segment in segments[1:])


def test_a_background_that_is_no_voice_makes_nobody_speak_up() -> None:
    assert len(babble(-30, 0.45)) == 1, "it is for the detector of speech to say what it is"


def test_a_speaker_with_pauses_may_be_softer_than_the_babble_rule_asks() -> None:
    parts = [(1.4, -20, 0.9), (0.8, -30, 0.9), (0.25, -70, 0.01)]
    assert len(cut(*parts * 4)) == 1, "soft words are words, and a breath ends no utterance"
