"""Who takes part: numbers of the speaker graph, ids in topics, names to show, and the newest emotion of each.

Voices have numbers in order of appearance. Whoever writes, and the dialogue system, has a number beyond all of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mer_agent.wire.contract import Participant, SpeakerState
from mer_agent.wire.schema import EmotionMessage, speaker_id

BEYOND_VOICES = 1_000_000
"""The number of the first participant without a voice."""


@dataclass(slots=True)
class _One:
    name: str | None = None
    utterances: int = 0
    newest: EmotionMessage | None = None


class Roster:
    """Everybody of one session; `names` are those that are known from the start."""

    def __init__(self, names: Iterable[tuple[int, str | None]] = ()) -> None:
        self._without_voice: dict[str, int] = {}
        self._all: dict[str, _One] = {}
        self._seated = {speaker_id(number): name for number, name in names if name}
        self._names = dict(self._seated)
        self._next = BEYOND_VOICES

    def __contains__(self, speaker: str) -> bool:
        return speaker in self._all

    def id(self, number: int | None) -> str:
        """How topics call this number."""
        return next((id_ for id_, own in self._without_voice.items() if own == number), speaker_id(number))

    def number(self, speaker: str) -> int | None:
        """The number of somebody who takes part, None if nobody has this id or it stands for nobody."""
        if speaker in self._without_voice:
            return self._without_voice[speaker]
        return int(speaker.removeprefix("speaker-")) if speaker in self._all and speaker != "unknown" else None

    def seat(self, speaker: str, name: str | None = None) -> int:
        """The number of somebody who takes part without a microphone, or is known by a voice already."""
        if (number := self.number(speaker)) is None:
            number = self._without_voice[speaker] = self._next
            self._next += 1
            self._all[speaker] = _One()
        if name is not None:
            self._names[speaker] = name
        return number

    def name(self, speaker: str) -> str | None:
        """The name to show."""
        return self._names.get(speaker)

    def rename(self, speaker: str, name: str | None) -> None:
        """Gives a name to show, or takes it away."""
        self._names.pop(speaker, None)
        if name is not None:
            self._names[speaker] = name

    def note(self, message: EmotionMessage) -> bool:
        """Takes a final prediction or a revision; gives whether its speaker is new."""
        new = message.speaker not in self._all
        one = self._all.setdefault(message.speaker, _One())
        one.utterances += message.kind == "final"
        if one.newest is None or message.end_ns >= one.newest.end_ns:
            one.newest = message.without_text()
        return new

    def forget(self, speaker: str) -> None:
        """Forgets everything about somebody. Numbers are not given twice."""
        for known in (self._all, self._names, self._without_voice):
            known.pop(speaker, None)

    def reset(self) -> None:
        """Forgets everybody, except for who sits at a microphone of their own."""
        self._all.clear()
        self._without_voice.clear()
        self._names = dict(self._seated)

    @property
    def participants(self) -> tuple[Participant, ...]:
        """Everybody and their names."""
        return tuple(Participant(speaker=id_, name=self.name(id_)) for id_ in self._all)

    @property
    def states(self) -> tuple[SpeakerState, ...]:
        """Everybody and their newest emotion."""
        return tuple(self._state(id_, one) for id_, one in self._all.items())

    def _state(self, speaker: str, one: _One) -> SpeakerState:
        newest = one.newest
        if newest is None:
            return SpeakerState(speaker=speaker, name=self.name(speaker), utterances=one.utterances)
        return SpeakerState(
            speaker=speaker,
            name=self.name(speaker),
            utterances=one.utterances,
            label=newest.label,
            distribution=newest.distribution,
            confidence=newest.confidence,
            ended_at=newest.ended_at,
            end_ns=newest.end_ns,
        )
