"""Runs the live encoders over the clips of a raw corpus: the same feature code as in the running agent.

A clip is one utterance as a file of its own: its sound is the speech itself, without the padding that the live
segmenter leaves around it. An encoder gets the turns before it as well, as it does live.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mer_agent.encoders import base
from mer_agent.errors import DataError, MediaError
from mer_agent.models.data.dialogues import Dialogue, Line
from mer_agent.streams.media import probe, video_frames
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Transcript, Turn, Utterance

Encode = Callable[[str, Sequence[Utterance], Sequence[Sequence[Turn]]], "list[Tensor | None]"]
"""Feature id, utterances, and the turns before each -> a row for each, None where the modality is absent."""

FRAME_RATE_HZ = 5.0
"""Pictures looked at in a second, as live."""

_AT_ONCE = 8
"""Clips in memory at a time: their pictures are what takes room."""


class LiveEncoders:
    """Encodes with the agent's own encoders; each is loaded when it is first asked for."""

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._loaded: dict[str, base.Encoder] = {}

    def __call__(
        self, feature: str, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]]
    ) -> list[Tensor | None]:
        """Gives a row for each utterance; see `encoders.base.create` for what it raises."""
        if feature not in self._loaded:
            self._loaded[feature] = base.create(feature, self._device)
        return self._loaded[feature].encode(utterances, past_turns)


def encode_clips(
    dialogues: Sequence[Dialogue],
    clips: Mapping[str, Path],
    features: Sequence[str],
    encode: Encode,
    *,
    broken: frozenset[str] = frozenset(),
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gives the features of every line [N, dimension], and where they are present [N].

    Args:
        dialogues: what was said, in the order in which the rows shall lie.
        clips: utterance id -> its file. One that is absent leaves an utterance with its words alone.
        features: feature ids.
        encode: what encodes; `LiveEncoders` outside of tests.
        broken: utterances whose clip is known to be damaged; it is not opened.

    Raises:
        DataError: there is no clip at all, one that is not known to be broken can't be read, or a feature is absent
            from every utterance.
    """
    if not clips:
        raise DataError("none of the utterances has a clip: is the folder of the clips missing?")
    rows: dict[str, list[Tensor | None]] = {feature: [] for feature in features}
    looks = any(not feature.startswith(("text/", "audio/")) for feature in features)
    todo = [(line, turns) for dialogue in dialogues for line, turns in _with_past(dialogue)]
    for at in range(0, len(todo), _AT_ONCE):
        some = todo[at : at + _AT_ONCE]
        utterances = [_utterance(line, None if line.id in broken else clips.get(line.id), looks) for line, _ in some]
        for feature in features:
            rows[feature] += encode(feature, utterances, [turns for _, turns in some])
    values, present = {}, {}
    for feature, found in rows.items():
        first = next((row for row in found if row is not None), None)
        if first is None:
            raise DataError(f"{feature} is absent from every utterance: do the clips have that modality?")
        absent = torch.zeros_like(first)
        values[feature] = torch.stack([absent if row is None else row for row in found]).float()
        present[feature] = torch.tensor([row is not None for row in found])
    return values, present


def _with_past(dialogue: Dialogue) -> list[tuple[Line, tuple[Turn, ...]]]:
    seen: dict[str, int] = {}
    turns = [Turn(seen.setdefault(line.speaker, len(seen)), line.text) for line in dialogue.lines]
    return [(line, tuple(turns[:i])) for i, line in enumerate(dialogue.lines)]


def _utterance(line: Line, clip: Path | None, looks: bool) -> Utterance:
    start_ns = round((line.start_s or 0.0) * NS_PER_S)
    end_ns = max(start_ns, round((line.end_s or 0.0) * NS_PER_S))
    transcript = Transcript(line.text) if line.text else None
    if clip is None:
        return Utterance(line.id, None, start_ns, end_ns, transcript=transcript)
    try:
        file = probe(clip)
        audio = _sound(clip) if file.audio else None
        pictures = video_frames(clip, start_ns=start_ns, rate_hz=FRAME_RATE_HZ) if file.video and looks else ()
        frames = tuple(pictures)
    except MediaError as error:
        raise DataError(f"the clip of {line.id} can't be read: {error}") from error
    if audio is not None:
        end_ns = start_ns + math.ceil(len(audio) * NS_PER_S / SAMPLE_RATE_HZ)
    return Utterance(line.id, None, start_ns, end_ns, audio=audio, frames=frames, transcript=transcript)


def _sound(clip: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Gives the clip's sound as float32 [n], 16 kHz."""
    chunks = [chunk.samples for chunk in audio_chunks(clip)]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
