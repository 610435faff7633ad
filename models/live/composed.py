"""Conversations made of acted clips, so that the truth is known: who spoke when, what was said, how it was meant.

The speakers are those of one fold of `speech_data`, which a model can be kept from. Each conversation has two or three
of them, all of one corpus; turns follow each other with pauses of 0.25 to 1.2 s, and the next turn is mostly somebody
else's. A speaker keeps an emotion for two turns on average. Labels are MELD's.
"""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_agent.errors import DataError
from mer_agent.models.data import speech_data
from mer_agent.models.data.acted import words
from mer_agent.models.data.speech_data import LABELS, Clip, sound, speech_of
from mer_agent.models.live.live_data import FROM_SPEECH
from mer_agent.streams.session import Spoken
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ

TURNS = 12
PAUSE_S = (0.25, 1.2)
_CHANGE = 0.8
"""How often the next turn is somebody else's."""
_KEEP = 0.5
"""How often a speaker goes on as before."""
_QUIET = 1e-4
"""Noise everywhere, root mean square: digital silence is no silence that a detector has learned."""
_ROOM_S = 0.1
"""Sound of the clip that is kept around its speech, fading."""


@dataclass(frozen=True, slots=True)
class Composed:
    """A conversation in a sound file, its clips in the order in which they are heard, and what is true of each."""

    path: Path
    corpus: str
    clips: tuple[Clip, ...]
    turns: tuple[Spoken, ...]


def compose(clips: Sequence[Clip], folder: Path, count: int, seed: int = 0, turns: int = TURNS) -> list[Composed]:
    """Writes `acted-00.wav` ... into a folder; every third is of the second corpus, if there are two.

    The same clips and seed give the same conversations.

    Raises:
        DataError: a corpus has a single speaker only.
    """
    random = np.random.default_rng(seed)
    meant = {clip: FROM_SPEECH.get(LABELS[clip.label], LABELS[clip.label]) for clip in clips}
    corpora = list(dict.fromkeys(clip.corpus for clip in clips))
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        corpus = corpora[number % 3 // 2 % len(corpora)]
        own = [clip for clip in clips if clip.corpus == corpus and meant[clip] is not None]
        chosen = _chosen(own, {clip: str(meant[clip]) for clip in own}, turns, random)
        path = folder / f"acted-{number:02}.wav"
        spans = _write(path, [sound(clip) for clip in chosen], random)
        told = tuple(
            Spoken(speaker=clip.speaker, text=words(clip), start_ns=begin, end_ns=end, label=meant[clip])
            for clip, (begin, end) in zip(chosen, spans, strict=True)
        )
        made.append(Composed(path, corpus, tuple(chosen), told))
    return made


def held_out(data_dir: Path, fold: int) -> list[Clip]:
    """Gives the clips of a fold's speakers.

    Raises:
        DataError: a corpus is missing.
    """
    return [clip for clip in speech_data.load(data_dir / "speech") if clip.fold == fold]


def _chosen(clips: list[Clip], meant: dict[Clip, str], turns: int, random: np.random.Generator) -> list[Clip]:
    """Picks who speaks and how, turn by turn."""
    names = sorted({clip.speaker for clip in clips})
    if len(names) < 2:
        raise DataError("a conversation needs two speakers: the fold has clips of fewer")
    cast = random.choice(names, size=min(len(names), int(random.integers(2, 4))), replace=False).tolist()
    moods: dict[str, str] = {}
    who, chosen = cast[0], list[Clip]()
    for _ in range(turns):
        if random.random() < _CHANGE:
            who = random.choice([name for name in cast if name != who])
        own = [clip for clip in clips if clip.speaker == who]
        if who not in moods or random.random() > _KEEP:
            moods[who] = str(random.choice(sorted({meant[clip] for clip in own})))
        left = [clip for clip in own if meant[clip] == moods[who] and clip not in chosen] or own
        chosen.append(left[random.integers(len(left))])
    return chosen


def _write(path: Path, sounds: Sequence[NDArray[np.float32]], random: np.random.Generator) -> list[tuple[int, int]]:
    """Writes the clips one after the other; gives when speech begins and ends in each, in nanoseconds."""
    room, spans = int(_ROOM_S * SAMPLE_RATE_HZ), list[tuple[int, int]]()
    parts: list[NDArray[np.float32]] = [np.zeros(SAMPLE_RATE_HZ, np.float32)]
    at = len(parts[0])
    for samples in sounds:
        first, last = speech_of(samples)
        begin, end = max(0, first - room), min(len(samples), last + room)
        piece = samples[begin:end].copy()
        rise = np.linspace(0, 1, room // 2, dtype=np.float32)[: len(piece) // 2]
        piece[: len(rise)] *= rise
        piece[len(piece) - len(rise) :] *= rise[::-1]
        spans.append(tuple((at + edge - begin) * NS_PER_S // SAMPLE_RATE_HZ for edge in (first, last)))  # type: ignore[arg-type]
        pause = np.zeros(int(random.uniform(*PAUSE_S) * SAMPLE_RATE_HZ) - 2 * room, np.float32)
        parts += [piece, pause]
        at += len(piece) + len(pause)
    parts.append(np.zeros(SAMPLE_RATE_HZ, np.float32))
    whole = np.concatenate(parts)
    write_wav(path, whole + _QUIET * random.standard_normal(len(whole)).astype(np.float32))
    return spans


def write_wav(path: Path, samples: NDArray[np.float32]) -> None:
    """Writes mono sound (float32 [n], 16 kHz) as 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
