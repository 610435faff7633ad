"""Finding, following and cutting out faces: on a real face, in good pictures and bad ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import needs
from support.face_pictures import sample, sample_frames, scaled, video

from mer_agent.errors import MissingExtraError, WeightsError
from mer_agent.streams.face_tracks import Sighting
from mer_agent.streams.faces import CROP_SIDE, LANDMARKS, FaceWatcher, frontality, similarity
from mer_agent.streams.media import video_frames
from mer_agent.streams.types import Face, VideoFrame

MEDIA = Path(os.environ.get("MER_DATA_DIR", "../shared/data")) / "media"
EMPTY = np.full((144, 176, 3), 90, np.uint8)


def alike(a: Face, b: Face) -> float:
    """Correlation of two crops: 1 when they are the same, 0.7 when one is shifted by two pixels."""
    return float(np.corrcoef(a.crop.ravel(), b.crop.ravel())[0, 1])


class TestGeometry:
    def test_a_similarity_is_found_exactly(self) -> None:
        turn = 1.5 * np.exp(0.3j)
        target = LANDMARKS @ (1, 1j) * turn + (3 - 2j)
        matrix = similarity(LANDMARKS, np.stack([target.real, target.imag], 1))
        assert matrix[:, :2] == pytest.approx(np.array([[turn.real, -turn.imag], [turn.imag, turn.real]]))
        assert matrix[:, 2] == pytest.approx([3, -2])

    def test_points_in_one_place_are_only_shifted(self) -> None:
        assert similarity(np.zeros((5, 2)), np.ones((5, 2))) == pytest.approx(np.array([[1, 0, 1], [0, 1, 1]]))

    def test_a_profile_is_told_by_its_nose(self) -> None:
        profile = LANDMARKS.copy()
        profile[2, 0] = profile[0, 0]
        assert frontality(LANDMARKS) == pytest.approx(1)
        assert frontality(profile) == pytest.approx(0.1)
        assert frontality(np.zeros((5, 2))) == pytest.approx(0.1)


def test_without_opencv_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="mer-agent\\[agent\\]"):
        FaceWatcher(tmp_path)


@pytest.mark.parametrize("content", [None, b"no network"])
def test_a_broken_detector_names_the_command_that_mends_it(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match="mer-agent weights pull yunet"):
        FaceWatcher(tmp_path)


@pytest.mark.real_weights
class TestRealFaces:
    @pytest.fixture
    def watcher(self) -> FaceWatcher:
        return FaceWatcher(needs.weights("yunet"))

    def test_one_face_is_one_track_and_its_picture_is_not_kept(self, watcher: FaceWatcher) -> None:
        seen = [watcher.see(frame) for frame in sample_frames()]
        assert all(frame.faces is not None and [face.track for face in frame.faces] == [0] for frame in seen)
        assert all(frame.image.size == 0 for frame in seen)
        faces = [frame.faces[0] for frame in seen if frame.faces]
        assert all(face.crop.shape == (CROP_SIDE, CROP_SIDE) and face.crop.dtype == np.uint8 for face in faces)
        assert faces[0].mouth_motion is None
        assert all(face.mouth_motion is not None for face in faces[1:])
        assert np.mean([face.quality for face in faces]) > 0.5

    def test_following_finds_what_detecting_each_picture_finds(self, watcher: FaceWatcher) -> None:
        careful, likeness = FaceWatcher(needs.weights("yunet"), detect_every_s=0), []
        for frame in sample_frames():
            followed, found = watcher.see(frame).faces, careful.see(frame).faces
            assert followed
            assert found
            assert np.abs(np.subtract(followed[0].box, found[0].box)).max() < 0.08  # of the picture
            likeness.append(alike(followed[0], found[0]))
        assert np.mean(likeness) > 0.8

    def test_eyes_and_mouth_of_a_crop_are_where_those_of_training_faces_are(self, watcher: FaceWatcher) -> None:
        (face,) = watcher.see(video(sample())[0]).faces or ()
        # Put the crop back into a picture, four times as large, and look for its landmarks there.
        large = np.full((288, 288, 3), 128, np.uint8)
        large[48:240, 48:240] = scaled(np.repeat(face.crop[:, :, None], 3, 2), 192, 192)
        (again,) = watcher._detect(large)
        assert (again.landmarks - 48) / 192 == pytest.approx(LANDMARKS, abs=0.07)

    def test_nobody_is_found_where_nobody_is(self, watcher: FaceWatcher) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (144, 176, 3)).astype(np.uint8)
        assert [frame.faces for frame in map(watcher.see, video(EMPTY, EMPTY, noise))] == [(), (), ()]

    def test_two_faces_are_two_tracks_the_larger_first(self, watcher: FaceWatcher) -> None:
        one = sample()
        small = EMPTY.copy()
        small[20:128, 22:154] = scaled(one, 132, 108)
        both = np.concatenate([small, one], axis=1)
        for frame in video(*[both] * 8):
            faces = watcher.see(frame).faces or ()
            assert len({face.track for face in faces}) == 2
            assert faces[0].box[0] > 0.5 > faces[1].box[0]

    def test_a_face_that_leaves_is_gone_and_another_later(self, watcher: FaceWatcher) -> None:
        there = [frame.image for frame in sample_frames()[:5]]
        frames = video(*there, *[EMPTY] * 15, *there)
        tracks = [[face.track for face in watcher.see(frame).faces or ()] for frame in frames]
        assert tracks[:5] == [[0]] * 5
        assert tracks[5:20] == [[]] * 15
        assert tracks[20:] == [[1]] * 5

    def test_a_face_that_is_covered_for_a_moment_is_the_same(self, watcher: FaceWatcher) -> None:
        frames = [frame.image for frame in sample_frames()[:12]]
        covered = [frame.copy() for frame in frames]
        for picture in covered[4:7]:
            picture[20:130, 30:140] = picture.mean(dtype=np.uint64)
        tracks = [[face.track for face in watcher.see(frame).faces or ()] for frame in video(*covered)]
        assert tracks[:4] == [[0]] * 4
        assert tracks[-3:] == [[0]] * 3

    @pytest.mark.parametrize("size", [(3840, 2160), (1920, 1080), (160, 120), (1080, 1920)], ids=str)
    def test_any_size_of_picture_will_do(self, watcher: FaceWatcher, size: tuple[int, int]) -> None:
        (expected,) = watcher.see(video(sample())[0]).faces or ()
        side = min(size[0] / 176, size[1] / 144)
        picture = np.full((size[1], size[0], 3), 90, np.uint8)
        inner = scaled(sample(), int(176 * side), int(144 * side))
        picture[: inner.shape[0], : inner.shape[1]] = inner
        (found,) = FaceWatcher(needs.weights("yunet")).see(video(picture)[0]).faces or ()
        shares = np.multiply(found.box, (size[0], size[1]) * 2) / np.array([*inner.shape[1::-1]] * 2)
        assert shares == pytest.approx(expected.box, abs=0.04)
        assert alike(expected, found) > 0.7

    def test_colour_does_not_matter(self, watcher: FaceWatcher) -> None:
        (expected,) = watcher.see(video(sample())[0]).faces or ()
        luma = (sample() @ (0.299, 0.587, 0.114)).astype(np.uint8)
        blue_first = np.ascontiguousarray(sample()[:, :, ::-1])
        alpha = np.concatenate([sample(), np.full((144, 176, 1), 255, np.uint8)], axis=2)
        for picture in (luma, luma[:, :, None], blue_first, alpha):
            watcher.forget()
            (found,) = watcher.see(video(picture)[0]).faces or ()
            assert found.box == pytest.approx(expected.box, abs=0.04)
            assert alike(expected, found) > 0.7

    def test_a_dark_face_is_found(self, watcher: FaceWatcher) -> None:
        (face,) = watcher.see(video((sample() * 0.15).astype(np.uint8))[0]).faces or ()
        assert face.quality > 0

    @pytest.mark.parametrize(
        "image",
        [
            np.zeros((0, 0, 3), np.uint8),
            np.zeros((1, 1, 3), np.uint8),
            np.zeros((8, 4000, 3), np.uint8),
            np.full((144, 176, 3), np.nan, np.float32),
            np.zeros((144, 176, 2), np.uint8),
            np.zeros(100, np.uint8),
            None,
        ],
        ids=["empty", "pixel", "stripe", "nan", "two channels", "flat", "none"],
    )
    def test_what_is_no_picture_has_no_faces_and_stops_nothing(self, watcher: FaceWatcher, image: Any) -> None:
        first, broken, last = video(sample(), sample(), sample())
        watcher.see(first)
        bad = VideoFrame(image, broken.captured_ns, broken.sequence)
        assert watcher.see(bad).faces == ()
        assert watcher.unreadable == 1
        assert [face.track for face in watcher.see(last).faces or ()] == [0]

    def test_what_opencv_fails_on_has_no_faces_and_stops_nothing(
        self, watcher: FaceWatcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(small: np.ndarray) -> list[Sighting]:
            raise watcher._cv.error("out of memory")

        first, second = video(sample(), sample())
        with monkeypatch.context() as broken:
            broken.setattr(watcher, "_detect", fail)
            assert watcher.see(first).faces == ()
        assert watcher.unreadable == 1
        assert "video-0" in caplog.text
        assert len(watcher.see(second).faces or ()) == 1

    def test_the_picture_may_change_its_size_midway(self, watcher: FaceWatcher) -> None:
        frames = video(sample(), scaled(sample(), 352, 288), np.rot90(sample()).copy(), sample())
        assert [len(watcher.see(frame).faces or ()) for frame in frames][:2] == [1, 1]

    def test_cameras_are_watched_apart(self, watcher: FaceWatcher) -> None:
        frame = video(sample())[0]
        watcher.see(frame)
        other = watcher.see(VideoFrame(EMPTY, frame.captured_ns, 0, "video-1"))
        assert other.faces == ()
        assert watcher.see(video(sample(), sample())[1]).faces

    @pytest.mark.skipif(not MEDIA.is_dir(), reason="MER_DATA_DIR holds no media")
    @pytest.mark.parametrize(
        ("name", "tracks"),
        [("hdtf_WDA_KatieHill_000.mp4", 1), ("meld_test_dia169_utt6.mp4", 2), ("meld_test_dia244_utt7.mp4", 1)],
    )
    def test_real_clips_keep_their_people(self, watcher: FaceWatcher, name: str, tracks: int) -> None:
        frames = list(video_frames(MEDIA / name, rate_hz=10))[:60]
        seen = [face.track for frame in frames for face in watcher.see(frame).faces or ()]
        assert len(set(seen)) == tracks  # the last one is a man in profile
        assert len(seen) >= 0.9 * len(frames)
