"""Voice to the emotion in it: `audio/emotion@3`, a recurrent network over log-mel, trained by this project.

Recipe 2:

1. power in 64 mel bands, 25 ms Hann windows every 10 ms, in dB, at most 80 dB below the loudest band;
2. frames at either end that are 40 dB softer than the loudest one are left out, and the mean of the others is taken
   away: neither the pauses around an utterance nor the microphone's gain say how it was meant;
3. two convolutions, each of which halves the rate, a bidirectional LSTM, attention over time;
4. beside them mean and deviation over time of what the speaker encoder's second and third layer hear
   (`voice.VoiceEncoder.summaries`), which the agent computes anyway; a learned vector where that found no speech;
5. and the same of what the recogniser's encoder made of the sound on its way to the words (`types.Hearing`), which
   costs nothing; a learned vector where another recogniser was at work, or none;
6. a linear layer from all three to 100 numbers. From those alone another one told the emotions in training.

Of sound without five frames of kind 2 (less than 65 ms, or silence) there is no feature. More than `LONGEST_S` is cut.
Source of the shape (Bi-LSTM, attention, linear to 100): Shou et al. 2023, AR-IIGCN, whose audio features are made so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.encoders import shipped, voice
from mer_agent.encoders.place import Place
from mer_agent.errors import WeightsError
from mer_agent.streams.types import SAMPLE_RATE_HZ, Modality, Turn, Utterance

DIMENSION = 100
RECOGNISER = "whisper-base"
"""Whose hearing is read; another one's is another language."""
HEARING = 2 * 512
"""Mean and deviation of its states."""
LONGEST_S = 60.0
"""What comes later is not heard; live utterances are cut well before."""
LEAST_FRAMES = 5

_BANDS = 64
_WINDOW, _HOP, _FFT = 400, 160, 512
_DEEPEST_DB, _QUIET_DB = 80.0, 40.0
_SCALE_DB = 15.0
"""Brings decibels to about unit deviation."""
_SILENCE = 1e-10
"""Power of a band below which there is no sound: -100 dB of full scale."""
_LARGEST_BATCH = 32


@dataclass(frozen=True, slots=True)
class VoiceShape:
    """Sizes of the network."""

    channels: int = 96
    units: int = 128
    """Of the LSTM, in each direction."""
    summary: int = 128
    """What the speaker encoder's summary is narrowed to, and the recogniser's hearing."""
    dropout: float = 0.3


class VoiceNetwork(nn.Module):
    """Voices to features and logits.

    A batch is log-mel [batch, frames, 64], how many frames of each are real (int64 [batch], on the CPU), summaries
    of the speaker encoder [batch, 1024] and hearings of the recogniser [batch, 1024], NaN where there is none.

    Args:
        classes: emotions told apart in training.
        shape: sizes.
    """

    def __init__(self, classes: int, shape: VoiceShape | None = None) -> None:
        super().__init__()
        shape = shape or VoiceShape()
        self.conv1 = nn.Conv1d(_BANDS, shape.channels, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(shape.channels, shape.channels, 5, stride=2, padding=2)
        self.norm1, self.norm2 = nn.BatchNorm1d(shape.channels), nn.BatchNorm1d(shape.channels)
        # One for each direction: torch's own pair needs packed sequences, which train five times slower on a CPU.
        self.forwards = nn.LSTM(shape.channels, shape.units, batch_first=True)
        self.backwards = nn.LSTM(shape.channels, shape.units, batch_first=True)
        self.attention = nn.Linear(2 * shape.units, 1)
        self.voice = Narrow(voice.SUMMARY, shape)
        self.hearing = Narrow(HEARING, shape)
        self.linear = nn.Linear(2 * shape.units + 2 * shape.summary, DIMENSION)
        self.head = nn.Linear(DIMENSION, classes)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, mel: Tensor, frames: Tensor, summary: Tensor, hearing: Tensor) -> Tensor:
        """Gives logits [batch, classes]."""
        logits: Tensor = self.head(self.dropout(self.features(mel, frames, summary, hearing)))
        return logits

    def features(self, mel: Tensor, frames: Tensor, summary: Tensor, hearing: Tensor) -> Tensor:
        """Gives [batch, 100], each between -1 and 1."""
        parts = torch.cat([self._over_time(mel, frames), self.voice(summary), self.hearing(hearing)], 1)
        return torch.tanh(self.linear(self.dropout(parts)))

    def _over_time(self, mel: Tensor, frames: Tensor) -> Tensor:
        x = mel.transpose(1, 2)  # [batch, 64, frames]
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            frames = (frames + 1) // 2
            x = functional.relu(norm(conv(x)))
            real = torch.arange(x.shape[2]) < frames[:, None]
            x = x * real[:, None].to(x)  # or what lies behind the end would leak into it
        x = self.dropout(x.transpose(1, 2))
        step = torch.arange(x.shape[1])
        real = step < frames[:, None]
        # Turned round within its own length, so that what lies behind the end comes last in both directions.
        turned = torch.where(real, frames[:, None] - 1 - step, step).to(x.device)[..., None]
        back = self.backwards(x.take_along_dim(turned, 1))[0].take_along_dim(turned, 1)
        states = torch.cat([self.forwards(x)[0], back], -1).float()  # [batch, steps, 2 units]
        score = self.attention(states).squeeze(2).float()
        weight = score.masked_fill(~real.to(score.device), float("-inf")).softmax(1)
        pooled: Tensor = (weight.unsqueeze(2) * states).sum(1)
        return pooled


class Narrow(nn.Module):
    """Brings summaries [batch, width] to fewer numbers [batch, summary]; a learned vector for those that are NaN."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, shape: VoiceShape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.linear = nn.Linear(width, shape.summary)
        self.absent = nn.Parameter(torch.zeros(shape.summary))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, summary: Tensor) -> Tensor:
        """Gives [batch, summary]."""
        there = ~summary[:, :1].isnan()
        standard = ((summary.nan_to_num() - self.mean) / self.deviation).clamp(-5, 5)
        chosen: Tensor = torch.where(there, functional.relu(self.linear(self.dropout(standard))).float(), self.absent)
        return chosen

    def standardise(self, summaries: Tensor) -> None:
        """Takes mean and deviation of each number from summaries [N, width], those that are NaN left out."""
        known = summaries[~summaries[:, 0].isnan()]
        self.mean.copy_(known.mean(0))
        self.deviation.copy_(known.std(0).clamp_min(1e-3))


class VoiceEmotionEncoder:
    """Gives 100 numbers that tell the emotion in a voice; None where nothing can be heard.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        folder: where `voice.safetensors` and its card lie; the package's own if not given.

    Raises:
        WeightsError: they are missing, damaged or of another recipe, or `ge2e` has not been pulled.
    """

    feature = "audio/emotion@3"
    modality: Modality = "audio"
    dimension = DIMENSION
    hears_recogniser = True

    def __init__(self, device: str | Place = "auto", folder: Path | None = None) -> None:
        self._place = Place.of(device)
        state, card = shipped.load("voice", folder or shipped.FOLDER)
        self._network, self.labels = _build(state, card.recipe)
        self._network.to(self._place.device)
        self._voice = voice.shared(self._place)

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [100] float32 on the CPU for each utterance, None where it has no audible sound.

        `past_turns` is not read: this recipe hears the utterance alone.
        """
        return [None if row is None else row[0] for row in self._run(utterances)]

    def probabilities(self, utterances: Sequence[Utterance]) -> list[Tensor | None]:
        """Gives, for each utterance, how likely each of `labels` is, as training had it."""
        return [None if row is None else row[1] for row in self._run(utterances)]

    @torch.inference_mode()
    def _run(self, utterances: Sequence[Utterance]) -> list[tuple[Tensor, Tensor] | None]:
        mels = [None if (speech := utterance.speech) is None else log_mel(speech) for utterance in utterances]
        # The padding is cut there in any case, and this is the very sound that `audio/ge2e@1` is made of.
        summaries = self._voice.summaries([utterance.audio for utterance in utterances])
        hearings = [hearing_of(utterance) for utterance in utterances]
        heard = [i for i, mel in enumerate(mels) if mel is not None]
        found: list[tuple[Tensor, Tensor] | None] = [None] * len(mels)
        # Of like length together, so that little is spent on padding.
        heard.sort(key=lambda i: len(mels[i]))  # type: ignore[arg-type]  # None of those is None
        for at in range(0, len(heard), _LARGEST_BATCH):
            some = heard[at : at + _LARGEST_BATCH]
            batch, frames = pad([mel for i in some if (mel := mels[i]) is not None])
            summary, hearing = (self._place.put(stack([every[i] for i in some])) for every in (summaries, hearings))
            features = self._network.features(self._place.put(batch), frames, summary, hearing)
            likely = self._network.head(features).softmax(-1).cpu()
            for i, row, own in zip(some, features.float().cpu(), likely, strict=True):
                found[i] = row.clone(), own.clone()  # or each would keep the whole batch alive
        return found


def _build(state: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> tuple[VoiceNetwork, tuple[str, ...]]:
    try:
        labels = tuple(recipe["labels"])
        network = VoiceNetwork(len(labels), VoiceShape(**recipe["shape"]))
        network.load_state_dict({key: value.float() for key, value in state.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"the trained voice encoder does not fit its card ({error}); install the package again"
        ) from error
    return network.eval().requires_grad_(False), labels


def recipe_of(shape: VoiceShape, labels: Sequence[str]) -> dict[str, Any]:
    """Gives what a card must hold for `VoiceEmotionEncoder` to build the network again."""
    return {"shape": asdict(shape), "labels": list(labels)}


def pad(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Gives log-mels as one batch [batch, most frames, 64], and how many frames of each are real, int64 [batch]."""
    return nn.utils.rnn.pad_sequence(list(mels), batch_first=True), torch.tensor([len(mel) for mel in mels])


def hearing_of(utterance: Utterance) -> Tensor | None:
    """Gives what `RECOGNISER` heard of an utterance, [1024]; None where it wasn't asked."""
    hearing = utterance.hearing
    return torch.from_numpy(hearing.summary) if hearing is not None and hearing.weights == RECOGNISER else None


def stack(summaries: Sequence[Tensor | None]) -> Tensor:
    """Gives summaries, or hearings, as one batch [batch, 1024], NaN where there is none."""
    absent = torch.full((voice.SUMMARY,), float("nan"))  # both are as wide
    return torch.stack([absent if summary is None else summary for summary in summaries])


def log_mel(sound: NDArray[np.float32], bands: int = _BANDS) -> Tensor | None:
    """Gives the input of the network, float32 [frames, bands], of a sound (float32 [n], 16 kHz); None for silence.

    NaN and infinite samples count as silence, what goes beyond full scale as clipped.
    """
    sound = np.nan_to_num(sound[: int(LONGEST_S * SAMPLE_RATE_HZ)], nan=0.0, posinf=0.0, neginf=0.0)
    if len(sound) < _WINDOW + (LEAST_FRAMES - 1) * _HOP:
        return None
    samples = torch.from_numpy(np.clip(sound, -1, 1).astype(np.float32))
    window, filters = _front_end(bands)
    frames = samples.unfold(0, _WINDOW, _HOP) * window
    power = torch.fft.rfft(frames, _FFT).abs().square() @ filters  # [frames, bands]
    level_db = 10 * power.mean(1).clamp_min(_SILENCE).log10()
    if power.max() <= _SILENCE:
        return None
    audible = (level_db > level_db.max() - _QUIET_DB).nonzero()
    first, last = int(audible[0]), int(audible[-1])
    if last - first + 1 < LEAST_FRAMES:
        return None
    decibels = 10 * power[first : last + 1].clamp_min(_SILENCE).log10()
    decibels = decibels.clamp_min(decibels.max() - _DEEPEST_DB)
    mel: Tensor = (decibels - decibels.mean()) / _SCALE_DB
    return mel


@functools.cache
def _front_end(bands: int = _BANDS) -> tuple[Tensor, Tensor]:
    """Gives the window [400] and triangular filters [257, bands], from 50 to 8000 Hz.

    The filters are evenly spaced in mel (O'Shaughnessy). Both are scaled so that a full-scale sine has a power of
    about 1.
    """
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (50.0, SAMPLE_RATE_HZ / 2))
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    frequency = np.linspace(0, SAMPLE_RATE_HZ / 2, _FFT // 2 + 1)[:, None]
    rise = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rise, fall), 0).astype(np.float32)
    window = torch.hann_window(_WINDOW)
    return window / window.sum() * 2, torch.from_numpy(filters)
