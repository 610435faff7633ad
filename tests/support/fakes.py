"""Models and sources scripted by data, for tests that need no weights and no seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mer_agent.models.stream import Judgement
from mer_agent.streams.mailbox import MailboxClosedError, Sink
from mer_agent.streams.types import (
    NS_PER_S,
    SAMPLE_RATE_HZ,
    AudioChunk,
    Modality,
    Segment,
    Transcript,
    Turn,
    Utterance,
    VideoFrame,
)

FRAME = 512
FRAME_NS = FRAME * NS_PER_S // SAMPLE_RATE_HZ


@dataclass
class FakeEncoder:
    """An encoder that gives the same vector for every utterance that has its modality, and remembers what it saw."""

    feature: str
    modality: Modality
    vector: Tensor = field(default_factory=lambda: torch.ones(2))
    fails: bool = False
    seen: list[tuple[Utterance, tuple[Turn, ...]]] = field(default_factory=list)
    languages: tuple[str, ...] | None = None
    hears_recogniser: bool = False

    @property
    def dimension(self) -> int:
        return len(self.vector)

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        if self.fails:
            raise RuntimeError(f"cannot encode {utterances[0].text!r}")
        self.seen += [(one, tuple(past)) for one, past in zip(utterances, past_turns, strict=True)]
        return [None if self.modality == "text" and not one.text else self.vector for one in utterances]


@dataclass
class FakeStream:
    """A fusion model that gives one distribution after the other."""

    script: Sequence[Sequence[float]]
    fails_at: int = -1
    calls: list[tuple[str, int | None, tuple[str, ...]]] = field(default_factory=list)
    looks: list[tuple[str, int | None, tuple[str, ...]]] = field(default_factory=list)
    """Calls that add nothing: previews (whose id is empty) and revisions."""
    forgotten: list[int] = field(default_factory=list)

    def forget(self, speaker: int) -> int:
        self.forgotten.append(speaker)
        return 0

    def reset(self) -> None:
        self.calls.clear()

    def preview(self, speaker: int | None, features: Mapping[str, Tensor]) -> Judgement:
        return self.revise("", speaker, features)

    def revise(self, utterance_id: str, speaker: int | None, features: Mapping[str, Tensor]) -> Judgement:
        self.looks.append((utterance_id, speaker, tuple(sorted(features))))
        used: tuple[Modality, ...] = ("text", "audio")
        return Judgement(torch.tensor(self.script[len(self.calls) % len(self.script)]), len(self.calls), used, ())

    def append(self, utterance_id: str, speaker: int | None, features: Mapping[str, Tensor]) -> Judgement:
        number = len(self.calls)
        self.calls.append((utterance_id, speaker, tuple(sorted(features))))
        if number == self.fails_at:
            raise RuntimeError("the secret words")
        used: tuple[Modality, ...] = ("text", "audio")
        return Judgement(torch.tensor(self.script[number % len(self.script)]), number, used, ())


@dataclass
class FakeWords:
    """A recogniser that says one text after the other, each after some turns of the event loop."""

    texts: Sequence[str]
    turns: Sequence[int] = (0,)
    calls: int = 0

    async def transcribe(self, segment: Segment) -> Transcript:
        number, self.calls = self.calls, self.calls + 1
        for _ in range(self.turns[number % len(self.turns)]):
            await asyncio.sleep(0)
        return Transcript(self.texts[number % len(self.texts)])


@dataclass
class FakeSource:
    """Plays loud (speech) and quiet stretches of the given lengths in 32 ms chunks; a fault instead of the end."""

    stretches_ms: Sequence[tuple[int, bool]]
    fault: Exception | None = None
    forever: bool = False

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        sequence = 0
        try:
            for length_ms, loud in self.stretches_ms:
                for _ in range(length_ms // 32):
                    samples = np.full(FRAME, 0.5 if loud else 0.0, np.float32)
                    await audio.put(AudioChunk(samples, sequence * FRAME_NS, sequence))
                    sequence += 1
            if self.fault is not None:
                raise self.fault
            while self.forever:
                await audio.put(AudioChunk(np.zeros(FRAME, np.float32), sequence * FRAME_NS, sequence))
                sequence += 1
        except MailboxClosedError:
            pass  # somebody stopped it
        finally:
            audio.close()
