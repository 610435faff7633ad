"""Who speaks: voices are told apart as they are heard, and numbered in order of appearance.

    embedding --voice space--> place --compare with each known voice--> known voice | someone new | unknown

The places of a voice's utterances are summed, weighted by their length; older ones fade, so that the sum never stands
for more than the last `MEMORY_S` of that voice. A new utterance is compared with each sum. Let l_k be the log odds that
it is voice k and n, below 0, those of someone new before anything is heard. Then

    confidence(k) = exp(l_k) / (exp(n) + sum_j exp(l_j) + sum_s exp(n + l_s))

so that confidence is a matter of margin: nearly 1 when one voice is much nearer than all others, about 1/2 between two.
The last sum runs over strangers: the latest utterances that were too short, or too much like several voices, to say
whose they are; their speaker is unknown (None) and stays so, but when the same voice is heard again they count. Someone
new gets a number at once if the utterance is long enough to know a voice by. A number that was given is never taken
back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_agent.config.settings import SpeakerSettings
from mer_agent.streams import voice_space
from mer_agent.streams.voice_space import Vector, VoiceSpace

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

MEMORY_S = 20.0
"""Seconds of speech that a voice is known by."""

FIRST_S = 0.4
"""The very first voice gets its number after this much."""

ENOUGH_S = 0.6
"""Someone new gets a number after this much. Less is short, and has to be surer of everything."""

_LEAST_CONFIDENCE, _LEAST_CONFIDENCE_SHORT = 0.4, 0.6
"""Less is unknown."""

_LEARN_FROM, _LEARN_FROM_SHORT = 0.6, 0.9
"""Utterances that are surer than this refine the voice; others could blur it."""

_SECOND, _THIRD, _MORE = -1.5, -3.0, 0.3
"""Log odds of somebody new where one voice is known, where two are, and what each further one takes off."""

_EXPECTED = -0.5
"""The same of somebody who is enrolled and hasn't spoken yet."""

_REMEMBERED = 8
"""Strangers that are kept, the latest."""


@dataclass(frozen=True, slots=True)
class SpeakerGuess:
    """`speaker` is a number in order of appearance, None when unknown; `confidence` is 0..1, 0 for unknown."""

    speaker: int | None
    confidence: float


UNKNOWN = SpeakerGuess(None, 0.0)


@dataclass(slots=True, eq=False)
class _Voice:
    """The sum of a voice's places and the seconds that it stands for."""

    total: Vector
    known_s: float

    @property
    def place(self) -> Vector:
        return self.total / max(float(np.linalg.norm(self.total)), 1e-9)

    def learn(self, place: Vector, duration_s: float) -> None:
        self.total = self.total + duration_s * place
        self.known_s += duration_s
        if self.known_s > MEMORY_S:
            self.total = self.total * (MEMORY_S / self.known_s)
            self.known_s = MEMORY_S


class SpeakerTracker:
    """Gives each utterance its speaker, as well as can be told when it ends.

    Args:
        settings: `limit` is the number of voices told apart at most; `fixed` the number of speakers when it is known
            (0: find out): with it, nobody new comes after that many, and someone new is expected until then.
        space: how to compare voices; the one for GE2E that the package brings, if not given.
        enrolled: name, embedding [256] and seconds of speech of voices that may come; one that does gets the next
            number and keeps its name.
    """

    def __init__(
        self,
        settings: SpeakerSettings | None = None,
        space: VoiceSpace | None = None,
        enrolled: Iterable[tuple[str, ArrayLike, float]] = (),
    ) -> None:
        settings = settings or SpeakerSettings()
        self._fixed = settings.fixed
        self._limit = settings.fixed or settings.limit
        self._space = space or voice_space.load()
        places = [(name, self._space.place(embedding), speech_s) for name, embedding, speech_s in enrolled]
        self._enrolled = {name: (place, speech_s) for name, place, speech_s in places if place is not None}
        self.reset()

    def reset(self) -> None:
        """Forgets everybody; numbers begin at 0 again."""
        self._voices: dict[int, _Voice] = {}
        self._strangers: list[_Voice] = []
        self._names: dict[int, str] = {}
        self._expected = {
            name: _Voice(min(speech_s, MEMORY_S) * place, min(speech_s, MEMORY_S))
            for name, (place, speech_s) in self._enrolled.items()
        }
        self._next = 0

    def name(self, speaker: int | None) -> str | None:
        """The name of a voice that was enrolled."""
        return self._names.get(speaker) if speaker is not None else None

    @property
    def speakers(self) -> tuple[int, ...]:
        """The numbers of the voices that are known now."""
        return tuple(self._voices)

    def forget(self, speaker: int) -> bool:
        """Forgets one voice; its number is not given again. Whether it was known."""
        self._enrolled.pop(self._names.pop(speaker, ""), None)
        # What was heard but belongs to nobody could be this voice too.
        self._strangers.clear()
        return self._voices.pop(speaker, None) is not None

    def recognise(self, embedding: ArrayLike | None, duration_s: float) -> SpeakerGuess:
        """Gives the speaker as `identify` would, and learns nothing; someone new stays unknown."""
        place = self._space.place(embedding) if embedding is not None else None
        if place is None or not duration_s > 0:
            return UNKNOWN
        best, confidence = self._best(place, duration_s)
        least = _LEAST_CONFIDENCE_SHORT if duration_s < ENOUGH_S else _LEAST_CONFIDENCE
        if best >= len(self._voices) or confidence < least:
            return UNKNOWN
        return SpeakerGuess(list(self._voices)[best], confidence)

    def identify(self, embedding: ArrayLike | None, duration_s: float) -> SpeakerGuess:
        """Gives the speaker of an utterance and learns from it.

        Args:
            embedding: of its voice, [256]; None when there is none.
            duration_s: of its speech.

        Raises:
            ValueError: the embedding is of another dimension than the voice space.
        """
        place = self._space.place(embedding) if embedding is not None else None
        if place is None or not duration_s > 0:
            return UNKNOWN
        numbers = list(self._voices)
        best, confidence = self._best(place, duration_s)
        short = duration_s < ENOUGH_S
        if best < len(numbers):
            if confidence < (_LEAST_CONFIDENCE_SHORT if short else _LEAST_CONFIDENCE):
                return self._keep_in_mind(place, duration_s)
            if confidence >= (_LEARN_FROM_SHORT if short else _LEARN_FROM):
                self._voices[numbers[best]].learn(place, duration_s)
            return SpeakerGuess(numbers[best], confidence)
        voice = _Voice(duration_s * place, duration_s)
        names = list(self._expected)[best - len(numbers) - len(self._strangers) :]
        if best >= len(numbers) + len(self._strangers) and names:
            if confidence < (_LEAST_CONFIDENCE_SHORT if short else _LEAST_CONFIDENCE):
                return self._keep_in_mind(place, duration_s)
            known = self._expected.pop(names[0])
            known.learn(place, duration_s)
            voice, self._names[self._next] = known, names[0]
        elif best < len(numbers) + len(self._strangers):
            before = self._strangers.pop(best - len(numbers))
            voice.learn(before.place, before.known_s)
        elif duration_s < (ENOUGH_S if self._voices else FIRST_S):
            return self._keep_in_mind(place, duration_s)
        self._voices[self._next] = voice
        self._next += 1
        return SpeakerGuess(self._next - 1, confidence)

    def _best(self, place: Vector, duration_s: float) -> tuple[int, float]:
        """Index of the likeliest among voices, strangers and, last, someone new; and how likely."""
        newcomer = self._newcomer()
        odds = [self._log_odds(voice, place, duration_s) for voice in self._voices.values()]
        odds += [newcomer + self._log_odds(stranger, place, duration_s) for stranger in self._strangers]
        room = 0.0 if len(self._voices) < self._limit else -math.inf
        odds += [room + _EXPECTED + self._log_odds(voice, place, duration_s) for voice in self._expected.values()]
        confidences = _softmax([*odds, newcomer])
        best = max(range(len(confidences)), key=confidences.__getitem__)
        return best, confidences[best]

    def _keep_in_mind(self, place: Vector, duration_s: float) -> SpeakerGuess:
        self._strangers = [*self._strangers, _Voice(duration_s * place, duration_s)][-_REMEMBERED:]
        return UNKNOWN

    def _log_odds(self, voice: _Voice, place: Vector, duration_s: float) -> float:
        return self._space.log_odds(float(voice.place @ place), duration_s, voice.known_s)

    def _newcomer(self) -> float:
        """How likely someone new is, as log odds: most conversations have two voices, few have many."""
        known = len(self._voices)
        if known >= self._limit:
            return -math.inf
        if known == 0:
            return 0.0
        return _SECOND if known == 1 or self._fixed else _THIRD - _MORE * (known - 2)

    def state(self) -> dict[str, Any]:
        """Gives all that is known as plain lists and numbers, for JSON. It is personal data: voices are in it."""
        return {
            "next": self._next,
            "voices": [{"speaker": number, **row} for number, row in zip(self._voices, self._rows(), strict=True)],
            "strangers": [_row(voice) for voice in self._strangers],
            "names": {str(number): name for number, name in self._names.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave, in place of what is known.

        Raises:
            ValueError: it is not a state, or of another dimension than the voice space.
        """
        try:
            voices = {int(row["speaker"]): self._voice(row) for row in state["voices"]}
            strangers = [self._voice(row) for row in state["strangers"]]
            following = int(state["next"])
            names = {int(number): str(name) for number, name in state.get("names", {}).items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a speaker tracker: {error!r}") from error
        self._voices, self._strangers, self._next = voices, strangers[-_REMEMBERED:], following
        self._names = names
        for name in names.values():
            self._expected.pop(name, None)

    def _rows(self) -> Iterator[dict[str, Any]]:
        return (_row(voice) for voice in self._voices.values())

    def _voice(self, row: Mapping[str, Any]) -> _Voice:
        total = np.asarray(row["total"], dtype=np.float64)
        if total.shape != self._space.average.shape:
            raise ValueError(f"a voice must have {len(self._space.average)} numbers, not shape {total.shape}")
        return _Voice(total, float(row["known_s"]))


def _row(voice: _Voice) -> dict[str, Any]:
    return {"total": voice.total.tolist(), "known_s": voice.known_s}


def _softmax(values: list[float]) -> list[float]:
    highest = max(values)
    parts = [math.exp(value - highest) for value in values]
    return [part / sum(parts) for part in parts]
