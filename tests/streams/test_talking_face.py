"""Who of those in view speaks: mouths that move while there is voice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mer_agent.streams.talking_face import faces_in_view
from mer_agent.streams.types import Face, Utterance, VideoFrame

S = 1_000_000_000


def face(track: int, motion: float | None) -> Face:
    return Face(track, np.zeros((48, 48), np.uint8), (0, 0, 0.1, 0.2), 1.0, motion)


def frames(*motions: Callable[[int], float | None], many: int = 20, source: str = "video-0") -> list[VideoFrame]:
    """Ten pictures a second; track n has the n-th motion, as a function of the picture's number."""
    image = np.empty((0, 0, 3), np.uint8)
    return [
        VideoFrame(image, n * S // 10, n, source, tuple(face(t, motion(n)) for t, motion in enumerate(motions)))
        for n in range(many)
    ]


def utterance(audio: np.ndarray | None = None) -> Utterance:
    return Utterance("u", None, 0, 2 * S, audio)


def test_the_mouth_that_moves_speaks() -> None:
    first, second = faces_in_view(utterance(), frames(lambda n: 0.01, lambda n: 0.1))
    assert (first.track, second.track) == (1, 0)
    assert first.talking > 0.8
    assert first.talking + second.talking == pytest.approx(1)
    assert first.mouth_motion == pytest.approx(0.1)


def test_a_mouth_that_moves_in_silence_only_does_not() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    audio[16_000:] = 0
    chewing, speaking = (lambda n: 0.3 * (n > 12)), (lambda n: 0.1 * (n <= 10))
    assert faces_in_view(utterance(audio), frames(chewing, speaking))[0].track == 1
    assert faces_in_view(utterance(None), frames(chewing, speaking))[0].track == 0


def test_a_face_alone_is_the_one() -> None:
    (only,) = faces_in_view(utterance(), frames(lambda n: None, many=1))
    assert (only.track, only.talking, only.mouth_motion) == (0, 1.0, 0.0)
    assert len(only.sightings) == 1


def test_of_still_faces_it_is_the_one_that_stays_longest() -> None:
    passing = frames(lambda n: 0.0, lambda n: 0.0, many=4)
    staying = [VideoFrame(f.image, f.captured_ns + S, f.sequence, f.source, f.faces[1:]) for f in passing if f.faces]
    assert faces_in_view(utterance(), passing + staying)[0].track == 1


def test_faces_of_two_cameras_are_not_mixed_up() -> None:
    seen = faces_in_view(utterance(), frames(lambda n: 0.1) + frames(lambda n: 0.0, source="video-1"))
    assert [(one.source, one.track) for one in seen] == [("video-0", 0), ("video-1", 0)]


def test_without_faces_nobody_is_there() -> None:
    assert faces_in_view(utterance(), []) == []
    assert faces_in_view(utterance(), frames()) == []


@pytest.mark.parametrize(
    "audio", [np.zeros(0), np.zeros(32_000), np.full(32_000, np.nan)], ids=["none", "silent", "nan"]
)
def test_bad_sound_still_gives_a_share(audio: np.ndarray) -> None:
    seen = faces_in_view(utterance(audio.astype(np.float32)), frames(lambda n: 0.1, lambda n: 0.0))
    assert sum(one.talking for one in seen) == pytest.approx(1)
