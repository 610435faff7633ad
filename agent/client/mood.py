"""What a chatbot remembers of its speakers: the newest emotion of each, and the mood that the last ones add up to.

    weight of an utterance = 2^(-age / half-life),  mood = weighted mean of the distributions

Old emotions fade instead of falling out of a window, so that a mood never jumps because time has passed.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from mer_agent.wire.schema import EmotionMessage

SPEAKERS = 256
"""Speakers who are remembered; then those who were silent the longest are forgotten."""
UTTERANCES = 64
"""Utterances of each that are remembered, the newest."""
FADED = 2.0**-8
"""What weighs less than this no longer counts."""

_PLEASANT = {
    "happy": 1.0, "happiness": 1.0, "joy": 1.0, "excited": 1.0,
    "sad": -1.0, "sadness": -1.0, "angry": -1.0, "anger": -1.0, "frustrated": -1.0, "fear": -1.0, "disgust": -1.0,
}  # fmt: skip
"""Labels with a sign; all others (neutral, surprise) count as 0."""


@dataclass(frozen=True, slots=True)
class Mood:
    """How somebody has been of late."""

    speaker: str
    label: str
    """The likeliest label of `distribution`."""
    distribution: Mapping[str, float]
    """Label to probability: the mean of the utterances, the newer ones weighing more."""
    pleasantness: float
    """-1 unpleasant to 1 pleasant."""
    trend: float | None
    """Pleasantness of the newer half of the utterances minus that of the older; None: there is but one."""
    utterances: int
    """How many it is made of."""


@dataclass(slots=True)
class _Heard:
    message: EmotionMessage
    at_s: float


class Memory:
    """The emotions of each speaker, the latest ones; times are seconds of any clock that doesn't jump."""

    def __init__(self) -> None:
        # `speaker-0` of another agent or session is somebody else.
        self._speakers: OrderedDict[tuple[str, str, str], OrderedDict[str, _Heard]] = OrderedDict()

    def note(self, message: EmotionMessage, now_s: float) -> None:
        """Takes an emotion; a revision takes the place of what it revises, a partial one counts as nothing."""
        if message.kind == "partial":
            return
        key = (message.agent, message.session, message.speaker)
        heard = self._speakers.setdefault(key, OrderedDict())
        if (before := heard.get(message.utterance)) is not None:
            if message.revision >= before.message.revision:
                before.message = message
            return
        heard[message.utterance] = _Heard(message, now_s)
        self._speakers.move_to_end(key)
        if len(heard) > UTTERANCES:
            heard.popitem(last=False)
        if len(self._speakers) > SPEAKERS:
            self._speakers.popitem(last=False)

    def forget(self, agent: str, session: str, speaker: str | None = None) -> None:
        """Drops a speaker of a session, or all of them."""
        for key in [key for key in self._speakers if key[:2] == (agent, session) and speaker in (None, key[2])]:
            del self._speakers[key]

    def latest(self, speaker: str | None = None) -> EmotionMessage | None:
        """The newest emotion of a speaker, or of anybody; None: nobody has said anything."""
        heard = self._of(speaker)
        return next(reversed(heard)).message if heard else None

    def mood(self, speaker: str | None, half_life_s: float, now_s: float) -> Mood | None:
        """The mood of a speaker, or of whoever spoke last; None: nothing that still counts could be judged.

        Args:
            speaker: as in topics; None: whoever spoke last.
            half_life_s: after so many seconds an utterance counts half as much.
            now_s: the present, by the clock of `note`.

        Raises:
            ValueError: the half-life is not positive.
        """
        if not half_life_s > 0:
            raise ValueError(f"a mood fades within a positive number of seconds, not {half_life_s}")
        weighed = [
            (2.0 ** (-max(0.0, now_s - one.at_s) / half_life_s), one.message)
            for one in self._of(speaker)
            if one.message.distribution
        ]
        weighed = [(weight, message) for weight, message in weighed if weight >= FADED]
        if not weighed:
            return None
        newest = weighed[-1][1]
        # Labels of another set can't be added to these: the model was changed.
        weighed = [(weight, message) for weight, message in weighed if message.label_set == newest.label_set]
        total = math.fsum(weight for weight, _ in weighed)
        labels = dict.fromkeys(label for _, message in weighed for label in message.distribution)
        distribution = {
            label: math.fsum(weight * message.distribution.get(label, 0.0) for weight, message in weighed) / total
            for label in labels
        }
        signs = [(weight, _pleasantness(message)) for weight, message in weighed]
        half = len(signs) // 2
        return Mood(
            speaker=newest.speaker,
            label=max(distribution, key=lambda label: distribution[label]),
            distribution=distribution,
            pleasantness=_mean(signs),
            trend=_mean(signs[-half:]) - _mean(signs[:half]) if half else None,
            utterances=len(weighed),
        )

    def _of(self, speaker: str | None) -> list[_Heard]:
        for key in reversed(self._speakers):
            if speaker in (None, key[2]):
                return list(self._speakers[key].values())
        return []


def _pleasantness(message: EmotionMessage) -> float:
    """The valence if the model tells, else what the labels say of it."""
    if message.valence is not None:
        return message.valence
    return math.fsum(_PLEASANT.get(label, 0.0) * p for label, p in message.distribution.items())


def _mean(weighed: list[tuple[float, float]]) -> float:
    return math.fsum(weight * value for weight, value in weighed) / math.fsum(weight for weight, _ in weighed)
