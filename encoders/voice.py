"""Voice to vector: the GE2E speaker encoder, which also carries much of how something was said (`audio/ge2e@1`).

Recipe 1, that of the encoder's training and of the embeddings that the fusion model learned from:

1. raise the volume to -30 dBFS if it is lower; cut silences that are longer than about a quarter second;
2. mel spectrogram: 40 bands of power (not its logarithm), 25 ms Hann windows every 10 ms;
3. windows of 160 frames (1.6 s) that overlap by half, zero-padded at the end; the last one is left out if less than
   three quarters of it is sound;
4. each through a three-layer LSTM of 256 units, then `e = relu(W h + b)`, scaled to unit length;
5. the mean of the windows, scaled to unit length again.

What the second and third layer hear on the way, mean and deviation of each window by itself (`windows`), tells whether
two voices speak at once (`overlap`). It is kept a while beside the sound that it is of, so that both cost one run.

Source: Wan et al. 2018, "Generalized end-to-end loss for speaker verification", with the weights that Resemblyzer
published (Apache-2.0). Resemblyzer itself takes 1.3 windows a second (a step of 77 frames); the step of 80 is that of
Jia et al. 2018 ("Real-Time Voice Cloning"), with which the embeddings in use for IEMOCAP were made.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import webrtcvad
from numpy.typing import NDArray
from torch import Tensor, nn

from mer_agent.encoders import weights
from mer_agent.encoders.place import Place
from mer_agent.errors import WeightsError
from mer_agent.streams.types import SAMPLE_RATE_HZ, Modality, Turn, Utterance

DIMENSION = 256
SUMMARY = 4 * 256
"""Mean and deviation of two layers."""
LEAST_SPEECH_S = 0.2
"""What is left after the silences are cut must be this long, or there is no embedding."""

_TARGET_DBFS = -30.0
_FRAME_SAMPLES = 480
"""30 ms, the detector's longest frame."""
_STRICTEST = 3
_SMOOTHING_FRAMES = 8
_KEPT_SILENCE_FRAMES = 3
"""Frames of silence that stay on each side of speech."""

_WINDOW_SAMPLES, _HOP_SAMPLES, _MELS = 400, 160, 40
_PARTIAL_FRAMES, _PARTIAL_STEP, _LEAST_COVERAGE = 160, 80, 0.75
WINDOW_S = _PARTIAL_FRAMES * _HOP_SAMPLES / SAMPLE_RATE_HZ
_LARGEST_BATCH = 128
"""Windows that go through the network at once: some minutes of speech, 60 MB with all layers' states."""
_REMEMBERED = 64
"""Sounds whose result is kept while the sound itself is still there."""


class VoiceEncoder:
    """Gives the unit-length GE2E embedding of a voice; None where there is too little speech to hear one.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        folder: where `ge2e.safetensors` lies; the catalogue's own folder if not given.

    Raises:
        WeightsError: the weights are not pulled yet or unreadable.
    """

    feature = "audio/ge2e@1"
    modality: Modality = "audio"
    dimension = DIMENSION

    def __init__(self, device: str | Place = "auto", folder: Path | None = None) -> None:
        self._place = Place.of(device)
        self._network = _load(weights.path("ge2e") if folder is None else folder).to(self._place.device)
        self._filters = torch.from_numpy(_mel_filters())
        self._window = torch.hann_window(_WINDOW_SAMPLES)
        self._recent: tuple[tuple[weakref.ref[NDArray[np.float32]], _Heard], ...] = ()

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [256] float32 on the CPU for each utterance, None where it has too little sound or speech.

        `past_turns` is not read: this recipe hears the utterance alone.
        """
        return self.encode_sounds([utterance.audio for utterance in utterances])

    def encode_sounds(self, sounds: Sequence[NDArray[np.float32] | None]) -> list[Tensor | None]:
        """Gives the embedding of each sound (float32 [n], 16 kHz). Their windows run as one batch."""
        return [None if heard is None else heard[0].clone() for heard in self._hear(sounds)]

    def forget(self) -> None:
        """Forgets the voices that were heard."""
        self._recent = ()

    @torch.inference_mode()
    def states(self, sound: NDArray[np.float32], most_frames: int) -> Tensor | None:
        """Gives the second layer's states, [frames, 256], over the sound's speech in one run and not in windows.

        Each frame is 10 ms. None where there is too little speech; what comes after `most_frames` is not heard.
        """
        speech = without_silences(raise_volume(sound))
        if len(speech) < LEAST_SPEECH_S * SAMPLE_RATE_HZ:
            return None
        return self._network.second(self._place.put(self._mel(speech)[None, :most_frames]))[0].cpu()

    def windows(self, sounds: Sequence[NDArray[np.float32] | None]) -> list[Tensor | None]:
        """Gives mean and deviation over time of the second and third layer's states in each window, [windows, 1024]."""
        return [None if heard is None else heard[1].clone() for heard in self._hear(sounds)]

    def _hear(self, sounds: Sequence[NDArray[np.float32] | None]) -> list[_Heard | None]:
        known = [self._remembered(sound) for sound in sounds]
        new = [i for i, (sound, heard) in enumerate(zip(sounds, known, strict=True)) if sound is not None and not heard]
        for i, heard in zip(new, self._run([sounds[i] for i in new]), strict=True):
            known[i], sound = heard, sounds[i]
            if heard is not None and sound is not None:
                self._recent = (*self._recent, (weakref.ref(sound), heard))[-_REMEMBERED:]
        return known

    def _remembered(self, sound: NDArray[np.float32] | None) -> _Heard | None:
        return None if sound is None else next((heard for ref, heard in self._recent if ref() is sound), None)

    @torch.inference_mode()
    def _run(self, sounds: Sequence[NDArray[np.float32] | None]) -> list[_Heard | None]:
        cut = [self._partials(sound) for sound in sounds]
        counts = [len(partials) for partials, _ in cut]
        found: list[_Heard | None] = [None] * len(sounds)
        if not any(counts):
            return found
        partials, real = torch.cat([partials for partials, _ in cut]), torch.cat([real for _, real in cut])
        embedded, sums = [], []
        for batch, frames in zip(torch.split(partials, _LARGEST_BATCH), torch.split(real, _LARGEST_BATCH), strict=True):
            one, states = self._network(self._place.put(batch))
            mask = (torch.arange(_PARTIAL_FRAMES) < frames[:, None]).to(states)[..., None]  # the end may be padding
            embedded.append(one.cpu())
            sums.append(torch.stack([(states * mask).sum(1), (states.square() * mask).sum(1)], 1).cpu())
        parts = zip(
            *(torch.split(whole, counts) for whole in (torch.cat(embedded), torch.cat(sums), real)), strict=True
        )
        for i, (own, moments, frames) in enumerate(parts):
            if len(own):
                found[i] = (
                    nn.functional.normalize(own.mean(dim=0), dim=0),
                    _summary(moments / frames[:, None, None]),
                )
        return found

    def _partials(self, sound: NDArray[np.float32] | None) -> tuple[Tensor, Tensor]:
        """Gives the mel windows of a sound, [windows, 160, 40], and how many frames of each are sound, [windows].

        There are none where there is too little speech.
        """
        speech = without_silences(raise_volume(sound)) if sound is not None else np.zeros(0, dtype=np.float32)
        if len(speech) < LEAST_SPEECH_S * SAMPLE_RATE_HZ:
            return torch.empty(0, _PARTIAL_FRAMES, _MELS), torch.empty(0, dtype=torch.int64)
        starts = partial_starts(len(speech))
        end = (starts[-1] + _PARTIAL_FRAMES) * _HOP_SAMPLES
        mel = self._mel(np.pad(speech, (0, max(0, end - len(speech)))))
        frames = (len(speech) // _HOP_SAMPLES - torch.tensor(starts)).clamp(1, _PARTIAL_FRAMES)
        return torch.stack([mel[start : start + _PARTIAL_FRAMES] for start in starts]), frames

    def _mel(self, samples: NDArray[np.float32]) -> Tensor:
        """Gives the mel spectrogram, [frames, 40]."""
        spectrum = torch.stft(
            torch.from_numpy(samples),
            _WINDOW_SAMPLES,
            _HOP_SAMPLES,
            window=self._window,
            pad_mode="constant",
            return_complex=True,
        )
        return (self._filters @ spectrum.abs().square()).T


_Heard = tuple[Tensor, Tensor]
"""Embedding of a sound [256], and the summary of each of its windows [windows, 1024]."""


def _summary(moments: Tensor) -> Tensor:
    """Mean and deviation, [..., 1024], from the means of the states and of their squares, [..., 2, 512]."""
    mean, square = moments.unbind(-2)
    return torch.cat([mean, (square - mean.square()).clamp_min(0).sqrt()], -1)


def shared(device: str | Place = "auto") -> VoiceEncoder:
    """Gives the one encoder of the catalogue's weights that features share, so that a voice is heard once for all.

    Raises:
        WeightsError: the weights are not pulled yet or unreadable.
    """
    return _shared(Place.of(device), weights.path("ge2e"))


_shared = functools.cache(VoiceEncoder)


class _Network(nn.Module):
    """Three LSTM layers and a projection: mel windows [batch, 160, 40] to unit vectors [batch, 256].

    Gives the states of the second and the third layer, too, [batch, 160, 512].
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(width, 256, batch_first=True) for width in (_MELS, 256, 256))
        self.linear = nn.Linear(256, DIMENSION)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        states = [mel]
        for layer in self.layers:
            states.append(layer(states[-1])[0])
        unit = nn.functional.normalize(torch.relu(self.linear(states[-1][:, -1])), dim=-1)
        return unit, torch.cat(states[2:], -1)

    def second(self, mel: Tensor) -> Tensor:
        """Gives the states of the second layer alone."""
        for layer in self.layers[:2]:
            mel = layer(mel)[0]
        return mel


def _load(folder: Path) -> _Network:
    from safetensors.torch import load_file

    path = folder / "ge2e.safetensors"
    network = _Network()
    try:
        state = load_file(path)
        # The loss's own two numbers are in the file too; nothing here needs them.
        state = {key: value for key, value in state.items() if not key.startswith("similarity_")}
        network.load_state_dict({_own_name(key): value for key, value in state.items()})
    except Exception as error:  # safetensors and torch have their own exceptions; none should reach the user
        raise WeightsError(
            f"the voice model {path} can't be read ({error}); run: mer-agent weights pull ge2e"
        ) from error
    return network.eval()


def _own_name(key: str) -> str:
    """The file has one LSTM of three layers, `lstm.weight_ih_l2`; here each is one of its own."""
    part, _, name = key.partition(".")
    return f"layers.{name[-1]}.{name[:-1]}0" if part == "lstm" else key


def raise_volume(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gives the sound at -30 dBFS if it is softer than that. NaN and infinity count as silence, clipping is kept."""
    sound = np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -1, 1).astype(np.float32, copy=False)
    power = float(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0
    if power == 0.0:
        return sound
    gain_db = _TARGET_DBFS - 10 * np.log10(power)
    return sound if gain_db <= 0 else (sound * np.float32(10 ** (gain_db / 20)))


def without_silences(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gives the sound (float32 [n], 16 kHz) with its speech, and at most 90 ms of silence on each side of it."""
    kept = kept_samples(samples)
    return samples[: len(kept)][kept]


def kept_samples(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tells of each sample of the whole 30 ms frames whether `without_silences` leaves it.

    A frame counts as speech when more than half of the eight frames around it do: a click is no speech, a stop
    consonant no silence.
    """
    speech = _speech_frames(samples)
    if not speech.any():
        return np.zeros(0, np.bool_)
    padded = np.pad(speech.astype(np.int64), ((_SMOOTHING_FRAMES - 1) // 2, _SMOOTHING_FRAMES // 2))
    often = np.convolve(padded, np.ones(_SMOOTHING_FRAMES, dtype=np.int64), "valid") > _SMOOTHING_FRAMES // 2
    around = np.pad(often, _KEPT_SILENCE_FRAMES)
    kept = np.convolve(around, np.ones(2 * _KEPT_SILENCE_FRAMES + 1, dtype=np.int64), "valid") > 0
    return np.repeat(kept, _FRAME_SAMPLES)


def _speech_frames(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tells of each whole 30 ms frame whether it holds speech.

    This is WebRTC's detector and not Silero, because GE2E was trained on what this one left over, and so were the
    embeddings that the fusion model learned from: a cut that moves by some frames moves the embedding.
    """
    detector = webrtcvad.Vad(_STRICTEST)
    whole = samples[: len(samples) - len(samples) % _FRAME_SAMPLES]
    frames = np.round(whole * 32767).astype("<i2").reshape(-1, _FRAME_SAMPLES)
    return np.array([detector.is_speech(frame.tobytes(), SAMPLE_RATE_HZ) for frame in frames], np.bool_)


def partial_starts(samples: int) -> list[int]:
    """Gives the first mel frame of each window."""
    frames = -(-(samples + 1) // _HOP_SAMPLES)
    starts = list(range(0, max(1, frames - _PARTIAL_FRAMES + _PARTIAL_STEP + 1), _PARTIAL_STEP))
    coverage = (samples - starts[-1] * _HOP_SAMPLES) / (_PARTIAL_FRAMES * _HOP_SAMPLES)
    return starts[:-1] if coverage < _LEAST_COVERAGE and len(starts) > 1 else starts


def _mel_filters() -> NDArray[np.float32]:
    """Gives triangular filters of equal area, [40, 201], evenly spaced on Slaney's mel scale from 0 to 8 kHz.

    The scale is linear up to 1 kHz (15 mel) and logarithmic above, 27 steps for a factor of 6.4.
    """
    highest = 15 + 27 * np.log(SAMPLE_RATE_HZ / 2 / 1000) / np.log(6.4)
    mel = np.linspace(0, highest, _MELS + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequency = np.linspace(0, SAMPLE_RATE_HZ / 2, _WINDOW_SAMPLES // 2 + 1)
    triangle = np.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre))
    filters: NDArray[np.float32] = (np.maximum(triangle, 0) * 2 / (high - low)).astype(np.float32)
    return filters
