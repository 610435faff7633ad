"""Colours of emotions that people with any colour vision can tell apart (Okabe and Ito, 2008, with a lighter grey).

No label of a set shares its colour with another one of the same set; sets share where they mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence

GREY, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#bbbbbb", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
_KNOWN = {
    "neutral": GREY,
    "happy": GREEN, "happiness": GREEN, "joy": GREEN, "positive": GREEN,
    "excited": YELLOW, "disgust": YELLOW,
    "surprise": SKY,
    "sad": BLUE, "sadness": BLUE,
    "angry": VERMILION, "anger": VERMILION, "negative": VERMILION,
    "frustrated": ORANGE, "contempt": ORANGE,
    "fear": PURPLE,
}  # fmt: skip


def colours(labels: Sequence[str]) -> dict[str, str]:
    """Gives each label a colour, `#rrggbb`; labels that nobody knows get those that are left."""
    known = {label: _KNOWN[label] for label in labels if label in _KNOWN}
    left = [colour for colour in dict.fromkeys(_KNOWN.values()) if colour not in known.values()] or [GREY]
    unknown = [label for label in labels if label not in known]
    return {**known, **{label: left[at % len(left)] for at, label in enumerate(unknown)}}
