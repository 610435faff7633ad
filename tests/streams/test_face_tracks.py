"""Identities of faces: by overlap, by motion, through a gap, and not beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_agent.streams.face_tracks import Sighting, Tracks, overlap

S = 1_000_000_000


def face(x: float, y: float = 50.0, size: float = 40.0) -> Sighting:
    landmarks = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.75], [0.65, 0.75]]) * size + [x, y]
    return Sighting(np.array([x, y, size, size]), landmarks, 0.9)


def detected(tracks: Tracks, at_s: float, *found: Sighting) -> list[int]:
    """Tells a tracker what was found; gives the number of each face, in that order."""
    tracks.detected(found, round(at_s * S), predicted={})
    return [next(track for track, seen in tracks.seen.items() if seen is one) for one in found]


def test_a_face_keeps_its_number_while_it_moves() -> None:
    tracks = Tracks()
    assert [detected(tracks, n / 5, face(10 + 8 * n)) for n in range(10)] == [[0]] * 10


def test_two_faces_keep_their_numbers_in_whatever_order_they_are_found() -> None:
    tracks = Tracks()
    assert detected(tracks, 0, face(10), face(200)) == [0, 1]
    assert detected(tracks, 0.2, face(205), face(12)) == [1, 0]


def test_faces_that_pass_each_other_are_told_apart_by_their_motion() -> None:
    tracks = Tracks()
    numbers = [detected(tracks, n / 5, face(0 + 15 * n), face(150 - 15 * n, y=55)) for n in range(11)]
    assert numbers == [[0, 1]] * 11


def test_what_flow_predicts_counts_more_than_where_a_face_was() -> None:
    tracks = Tracks()
    tracks.detected([face(10)], 0, predicted={})
    tracks.detected([face(150)], S // 5, predicted={0: face(148)})
    assert list(tracks.seen) == [0]


def test_a_face_that_comes_back_soon_is_the_same_and_later_another() -> None:
    tracks = Tracks()
    detected(tracks, 0, face(10))
    detected(tracks, 0.4)
    assert tracks.seen == {}
    assert 0 in tracks
    assert detected(tracks, 0.8, face(12)) == [0]
    detected(tracks, 1.9)
    assert 0 not in tracks
    assert detected(tracks, 2.0, face(12)) == [1]


def test_after_a_cut_nobody_is_known() -> None:
    tracks = Tracks()
    detected(tracks, 0, face(10))
    tracks.forget()
    assert detected(tracks, 0.1, face(10)) == [1]


def test_a_sighting_moves_as_a_head_can_or_not_at_all() -> None:
    moved = face(10).moved(np.array([[1.1, 0, 5.0], [0, 1.1, 0]]))
    assert moved is not None
    assert moved.box[2] == pytest.approx(44)
    assert moved.landmarks[0] == pytest.approx(face(10).landmarks[0] * 1.1 + [5, 0])
    assert face(10).moved(np.array([[4.0, 0, 0], [0, 4.0, 0]])) is None
    assert face(10).moved(np.full((2, 3), np.nan)) is None
    assert face(10).overlaps_picture(320, 180)
    assert not face(-60).overlaps_picture(320, 180)


@given(st.lists(st.lists(st.floats(0, 300), max_size=4), min_size=1, max_size=12))
def test_no_number_is_given_twice_and_memory_is_bounded(pictures: list[list[float]]) -> None:
    tracks = Tracks()
    for n, places in enumerate(pictures):
        tracks.detected([face(x) for x in places], n * S // 2, predicted={})
        assert len(tracks.seen) == len(places)
    assert sum(track in tracks for track in range(100)) <= 12


def test_overlap_is_a_share_of_both() -> None:
    box = np.array([0.0, 0, 10, 10])
    assert overlap(box, box) == 1
    assert overlap(box, np.array([5.0, 0, 10, 10])) == pytest.approx(1 / 3)
    assert overlap(box, np.array([20.0, 0, 10, 10])) == 0
    assert overlap(np.zeros(4), np.zeros(4)) == 0
