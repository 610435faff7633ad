"""Acted speech as the live model learns from it: RAVDESS and EmoDB clips by the run-time encoders.

`audio/emotion@1` learned from these very clips. Read by the network that knows their labels, a clip looks far easier
than a new voice does, and a model would trust voices too much. So each clip is read by the network that was trained
without its speaker, and a linear map brings that network's 100 numbers to where the shipped one has them: fitted by
ridge regression on the clips that both networks know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from platformdirs import user_cache_path
from safetensors.torch import load_file, save_file
from torch import Tensor

from mer_agent.encoders import shipped
from mer_agent.encoders.base import Encoder
from mer_agent.encoders.prosody import ProsodyEncoder
from mer_agent.encoders.voice import VoiceEncoder, shared
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder, VoiceNetwork, pad
from mer_agent.errors import DataError
from mer_agent.models.data.speech_data import FOLDS, LABELS, Clip, as_cut, sound
from mer_agent.models.perception import train_voice
from mer_agent.models.perception.speech_bank import Example

_RIDGE = 1.0
"""Of the linear map, in units of squared features summed over some 3,000 rows: hardly more than a safeguard."""
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Speech:
    """N clips and their features: `values[id]` [N, dimension], `present[id]` bool [N].

    `distorted` [N, 100] is `audio/emotion@1` once more, of a copy with noise, room or telephone.
    """

    clips: tuple[Clip, ...]
    values: dict[str, Tensor]
    present: dict[str, Tensor]
    distorted: Tensor


def load(data_dir: Path, folder: Path, say: Callable[[str], None]) -> Speech:
    """Gives all clips; the runs of the voice encoder are taken from `folder`, or made there (5 minutes of one core).

    Raises:
        DataError: a corpus is missing, or the runs in `folder` are not those of the shipped encoder.
        WeightsError: the voice encoders' weights are not here.
    """
    recipe = train_voice.VoiceRecipe()
    examples, runs = train_voice.all_runs(data_dir, folder, recipe, 0, resume=True, say=say)
    state, _ = shipped.load("voice")
    if any(not torch.equal(state[key], value) for key, value in runs["all"]["state"].items() if key in state):
        raise DataError(f"the voice runs in {folder} are not those of the shipped encoder: give another folder")
    networks = {}
    for name in ("all", *(f"fold-{fold}" for fold in range(FOLDS))):
        network = networks[name] = VoiceNetwork(len(LABELS), recipe.shape)
        network.load_state_dict(runs[name]["state"])
    clean, distorted = (unseen(networks, examples, copy) for copy in (0, 1))
    clips = [example.clip for example in examples]
    values, present = heard(clips, say)
    values[VoiceEmotionEncoder.feature] = clean
    present[VoiceEmotionEncoder.feature] = torch.ones(len(clips), dtype=torch.bool)
    return Speech(tuple(clips), values, present, distorted)


def unseen(networks: dict[str, VoiceNetwork], examples: Sequence[Example], copy: int) -> Tensor:
    """Gives `audio/emotion@1` [N, 100] of one copy of each clip, by the network that doesn't know its speaker.

    `networks`: `all` is the one whose space is meant, `fold-K` knows every clip but those of fold K.
    """
    shipped_features = features(networks["all"], examples, copy)
    folds = torch.tensor([example.clip.fold for example in examples])
    found = torch.zeros_like(shipped_features)
    for fold in range(FOLDS):
        own = folds == fold
        if own.any():
            rows = features(networks[f"fold-{fold}"], examples, copy)
            found[own] = mapped(rows[~own], shipped_features[~own], rows[own])
    return found.clamp(-1, 1)  # as the tanh of the shipped network has it


def mapped(inputs: Tensor, outputs: Tensor, rows: Tensor) -> Tensor:
    """Gives what `rows` [K, d] become under the affine map that best brings `inputs` [N, d] to `outputs` [N, e]."""
    middle, target = inputs.double().mean(0), outputs.double().mean(0)
    centred = inputs.double() - middle
    gram = centred.T @ centred + _RIDGE * torch.eye(centred.shape[1], dtype=torch.double)
    weight: Tensor = torch.linalg.solve(gram, centred.T @ (outputs.double() - target))
    return ((rows.double() - middle) @ weight + target).float()


@torch.inference_mode()
def features(network: VoiceNetwork, examples: Sequence[Example], copy: int, batch: int = 32) -> Tensor:
    """Gives the network's features [N, 100] of one copy of each clip."""
    network.eval()
    found = torch.zeros(len(examples), network.linear.out_features)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].mels[copy]))
    for at in range(0, len(order), batch):
        some = order[at : at + batch]
        mel, frames = pad([examples[i].mels[copy].float() for i in some])
        found[some] = network.features(mel, frames, torch.stack([examples[i].summaries[copy] for i in some]))
    return found


def heard(clips: Sequence[Clip], say: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gives `audio/ge2e@1` and `audio/prosody@1` of the clips, cut as live, and where they are present; kept."""
    key = hashlib.sha256("\0".join(f"{clip.corpus}/{clip.path.name}" for clip in clips).encode()).hexdigest()[:32]
    path = user_cache_path("mer-agent") / "features" / f"speech-cut-{key}.safetensors"
    ids = (VoiceEncoder.feature, ProsodyEncoder.feature)
    if not path.is_file():
        say(f"hearing {len(clips)} clips of acted speech")
        encoders: tuple[Encoder, ...] = (shared("cpu"), ProsodyEncoder())
        kept: dict[str, Tensor] = {}
        for name, encoder in zip(ids, encoders, strict=True):
            found: list[Tensor | None] = []
            for at in range(0, len(clips), _AT_ONCE):
                found += encoder.encode([as_cut(sound(clip)) for clip in clips[at : at + _AT_ONCE]])
            absent = torch.zeros(encoder.dimension)
            kept[name] = torch.stack([absent if row is None else row for row in found])
            kept[f"present/{name}"] = torch.tensor([row is not None for row in found]).to(torch.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(kept, partial)
        partial.replace(path)
    kept = load_file(path)
    return {name: kept[name] for name in ids}, {name: kept[f"present/{name}"].bool() for name in ids}
