"""Which of the faces in view speaks: the one whose mouth moves more than its brow while there is voice.

Mouth motion (`streams.faces`) is already relative to the rest of the face, so a nod or a lamp counts for little; what
is left below 0 is noise. Each sighting weighs as much as the voice was loud just before it. At ten pictures a second,
talkers in real clips measure 0.04 to 0.16 and listeners 0.00 to 0.04; at five, the two overlap more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Face, Utterance, VideoFrame

_WINDOW_S = 0.2
"""How far before a picture the voice counts: about a syllable."""
_RANGE_DB = 30.0
"""So far below the loudest moment of the utterance, voice counts for nothing."""
_STILL = 0.004
"""Mouth motion given to every face, so that among faces that don't move the largest share goes to the longest seen."""

Sightings = list[tuple[int, Face]]
"""When (in nanoseconds) and how a face was seen, in order of time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A face that was in view during an utterance."""

    source: str
    """Which camera."""
    track: int
    sightings: Sightings
    mouth_motion: float
    """Mean over the utterance, weighed by the voice."""
    talking: float
    """0 to 1: its share of all faces' mouth motion, counted over the pictures in which it was seen."""


def faces_in_view(utterance: Utterance, frames: Sequence[VideoFrame]) -> list[Seen]:
    """Gives every face in `frames`, the likeliest speaker first.

    Args:
        utterance: who speaks in it is asked; its sound says when. Without sound every moment counts alike.
        frames: its pictures, with their faces.
    """
    tracks: dict[tuple[str, int], Sightings] = {}
    for frame in frames:
        for face in frame.faces or ():
            tracks.setdefault((frame.source, face.track), []).append((frame.captured_ns, face))
    motions = {key: _motion(utterance, sightings) for key, sightings in tracks.items()}
    amounts = {key: (motions[key] + _STILL) * len(sightings) for key, sightings in tracks.items()}
    total = sum(amounts.values())
    seen = [Seen(*key, tracks[key], motions[key], amounts[key] / total) for key in tracks]
    return sorted(seen, key=lambda face: (-face.talking, face.source, face.track))


def _motion(utterance: Utterance, sightings: Sightings) -> float:
    moving = [(at_ns, face.mouth_motion) for at_ns, face in sightings if face.mouth_motion is not None]
    if not moving:
        return 0.0
    loudness = np.array([_level_db(utterance, at_ns) for at_ns, _ in moving])
    voice = np.clip(1 + loudness / _RANGE_DB, 0.0, 1.0)
    weight = float(voice.sum())
    motion = np.maximum([change for _, change in moving], 0.0)
    return float(voice @ motion) / weight if weight > 0 else 0.0


def _level_db(utterance: Utterance, at_ns: int) -> float:
    """The voice just before `at_ns`, in dB relative to the utterance as a whole."""
    if utterance.audio is None or len(utterance.audio) == 0:
        return 0.0
    begun_ns = utterance.start_ns if utterance.audio_start_ns is None else utterance.audio_start_ns
    last = (at_ns - begun_ns) * SAMPLE_RATE_HZ // NS_PER_S
    near = utterance.audio[max(0, last - int(_WINDOW_S * SAMPLE_RATE_HZ)) : max(0, last)]
    if len(near) == 0:
        return -_RANGE_DB
    near_power, power = (float(np.nan_to_num(np.square(x, dtype=np.float64)).mean()) for x in (near, utterance.audio))
    return 10 * float(np.log10((near_power + 1e-12) / (power + 1e-12)))
