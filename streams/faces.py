"""Faces in pictures: where they are, which is which, and a 48x48 grey crop of each with the eyes and mouth in place.

YuNet finds boxes and five landmarks a few times a second; in the pictures between, the landmarks are followed by
optical flow (pyramidal Lucas-Kanade), which costs a tenth. `face_tracks` keeps the identities. A crop is a similarity
transform of the picture that brings the landmarks to where YuNet finds them, on average, in the training faces
(FER2013, whose crops are a detector's boxes): so the network sees live what it saw in training.

Nothing of a picture is kept but the crops. Source of YuNet: Wu, Peng and Yu 2023, "YuNet: a tiny millisecond-level face
detector".
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_agent.errors import MissingExtraError, WeightsError
from mer_agent.streams.face_tracks import Sighting, Tracks
from mer_agent.streams.types import NS_PER_S, Face, VideoFrame

log = logging.getLogger(__name__)

CROP_SIDE = 48

LANDMARKS = np.array([[0.318, 0.376], [0.682, 0.376], [0.5, 0.589], [0.352, 0.757], [0.648, 0.757]])
"""Eyes, tip of the nose and corners of the mouth in a crop, as shares of its side.

The mean of what YuNet finds in 1,454 of 1,500 random training faces of FER+, enlarged four times, made symmetric.
Their deviation is 0.07 to 0.08 (nose: 0.11), which the training's random shift, scale and turn are there for.
"""

WORKING_SIDE_PX = 320
"""Faces are looked for in pictures of at most this size: one of a twentieth of the height is still found."""

_LEAST_SCORE = 0.8
_MOST_FACES = 8
"""The largest of them; an audience has no time to be read."""
_CUT_LEVELS = 40.0
"""Mean change in grey levels of a tiny picture beyond which the camera now shows something else."""
_LOST_PX = 1.5
"""A point of a followed face that flow, there and back again, doesn't bring back to this distance is lost."""
_READABLE_EYES_PX, _SHARP = 16.0, 60.0
"""Distance of the eyes in the picture, and variance of a crop's Laplacian, from which more is no better."""

_MOUTH = np.s_[30:47, 12:36]
_BROW = np.s_[4:26, 8:40]


@dataclass(slots=True)
class _View:
    """What is remembered of one camera."""

    tracks: Tracks = field(default_factory=Tracks)
    grey: NDArray[np.uint8] | None = None
    """The last picture in working size."""
    thumbnail: NDArray[np.float32] | None = None
    detected_ns: int | None = None
    crops: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    """Track -> its last crop, of mean 0 and deviation 1."""


class FaceWatcher:
    """Looks at the pictures of one or more cameras in order of capture, and finds the faces in each.

    Args:
        weights: the folder of YuNet's weights (catalogue: `yunet`).
        detect_every_s: how long faces are only followed, unless one gets lost.

    Attributes:
        unreadable: pictures that were no pictures, or that OpenCV failed on.

    Raises:
        MissingExtraError: OpenCV is not installed.
        WeightsError: the weights can't be read.
    """

    def __init__(self, weights: Path, detect_every_s: float = 0.45) -> None:
        self._cv = _opencv()
        path = weights / "face_detection_yunet_2023mar.onnx"
        try:
            self._detector = self._cv.FaceDetectorYN.create(str(path), "", (320, 320), _LEAST_SCORE, 0.3, 200)
        except self._cv.error as error:
            raise WeightsError(f"the face detector {path} can't be read; run: mer-agent weights pull yunet") from error
        self._detect_every_ns = int(detect_every_s * NS_PER_S)
        self._views: dict[str, _View] = {}
        self.unreadable = 0

    def forget(self) -> None:
        """Forgets every face that was seen; numbers begin at 0 again."""
        self._views.clear()

    def see(self, frame: VideoFrame) -> VideoFrame:
        """Gives the frame with its faces, largest first, and without its picture.

        The picture may also be grey, [height, width]. One that is neither, or too small to hold a face, has none.
        """
        image = _as_rgb(frame.image)
        faces: tuple[Face, ...] = ()
        try:
            if image is not None:
                faces = self._look(image, frame.captured_ns, self._views.setdefault(frame.source, _View()))
        except self._cv.error as error:  # a picture costs at most its own faces, whatever is wrong with it
            log.warning("No faces can be looked for in a picture of %s (%s)", frame.source, error.err)
            self._views.pop(frame.source, None)
            image = None
        self.unreadable += image is None
        return replace(frame, image=np.empty((0, 0, 3), np.uint8), faces=faces)

    def _look(self, image: NDArray[np.uint8], at_ns: int, view: _View) -> tuple[Face, ...]:
        scale = min(1.0, WORKING_SIDE_PX / max(image.shape[:2]))
        small = image if scale == 1.0 else self._resized(image, scale)
        grey: NDArray[np.uint8] = self._cv.cvtColor(small, self._cv.COLOR_RGB2GRAY)
        if self._is_cut(grey, view):
            view.tracks.forget()
            view.grey = None
        followed, lost = self._follow(view, grey)
        due = view.detected_ns is None or at_ns - view.detected_ns >= self._detect_every_ns
        if due or lost or view.grey is None:
            view.tracks.detected(self._detect(small), at_ns, predicted=followed)
            view.detected_ns = at_ns
        else:
            view.tracks.followed(followed, at_ns)
        view.grey = grey
        seen = sorted(view.tracks.seen.items(), key=lambda item: -item[1].box[3])[:_MOST_FACES]
        faces = tuple(self._face(track, sighting, image, scale, view) for track, sighting in seen)
        view.crops = {track: crop for track, crop in view.crops.items() if track in view.tracks}
        return faces

    def _detect(self, small: NDArray[np.uint8]) -> list[Sighting]:
        height, width = small.shape[:2]
        self._detector.setInputSize((width, height))
        _, rows = self._detector.detect(self._cv.cvtColor(small, self._cv.COLOR_RGB2BGR))
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        rows = rows[np.isfinite(rows).all(1) & (rows[:, 2:4] > 0).all(1)]
        return [Sighting(row[:4].astype(float), row[4:14].reshape(5, 2).astype(float), float(row[14])) for row in rows]

    def _follow(self, view: _View, grey: NDArray[np.uint8]) -> tuple[dict[int, Sighting], bool]:
        """Gives where flow finds each track of the last picture, and whether one of them got lost."""
        if view.grey is None or view.grey.shape != grey.shape or not view.tracks.seen:
            return {}, view.grey is not None and bool(view.tracks.seen)
        followed = {}
        for track, sighting in view.tracks.seen.items():
            before = _points(sighting)
            there, found, _ = self._cv.calcOpticalFlowPyrLK(view.grey, grey, before, None, winSize=(15, 15), maxLevel=3)
            back, again, _ = self._cv.calcOpticalFlowPyrLK(grey, view.grey, there, None, winSize=(15, 15), maxLevel=3)
            kept = (found & again).ravel().astype(bool) & (np.linalg.norm(back - before, axis=1) < _LOST_PX)
            if kept.mean() < 0.5:
                continue
            motion = similarity(before[kept].astype(float), there[kept].astype(float))
            moved = sighting.moved(motion)
            if moved is not None and moved.overlaps_picture(grey.shape[1], grey.shape[0]):
                followed[track] = moved
        return followed, len(followed) < len(view.tracks.seen)

    def _is_cut(self, grey: NDArray[np.uint8], view: _View) -> bool:
        before = view.thumbnail
        view.thumbnail = self._cv.resize(grey, (24, 18), interpolation=self._cv.INTER_AREA).astype(np.float32)
        if before is None:
            return False
        change = view.thumbnail - before
        return float(np.abs(change - change.mean()).mean()) > _CUT_LEVELS  # a lamp that goes on is no cut

    def _face(self, track: int, sighting: Sighting, image: NDArray[np.uint8], scale: float, view: _View) -> Face:
        landmarks = sighting.landmarks / scale
        crop = self._crop(image, landmarks)
        even = crop.astype(np.float32)
        even = (even - even.mean()) / max(float(even.std()), 8.0)
        before = view.crops.get(track)
        motion = None
        if before is not None:
            change = np.abs(even - before)
            motion = float(change[_MOUTH].mean() - change[_BROW].mean())
        view.crops[track] = even
        height, width = image.shape[:2]
        left, top, across, down = (sighting.box / scale).tolist()
        box = (left / width, top / height, across / width, down / height)
        return Face(track, crop, box, self._quality(crop, landmarks) * sighting.score, motion)

    def _crop(self, image: NDArray[np.uint8], landmarks: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Large faces are averaged down and not sampled: a crop of a 4K face is as smooth as its training peers."""
        matrix = similarity(landmarks, LANDMARKS * CROP_SIDE)
        shrink = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        many = min(8, max(1, round(1 / max(shrink, 1e-3))))  # crop at a multiple of the size, then average
        large = (matrix * many).astype(np.float32)
        large[:, 2] += (many - 1) / 2  # pixel centres
        side = CROP_SIDE * many
        crop = self._cv.warpAffine(
            image, large, (side, side), flags=self._cv.INTER_LINEAR, borderMode=self._cv.BORDER_REPLICATE
        )
        grey = self._cv.cvtColor(crop, self._cv.COLOR_RGB2GRAY)
        if many > 1:
            grey = self._cv.resize(grey, (CROP_SIDE, CROP_SIDE), interpolation=self._cv.INTER_AREA)
        return np.asarray(grey, np.uint8)

    def _quality(self, crop: NDArray[np.uint8], landmarks: NDArray[np.float64]) -> float:
        eyes = landmarks[1] - landmarks[0]
        apart = float(np.linalg.norm(eyes))
        size = min(1.0, apart / _READABLE_EYES_PX)
        sharp = min(1.0, float(self._cv.Laplacian(crop, self._cv.CV_32F).var()) / _SHARP)
        return size * (0.2 + 0.8 * sharp) * frontality(landmarks)

    def _resized(self, image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return np.asarray(self._cv.resize(image, size, interpolation=self._cv.INTER_AREA), np.uint8)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gives [2, 3], the turn, scale and shift that bring points [n, 2] closest to others (least squares).

    Source: Umeyama 1991; in the plane it is one division of complex numbers.
    """
    a, b = source @ (1, 1j), target @ (1, 1j)
    a0, b0 = a.mean(), b.mean()
    spread = float(np.square(np.abs(a - a0)).sum())
    turn = np.vdot(a - a0, b - b0) / spread if spread > 1e-9 else 1.0
    shift = b0 - turn * a0
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def frontality(landmarks: NDArray[np.float64]) -> float:
    """Gives 1 for a face that looks at the camera, down to 0.1 for a profile: where the nose is between the eyes."""
    eyes = landmarks[1] - landmarks[0]
    apart = float(np.linalg.norm(eyes))
    if apart < 1e-6:
        return 0.1
    along = float((landmarks[2] - landmarks[0]) @ eyes) / apart**2  # 0.5 in the middle
    return max(0.1, 1 - 2 * abs(along - 0.5))


def _points(sighting: Sighting) -> NDArray[np.float32]:
    """The landmarks, and a grid on the face: a few points may get lost."""
    left, top, width, height = sighting.box
    grid = [(left + width * x, top + height * y) for y in (0.3, 0.5, 0.7) for x in (0.25, 0.5, 0.75)]
    return np.concatenate([sighting.landmarks, np.array(grid)]).astype(np.float32)


def _as_rgb(image: Any) -> NDArray[np.uint8] | None:
    """The picture as uint8 [height, width, 3]; None when it is nothing of that kind."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        return None
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] not in (1, 3, 4) or min(image.shape[:2]) < 16:
        return None
    channels = image[:, :, :3] if image.shape[2] > 1 else np.repeat(image, 3, axis=2)
    return np.ascontiguousarray(channels)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("finding faces needs OpenCV: pip install 'mer-agent[agent]'") from error
    cv2.setNumThreads(1)  # speech and words need the cores more
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of engines that it doesn't have
    return cv2
