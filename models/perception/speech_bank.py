"""What is learned from of each acted clip, computed once: its features as the agent would hear it, clean and distorted.

Every copy is cut as the segmenter would cut it. A distorted one has another room, noise, microphone or telephone, and
edges that are some hundredths of a second off: a live utterance's are never where they would be without the noise. A
brief one is a second of it or less, as long as a "yes" is: to an encoder that knows whole sentences alone, that sounds
like fear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mer_agent.encoders import whisper_layers
from mer_agent.encoders.prosody import ProsodyEncoder
from mer_agent.encoders.voice import VoiceEncoder, shared
from mer_agent.models.data.speech_data import FOLDS, Clip, cut_at, sound, speech_of
from mer_agent.models.perception.speech_augment import distort
from mer_agent.streams.types import SAMPLE_RATE_HZ, Utterance

COPIES = 2
"""Distorted copies of each clip."""
BRIEF = 1 + COPIES
"""Which copy is the brief one, the last."""
KINDS = BRIEF + 1
"""Copies of each clip in all."""
BRIEF_S = (0.4, 1.2)
"""How long a brief copy is at least and at most."""
_BRIEF_CLEAN = 0.4
"""Share of the brief copies that are not distorted."""
_AT_ONCE = 24
_OFF_S = 0.08
"""How far the edges of a distorted copy are off, at most."""
ALONE = (VoiceEncoder.feature, ProsodyEncoder.feature)
"""Features that the voice network doesn't read: the fusion model does."""


@dataclass(frozen=True, slots=True)
class Example:
    """A clip, and what is heard of it: of the clean recording, of each distorted copy, of the brief one (K in all)."""

    clip: Clip
    heard: Tensor
    """What the voice network reads (`whisper_layers`), float32 [K, 1536]; NaN where nothing can be heard."""
    alone: tuple[dict[str, Tensor | None], ...]
    """Of each copy the features `ALONE`, None where one is absent."""


def load(clips: Sequence[Clip], folder: Path, say: Callable[[str], None]) -> list[Example]:
    """Gives the examples; a fold that was computed before is read from `folder`.

    The file is a cache of this machine alone, for these clips and so many copies: remove it when the encoders' recipes
    change.

    Raises:
        WeightsError: `ge2e` or `whisper-base` has not been pulled.
    """
    examples = []
    for fold in range(FOLDS):
        own = [clip for clip in clips if clip.fold == fold]
        path = folder / f"voice-bank-{fold}-{_key(own)}.pt"
        if own and not path.is_file():
            say(f"hearing {len(own)} clips of fold {fold + 1}/{FOLDS}, clean and distorted")
            compute(own, path)
        kept = torch.load(path, weights_only=True) if own else {}
        for clip in own:
            heard, alone = kept[_name(clip)]
            examples.append(Example(clip, heard, tuple(alone)))
    return examples


def compute(clips: Sequence[Clip], path: Path) -> None:
    """Hears the clips and writes what is learned from them to `path`."""
    encoder, prosody, layers = shared("cpu"), ProsodyEncoder(), whisper_layers.shared("cpu")
    kept = {}
    for at in range(0, len(clips), _AT_ONCE):
        some = clips[at : at + _AT_ONCE]
        copies = [copy for clip in some for copy in _copies(clip, clips)]
        heard = torch.stack([_row(row) for row in layers.means([copy.speech for copy in copies])])
        rows = zip(encoder.encode(copies), prosody.encode(copies), strict=True)
        alone = [dict(zip(ALONE, row, strict=True)) for row in rows]
        for i, clip in enumerate(some):
            own = slice(i * KINDS, (i + 1) * KINDS)
            kept[_name(clip)] = (heard[own].clone(), alone[own])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(kept, partial)
    partial.replace(path)


def _row(heard: Tensor | None) -> Tensor:
    return torch.full((whisper_layers.MEANS,), float("nan")) if heard is None else heard


def _copies(clip: Clip, clips: Sequence[Clip]) -> list[Utterance]:
    """Gives the clean utterance, distorted ones and the brief one, other speakers of the same fold behind them."""
    random = np.random.default_rng(crc32(_name(clip).encode()))
    others = [other for other in clips if other.speaker != clip.speaker]
    clean = sound(clip)
    first, last = speech_of(clean)
    copies = [cut_at(clean, first, last)]
    for _ in range(COPIES):
        background = _background(others, random)
        off = (random.uniform(-_OFF_S, _OFF_S, 2) * SAMPLE_RATE_HZ).astype(int)
        begin = max(0, first + int(off[0]))
        end = min(len(clean), max(last + int(off[1]), begin + SAMPLE_RATE_HZ // 10))
        copies.append(cut_at(distort(clean, background, random), begin, end))
    heard = clean if random.random() < _BRIEF_CLEAN else distort(clean, _background(others, random), random)
    length = min(last - first, int(random.uniform(*BRIEF_S) * SAMPLE_RATE_HZ))
    begin = first + int(random.uniform(0, last - first - length))
    return [*copies, cut_at(heard, begin, begin + length)]


def _background(others: Sequence[Clip], random: np.random.Generator) -> NDArray[np.float32]:
    return sound(others[int(random.integers(len(others)))]) if others else np.zeros(0, np.float32)


def _name(clip: Clip) -> str:
    return f"{clip.corpus}/{clip.path.stem}"


def _key(clips: Sequence[Clip]) -> str:
    made_of = (COPIES, BRIEF_S, whisper_layers.WEIGHTS, whisper_layers.LAYERS, *(_name(clip) for clip in clips))
    return hashlib.sha256("\0".join(map(str, made_of)).encode()).hexdigest()[:8]
