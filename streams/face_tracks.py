"""Which face is which: identities that last from picture to picture, by overlap and motion. No picture is looked at.

Where a track is expected comes from optical flow or, when that has lost it, from its last velocity. A detection belongs
to the track whose expected box it overlaps most. A track that was not found is remembered for a while, since a head
turns away and comes back; then its number is gone for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_agent.streams.types import NS_PER_S

_LEAST_OVERLAP = 0.25
"""Intersection over union from which two boxes may be of the same face."""
_REMEMBERED_NS = 1 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a face is: `box` (left, top, width, height) and `landmarks` [5, 2], in pixels, `score` 0..1."""

    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    score: float

    def moved(self, motion: NDArray[np.float64]) -> Sighting | None:
        """Gives the sighting after a similarity transform [2, 3]; None if that is nothing a head can do."""
        scale = float(np.hypot(motion[0, 0], motion[1, 0]))
        if not np.isfinite(motion).all() or not 0.5 < scale < 2.0:
            return None
        centre = motion[:, :2] @ (self.box[:2] + self.box[2:] / 2) + motion[:, 2]
        size = self.box[2:] * scale
        landmarks = self.landmarks @ motion[:, :2].T + motion[:, 2]
        return Sighting(np.concatenate([centre - size / 2, size]), landmarks, self.score)

    def shifted(self, by: NDArray[np.float64]) -> Sighting:
        """Gives the sighting `by` (x, y) pixels away."""
        return Sighting(np.concatenate([self.box[:2] + by, self.box[2:]]), self.landmarks + by, self.score)

    def overlaps_picture(self, width: int, height: int) -> bool:
        """Tells whether the middle of the face is in the picture."""
        x, y = self.box[:2] + self.box[2:] / 2
        return bool(0 <= x < width and 0 <= y < height)


@dataclass(slots=True)
class _Track:
    last: Sighting
    at_ns: int
    velocity: NDArray[np.float64]
    """Pixels a second."""


class Tracks:
    """The faces of one camera.

    Attributes:
        seen: track -> where it is in the last picture.
    """

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._next = 0
        self.seen: dict[int, Sighting] = {}

    def __contains__(self, track: int) -> bool:
        """Whether a track is still remembered."""
        return track in self._tracks

    def forget(self) -> None:
        """The camera now shows something else: every face from here on is a new one."""
        self._tracks.clear()
        self.seen = {}

    def followed(self, sightings: Mapping[int, Sighting], at_ns: int) -> None:
        """Takes where tracks were found by following them; the others are not seen."""
        self._update(dict(sightings), at_ns)

    def detected(self, found: Sequence[Sighting], at_ns: int, predicted: Mapping[int, Sighting]) -> None:
        """Takes what a detector found; tracks keep their number, the rest get new ones.

        Args:
            found: the faces, in any order.
            at_ns: when the picture was taken.
            predicted: where tracks are expected, as far as they were followed.
        """
        expected = {track: predicted.get(track) or self._extrapolated(track, at_ns) for track in self._tracks}
        pairs = sorted(
            (
                (overlap(where.box, sighting.box), track, n)
                for track, where in expected.items()
                for n, sighting in enumerate(found)
            ),
            key=lambda pair: (-pair[0], pair[1], pair[2]),
        )
        taken: dict[int, int] = {}
        for shared, track, n in pairs:
            if shared >= _LEAST_OVERLAP and n not in taken and track not in taken.values():
                taken[n] = track
        seen = {}
        for n, sighting in enumerate(found):
            if n not in taken:
                taken[n] = self._next
                self._next += 1
            seen[taken[n]] = sighting
        self._update(seen, at_ns)

    def _extrapolated(self, track: int, at_ns: int) -> Sighting:
        known = self._tracks[track]
        return known.last.shifted(known.velocity * (at_ns - known.at_ns) / NS_PER_S)

    def _update(self, seen: dict[int, Sighting], at_ns: int) -> None:
        for track, sighting in seen.items():
            known = self._tracks.get(track)
            velocity = np.zeros(2)
            if known is not None and at_ns > known.at_ns:
                way = (sighting.box - known.last.box)[:2] + (sighting.box - known.last.box)[2:] / 2
                velocity = 0.5 * known.velocity + 0.5 * way * NS_PER_S / (at_ns - known.at_ns)
            self._tracks[track] = _Track(sighting, at_ns, velocity)
        self._tracks = {n: track for n, track in self._tracks.items() if at_ns - track.at_ns <= _REMEMBERED_NS}
        self.seen = seen


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Gives intersection over union of two boxes (left, top, width, height)."""
    first, last = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = float(np.prod(np.maximum(last - first, 0)))
    whole = float(np.prod(a[2:]) + np.prod(b[2:])) - shared
    return shared / whole if whole > 0 else 0.0
