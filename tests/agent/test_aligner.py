import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.streams_fakes import a_segment

from mer_agent.aligner import Aligner, FrameRing, with_words
from mer_agent.streams.types import Face, Hearing, Transcript, VideoFrame, Word

S = 1_000_000_000


def frame(at_s: float, source: str = "video-0", side: int = 4) -> VideoFrame:
    return VideoFrame(np.zeros((side, side, 3), np.uint8), round(at_s * S), 0, source)


def test_the_pictures_taken_while_somebody_spoke_belong_to_the_utterance() -> None:
    aligner = Aligner(FrameRing(rate_hz=10))
    for number in range(50):
        aligner.see(frame(number / 10))
    segment = a_segment(1.0, np.ones(16_000, np.float32))
    utterance = aligner.utterance("u1", segment)
    assert [picture.captured_ns / S for picture in utterance.frames] == [n / 10 for n in range(10, 20)]
    assert (utterance.id, utterance.start_ns, utterance.end_ns) == ("u1", S, 2 * S)
    assert utterance.audio is segment.audio
    assert (utterance.speaker, utterance.transcript) == (None, None)


def test_without_pictures_there_are_none() -> None:
    assert Aligner().utterance("u1", a_segment(0, np.ones(800, np.float32))).frames == ()


def test_words_come_later() -> None:
    utterance = Aligner().utterance("u1", a_segment(0, np.ones(800, np.float32)))
    words = Transcript("yes", (Word("yes", 0, 10),))
    done = with_words(utterance, words)
    assert done.text == "yes"
    assert done.audio is utterance.audio


def test_no_words_are_an_absent_modality() -> None:
    utterance = Aligner().utterance("u1", a_segment(0, np.ones(800, np.float32)))
    hearing = Hearing("whisper-base", np.ones((1, 2), np.float32))
    wordless = with_words(utterance, Transcript("", confidence=0.0, hearing=hearing))
    assert (wordless.transcript, wordless.hearing) == (None, hearing)


def test_only_the_first_picture_of_each_interval_is_kept() -> None:
    ring = FrameRing(rate_hz=5)
    for number in range(30):  # 30 pictures a second
        ring.push(frame(number / 30))
    assert [round(f.captured_ns / S, 2) for f in ring.between(0, S)] == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_cameras_have_their_own_rate() -> None:
    ring = FrameRing(rate_hz=5)
    for source in ("video-0", "video-1"):
        ring.push(frame(0.0, source))
    assert [f.source for f in ring.between(0, S)] == ["video-0", "video-1"]


def test_old_pictures_are_forgotten() -> None:
    ring = FrameRing(rate_hz=5, seconds=2)
    for number in range(100):
        ring.push(frame(number / 5))
    assert len(ring) == 11
    assert ring.forgotten == 0
    assert ring.between(0, 17 * S) == ()


@given(sides=st.lists(st.integers(1, 60), min_size=1, max_size=60))
def test_memory_is_bounded_whatever_comes(sides: list[int]) -> None:
    ring = FrameRing(rate_hz=5, megabytes=0.02)
    for number, side in enumerate(sides):
        ring.push(frame(number / 5, side=side))
        assert sum(f.image.nbytes for f in ring.between(0, 100 * S)) <= 20_000
    assert len(ring) + ring.forgotten == len(sides)


def test_crops_of_faces_take_hardly_any_memory() -> None:
    ring = FrameRing(rate_hz=10, megabytes=1)
    face = Face(0, np.zeros((48, 48), np.uint8), (0, 0, 1, 1), 1.0)
    for number in range(200):
        seen = VideoFrame(np.empty((0, 0, 3), np.uint8), number * S // 10, number, faces=(face, face))
        assert ring.wants(seen)
        ring.push(seen)
        assert not ring.wants(seen)
    assert (len(ring), ring.forgotten) == (200, 0)
