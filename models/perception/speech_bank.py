"""What the voice encoder is trained on, computed once: log-mel and summary of each clip, clean and distorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mer_agent.encoders.voice import shared
from mer_agent.encoders.voice_emotion import log_mel, stack
from mer_agent.models.data.speech_data import FOLDS, Clip, sound
from mer_agent.models.perception.speech_augment import Sound, distort

COPIES = 1
"""Distorted copies of each clip."""
_AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Example:
    """A clip and what the network reads of it: of the clean recording first, then of each distorted copy."""

    clip: Clip
    mels: tuple[Tensor, ...]
    """float16 [frames, 64]."""
    summaries: Tensor
    """[1 + COPIES, 1024], NaN where there is none."""


def load(clips: Sequence[Clip], folder: Path, say: Callable[[str], None]) -> list[Example]:
    """Gives the examples; a fold that was computed before is read from `folder`.

    The file is a cache of this machine alone: remove it when the encoder's recipe or the data change.
    """
    examples = []
    for fold in range(FOLDS):
        own = [clip for clip in clips if clip.fold == fold]
        path = folder / f"voice-bank-{fold}.pt"
        if not path.is_file():
            say(f"hearing {len(own)} clips of fold {fold + 1}/{FOLDS}, clean and distorted")
            compute(own, path)
        kept = torch.load(path, weights_only=True)
        for clip in own:
            mels, summaries = kept[_name(clip)]
            examples.append(Example(clip, tuple(mels), summaries))
    return examples


def compute(clips: Sequence[Clip], path: Path) -> None:
    """Hears the clips and writes what the network reads of them to `path`."""
    encoder = shared("cpu")
    kept = {}
    for at in range(0, len(clips), _AT_ONCE):
        some = clips[at : at + _AT_ONCE]
        sounds = [copy for clip in some for copy in _copies(clip, clips)]
        mels = [torch.zeros(1, 64) if (mel := log_mel(copy)) is None else mel for copy in sounds]
        summaries = stack(encoder.summaries(sounds)).view(len(some), 1 + COPIES, -1)
        for i, clip in enumerate(some):
            own = mels[i * (1 + COPIES) : (i + 1) * (1 + COPIES)]
            kept[_name(clip)] = [mel.half() for mel in own], summaries[i].clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(kept, partial)
    partial.replace(path)


def _copies(clip: Clip, clips: Sequence[Clip]) -> list[Sound]:
    """Gives the clean sound and distorted ones, with another speaker of the same fold in the background."""
    random = np.random.default_rng(crc32(_name(clip).encode()))
    others = [other for other in clips if other.speaker != clip.speaker]
    clean = sound(clip)
    background = sound(others[random.integers(len(others))]) if others else clean[:0]
    return [clean, *(distort(clean, background, random) for _ in range(COPIES))]


def _name(clip: Clip) -> str:
    return f"{clip.corpus}/{clip.path.stem}"
