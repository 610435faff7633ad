"""Acted speech as the live model learns from it: RAVDESS and EmoDB clips by the run-time encoders, clean and distorted.

`audio/emotion@6` learned from these very clips. Read by the network that knows their labels, a clip looks far easier
than a new voice does, and a model would trust voices too much. So each clip is read by the network that was trained
without its speaker; and once more by the one that was trained without its corpus, since the voices that are heard live
were recorded in none of them. A linear map brings such a network's 100 numbers to where the shipped one has them:
fitted by ridge regression on the clips that both networks know.

The voice encoder learns from further corpora, where they are. The live model doesn't: read by networks that don't know
them, either, they tell how sure it may be of a voice from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mer_agent.encoders.voice import VoiceEncoder
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder, VoiceNetwork
from mer_agent.models.data import speech_data
from mer_agent.models.data.speech_data import FOLDS, Clip
from mer_agent.models.perception import train_voice
from mer_agent.models.perception.speech_bank import ALONE, BRIEF, KINDS, Example
from mer_agent.models.perception.train_voice import features

_RIDGE = 1.0
"""Of the linear map, in units of squared features summed over several thousand rows: hardly more than a safeguard."""
VERSIONS = (2, KINDS)
"""Of each clip: read without knowing the speaker or the whole corpus, of the clean recording, a distorted copy or the
brief one."""


@dataclass(frozen=True, slots=True)
class Speech:
    """N clips and their features in `VERSIONS` [A, B]: `values[id]` [A, B, N, dimension], `present[id]` bool."""

    clips: tuple[Clip, ...]
    values: dict[str, Tensor]
    present: dict[str, Tensor]


def load(data_dir: Path, folder: Path, say: Callable[[str], None]) -> tuple[Speech, Speech | None]:
    """Gives the clips to learn from, and those of further corpora, if there are any.

    What was heard of them, and the runs of the voice encoder, are in `folder`, or are made there: half an hour of one
    core, two and a half with all further corpora. Those have one version, [1, 1], where each clip stands thrice, read
    without knowing its corpus: as it was recorded, distorted, and a brief stretch of it.

    Raises:
        DataError: a corpus is missing or malformed, or the shipped voice encoder was made by another recipe.
        WeightsError: the voice encoders' weights are not here.
    """
    corpora = (*speech_data.CORPORA, *speech_data.found(data_dir / "speech"))
    names = (*(f"fold-{fold}" for fold in range(FOLDS)), *(f"without-{corpus}" for corpus in corpora))
    examples, networks = train_voice.runs_beside_shipped(data_dir, folder, names, say)
    own = torch.tensor([example.clip.corpus in speech_data.CORPORA for example in examples])
    readers = (
        [f"fold-{example.clip.fold}" for example in examples],
        [f"without-{example.clip.corpus}" for example in examples],
    )
    voices = torch.stack([unseen(networks, examples, copy, who) for who in readers for copy in range(KINDS)])
    voices = voices.view(*VERSIONS, len(examples), -1)
    values, present = {VoiceEmotionEncoder.feature: voices}, {}
    present[VoiceEmotionEncoder.feature] = torch.ones(voices.shape[:-1], dtype=torch.bool)
    for name in ALONE:
        values[name], present[name] = (part.expand(*VERSIONS, *part.shape[1:]) for part in heard(examples, name))
    clips = [example.clip for example in examples]
    learned = Speech(
        tuple(clip for clip in clips if clip.corpus in speech_data.CORPORA),
        {name: value[:, :, own] for name, value in values.items()},
        {name: value[:, :, own] for name, value in present.items()},
    )
    further = tuple(clip for clip in clips if clip.corpus not in speech_data.CORPORA)
    if not further:
        return learned, None
    copies = [0, 1, BRIEF]

    def strange(part: Tensor) -> Tensor:
        return part[1, copies][:, ~own].flatten(0, 1)[None, None]

    return learned, Speech(
        further * len(copies),
        {name: strange(value) for name, value in values.items()},
        {name: strange(value) for name, value in present.items()},
    )


def heard(examples: Sequence[Example], feature: str) -> tuple[Tensor, Tensor]:
    """Gives a feature of `ALONE`, [KINDS, N, dimension], zeros where it is absent, and where it is present."""
    rows = [[copy[feature] for copy in example.alone] for example in examples]
    size = next(len(row) for own in rows for row in own if row is not None)
    values = [[torch.zeros(size) if row is None else row for row in own] for own in zip(*rows, strict=True)]
    there = [[row is not None for row in own] for own in zip(*rows, strict=True)]
    return torch.stack([torch.stack(own) for own in values]), torch.tensor(there)


def unseen(
    networks: Mapping[str, VoiceNetwork], examples: Sequence[Example], copy: int, readers: Sequence[str]
) -> Tensor:
    """Gives `audio/emotion@6` [N, 100] of one copy of each clip, by a network that doesn't know it.

    Args:
        networks: by name; `all` is the one whose space is meant.
        examples: the clips.
        copy: which of their copies.
        readers: of each clip, the network that doesn't know it, but all clips that have another.
    """
    shipped_features = features(networks["all"], examples, copy)
    found = torch.zeros_like(shipped_features)
    for reader in sorted(set(readers)):
        own = torch.tensor([one == reader for one in readers])
        rows = features(networks[reader], examples, copy)
        found[own] = mapped(rows[~own], shipped_features[~own], rows[own])
    return found.clamp(-1, 1)  # as the tanh of the shipped network has it


def by_embedding(speech: Speech, rows: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Gives `audio/emotion@6` of utterances of which only `audio/ge2e@1` is at hand, as far as that tells it.

    A linear map from the one to the other is fitted on clips. What it can't tell (`rest`) is the clips' own, and is
    to be added from one clip or another: with it the vectors spread as those of real voices do.

    Args:
        speech: the clips, of which the recorded ones are read by networks that don't know their speakers.
        rows: which of them are learned from, int64 [K].
        embeddings: of the utterances, [N, 256].

    Returns:
        the vectors [N, 100] without the rest, and the clips' rest [K, 100].
    """
    known, voices = (speech.values[name][0, 0][rows] for name in (VoiceEncoder.feature, VoiceEmotionEncoder.feature))
    return mapped(known, voices, embeddings), voices - mapped(known, voices, known)


def mapped(inputs: Tensor, outputs: Tensor, rows: Tensor) -> Tensor:
    """Gives what `rows` [K, d] become under the affine map that best brings `inputs` [N, d] to `outputs` [N, e]."""
    middle, target = inputs.double().mean(0), outputs.double().mean(0)
    centred = inputs.double() - middle
    gram = centred.T @ centred + _RIDGE * torch.eye(centred.shape[1], dtype=torch.double)
    weight: Tensor = torch.linalg.solve(gram, centred.T @ (outputs.double() - target))
    return ((rows.double() - middle) @ weight + target).float()
