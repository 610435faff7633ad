"""Who speaks at the same time: the speech of each microphone's speaker, and whether another's falls into it.

Where every speaker has a microphone, when each of them speaks is known, so two at once are a matter of times. With one
microphone there is nothing to compare, and the sound itself has to tell (`encoders.overlap`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mer_agent.segmenter import Speech
from mer_agent.streams.types import Segment, Utterance

FEATURE = "audio/overlap@1"
"""How likely two voices are in the sound of an utterance."""
LIMIT = 0.5
"""From here on there are two."""

REMEMBERED = 64
"""Utterances of a source, the latest: more than the others can say in the longest one."""


class Floor:
    """Who has the floor, by source of sound."""

    def __init__(self) -> None:
        self._spans: dict[str, deque[tuple[int, int]]] = {}

    def open(self, source: str) -> None:
        """Takes note of a source, which may never say anything."""
        self._spans.setdefault(source, deque(maxlen=REMEMBERED))

    def note(self, speech: Speech) -> None:
        """Takes news of an utterance: what is heard of it grows while it is open."""
        segment = speech.segment
        self.open(segment.source)
        spans = self._spans[segment.source]
        if spans and spans[-1][0] == segment.start_ns:
            spans.pop()
        spans.append((segment.start_ns, segment.end_ns))

    def shared(self, segment: Segment) -> bool | None:
        """Whether another source speaks while the segment lasts; None where there is no other."""
        others = [spans for source, spans in self._spans.items() if source != segment.source]
        if not others:
            return None
        return any(start < segment.end_ns and segment.start_ns < end for spans in others for start, end in spans)


def by_ear(utterance: Utterance, features: Mapping[str, Any]) -> Utterance:
    """The utterance with what its sound tells, where times couldn't."""
    likely = features.get(FEATURE)
    if utterance.overlap is not None or likely is None:
        return utterance
    return replace(utterance, overlap=float(likely[0]) >= LIMIT)
