import numpy as np
import pytest

from mer_agent.streams.types import NS_PER_S, AudioChunk, Transcript, Utterance

SOUND = np.arange(16_000, dtype=np.float32)


def utterance(**changes: object) -> Utterance:
    values = {"id": "u1", "speaker": None, "start_ns": 2 * NS_PER_S, "end_ns": 2 * NS_PER_S + NS_PER_S // 2}
    return Utterance(**values | changes)  # type: ignore[arg-type]


def test_a_chunk_ends_after_its_last_sample() -> None:
    assert AudioChunk(SOUND[:512], 10, 0).end_ns == 10 + 32_000_000


def test_speech_is_the_sound_without_its_padding() -> None:
    padded = utterance(audio=SOUND, audio_start_ns=2 * NS_PER_S - NS_PER_S // 4)
    assert padded.speech is not None
    np.testing.assert_array_equal(padded.speech, SOUND[4000:12_000])
    assert padded.duration_s == 0.5


@pytest.mark.parametrize("audio", [None, SOUND])
def test_without_padding_the_sound_is_the_speech(audio: np.ndarray | None) -> None:
    assert utterance(audio=audio).speech is audio


def test_without_a_transcript_there_is_no_text() -> None:
    assert utterance().text == ""
    assert utterance(transcript=Transcript("so be it")).text == "so be it"
