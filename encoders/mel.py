"""Sound to patches of a mel-spectrogram, for models that look at the picture of a voice.

`audio/mel@1`, in 80 bands, cut into patches of 80 ms and all bands:

1. power in mel bands, 25 ms Hann windows every 10 ms, in dB, at most 80 dB below the loudest band;
2. frames at either end that are 40 dB softer than the loudest one are left out, and the mean of the others is taken
   away: neither the pauses around an utterance nor the microphone's gain say how it was meant.

At most 8 s are looked at; a rest shorter than a patch is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mer_agent.encoders.sequences import STEPS, lay_out
from mer_agent.streams.types import SAMPLE_RATE_HZ, Modality, Turn, Utterance

BANDS = 80
PATCH_FRAMES = 8
LONGEST_S = 60.0
"""What comes later is not heard; live utterances are cut well before."""
LEAST_FRAMES = 5

_WINDOW, _HOP, _FFT = 400, 160, 512
_DEEPEST_DB, _QUIET_DB = 80.0, 40.0
_SCALE_DB = 15.0
"""Brings decibels to about unit deviation."""
_SILENCE = 1e-10
"""Power of a band below which there is no sound: -100 dB of full scale."""


class MelEncoder:
    """Gives [100 * 640] of the speech in an utterance; None where nothing can be heard."""

    feature = "audio/mel@1"
    modality: Modality = "audio"
    dimension = STEPS["audio/mel@1"] * PATCH_FRAMES * BANDS

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives float32 on the CPU for each utterance. `past_turns` is not read."""
        return [None if (speech := utterance.speech) is None else self.patches(speech) for utterance in utterances]

    def patches(self, sound: NDArray[np.float32]) -> Tensor | None:
        """Gives the row of a sound, float32 [n], 16 kHz; None for silence and what is shorter than 65 ms."""
        mel = log_mel(sound)
        if mel is None:
            return None
        mel = functional.pad(mel, (0, 0, 0, max(0, PATCH_FRAMES - len(mel))))
        whole = len(mel) // PATCH_FRAMES
        return lay_out(mel[: whole * PATCH_FRAMES].reshape(whole, -1), STEPS[self.feature])


def log_mel(sound: NDArray[np.float32]) -> Tensor | None:
    """Gives the log-mel, float32 [frames, 80], of a sound (float32 [n], 16 kHz); None for silence.

    NaN and infinite samples count as silence, what goes beyond full scale as clipped.
    """
    sound = np.nan_to_num(sound[: int(LONGEST_S * SAMPLE_RATE_HZ)], nan=0.0, posinf=0.0, neginf=0.0)
    if len(sound) < _WINDOW + (LEAST_FRAMES - 1) * _HOP:
        return None
    samples = torch.from_numpy(np.clip(sound, -1, 1).astype(np.float32))
    window, filters = _front_end()
    frames = samples.unfold(0, _WINDOW, _HOP) * window
    power = torch.fft.rfft(frames, _FFT).abs().square() @ filters  # [frames, 80]
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
def _front_end() -> tuple[Tensor, Tensor]:
    """Gives the window [400] and triangular filters [257, 80], from 50 to 8000 Hz.

    The filters are evenly spaced in mel (O'Shaughnessy). Both are scaled so that a full-scale sine has a power of
    about 1.
    """
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (50.0, SAMPLE_RATE_HZ / 2))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    frequency = np.linspace(0, SAMPLE_RATE_HZ / 2, _FFT // 2 + 1)[:, None]
    rise = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rise, fall), 0).astype(np.float32)
    window = torch.hann_window(_WINDOW)
    return window / window.sum() * 2, torch.from_numpy(filters)
