"""What the lower layers of Whisper's encoder hear: how something is said, before words are made of it.

Whisper was trained on hundreds of thousands of hours from everywhere. Layer by layer its encoder turns sound into
words, and the last layer has forgotten most of the voice. What is heard below them carries over from one studio,
speaker and language to another (docs/cards/voice.md has figures layer by layer). So this is the encoder up to its third
layer, by the weights of the recogniser that are pulled anyway:

1. the speech in an utterance, brought to one loudness, not padded to 30 s: log-mel as Whisper has it (80 bands, 25 ms
   windows every 10 ms);
2. two convolutions, positions, three layers of attention: 50 states a second, 512 wide;
3. the mean over time of the states before the first layer, behind the second and behind the third.

Whoever transcribes, and whether anyone does, makes no difference: the recogniser doesn't tell of these layers.

Source: Radford et al. 2022, "Robust speech recognition via large-scale weak supervision", weights whisper-base (MIT),
in the format of CTranslate2, from which they are read here.
"""

from __future__ import annotations

import functools
import mmap
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mer_agent.encoders import weights
from mer_agent.encoders.place import Place
from mer_agent.errors import WeightsError
from mer_agent.streams.types import SAMPLE_RATE_HZ

WEIGHTS = "whisper-base"
WIDTH = 512
LAYERS = (0, 2, 3)
"""Behind which the states are read; 0: before the first one."""
MEANS = len(LAYERS) * WIDTH
LONGEST_S = 30.0
"""There are no positions for more; live utterances are cut well before."""
LEAST_S = 0.065
"""What is shorter is no voice."""

_BANDS, _HEADS, _POSITIONS = 80, 8, 1500
_HOP = SAMPLE_RATE_HZ // 100
_AUDIBLE = 1e-4
"""Loudness below which there is silence: -80 dB of full scale."""
_LOUDNESS = 0.05
"""That of everything that is heard: how far away the microphone is doesn't say how something was meant."""
_VERSION = 6
_NUMBERS = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


class WhisperLayers:
    """The lower part of Whisper's encoder.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        folder: where `model.bin` of whisper-base lies; the catalogue's own folder if not given.

    Raises:
        WeightsError: the weights are not pulled yet or unreadable.
    """

    def __init__(self, device: str | Place = "auto", folder: Path | None = None) -> None:
        # Not at the top: it is imported by whoever looks for a feature's name, and brings a recogniser with it.
        from faster_whisper.feature_extractor import FeatureExtractor

        self._place = Place.of(device)
        self._log_mel = FeatureExtractor(feature_size=_BANDS)
        self._network = _load(weights.path(WEIGHTS) if folder is None else folder).to(self._place.device)

    def means(self, sounds: Sequence[NDArray[np.float32] | None]) -> list[Tensor | None]:
        """Gives [1536] float32 on the CPU for each sound (float32 [n], 16 kHz); None for silence and less than 65 ms.

        NaN and infinite samples count as silence, what goes beyond full scale as clipped.
        """
        return [None if (states := self.states(sound)) is None else states.mean(1).flatten() for sound in sounds]

    @torch.inference_mode()
    def states(self, sound: NDArray[np.float32] | None) -> Tensor | None:
        """Gives the states of a sound, float32 [3, 50 a second, 512] on the CPU; None as `means` does."""
        if sound is None or len(sound) < LEAST_S * SAMPLE_RATE_HZ:
            return None
        sound = np.nan_to_num(sound[: int(LONGEST_S * SAMPLE_RATE_HZ)], nan=0.0, posinf=0.0, neginf=0.0)
        sound = np.clip(sound, -1, 1)
        loudness = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
        if loudness < _AUDIBLE:
            return None
        mel = self._log_mel((sound * (_LOUDNESS / loudness)).astype(np.float32), padding=_HOP)
        mel = mel[:, : len(mel[0]) // 2 * 2]  # whole states
        found: Tensor = self._network(self._place.put(torch.from_numpy(np.ascontiguousarray(mel))[None]))
        return found[:, 0].cpu()


def shared(device: str | Place = "auto") -> WhisperLayers:
    """Gives the one that all who hear with it on this device share: its 45 MB are loaded once.

    Raises:
        WeightsError: the weights are not pulled yet or unreadable.
    """
    return _shared(Place.of(device), weights.path(WEIGHTS))


_shared = functools.cache(WhisperLayers)


class LowerEncoder(nn.Module):
    """Whisper's encoder as far as it is needed: log-mel [batch, 80, frames] to states [layers, batch, frames / 2, 512].

    Args:
        layers: behind which layers the states are given; no more are built than the last one of them.
    """

    def __init__(self, layers: Sequence[int] = LAYERS) -> None:
        super().__init__()
        self._given = tuple(layers)
        self.conv1 = nn.Conv1d(_BANDS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(_POSITIONS, WIDTH))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH, _HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(max(self._given))
        )

    def forward(self, mel: Tensor) -> Tensor:
        """Gives the states; more frames than 3,000 have no positions."""
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        found = [x]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return torch.stack([found[number] for number in self._given])


def _load(folder: Path, layers: Sequence[int] = LAYERS) -> LowerEncoder:
    path = folder / "model.bin"
    network = LowerEncoder(layers)
    try:
        there = {name: torch.from_numpy(value) for name, value in _encoder(path, len(network.layers))}
        network.load_state_dict({own: there[theirs] for own, theirs in _names(len(network.layers))})
    except (OSError, ValueError, KeyError, RuntimeError, struct.error) as error:
        raise WeightsError(
            f"can't read Whisper's encoder from {path} ({error}); pull it again: mer-agent weights pull {WEIGHTS}"
        ) from error
    return network.eval().requires_grad_(False)


def _names(layers: int) -> Iterator[tuple[str, str]]:
    """Gives what each tensor is called here and in the file."""
    for conv in ("conv1", "conv2"):
        yield from ((f"{conv}.{part}", f"{conv}/{part}") for part in ("weight", "bias"))
    yield "positions", "position_encodings/encodings"
    for n in range(layers):
        for own, theirs in (
            ("self_attn.in_proj_", "self_attention/linear_0/"),
            ("self_attn.out_proj.", "self_attention/linear_1/"),
            ("linear1.", "ffn/linear_0/"),
            ("linear2.", "ffn/linear_1/"),
        ):
            yield from ((f"layers.{n}.{own}{part}", f"layer_{n}/{theirs}{part}") for part in ("weight", "bias"))
        for own, theirs in (("norm1", "self_attention"), ("norm2", "ffn")):
            yield f"layers.{n}.{own}.weight", f"layer_{n}/{theirs}/layer_norm/gamma"
            yield f"layers.{n}.{own}.bias", f"layer_{n}/{theirs}/layer_norm/beta"


def _encoder(path: Path, layers: int) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Gives name and numbers of the encoder's tensors up to that many layers, as CTranslate2 keeps them.

    A file holds its version, the model's kind and revision, and how many tensors there are; each of them name, shape,
    type, size in bytes and numbers, little-endian.
    """
    wanted = {theirs for _, theirs in _names(layers)}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = 0

        def number(kind: str) -> int:
            nonlocal at
            (value,) = struct.unpack_from(f"<{kind}", content, at)
            at += struct.calcsize(kind)
            return int(value)

        def text() -> str:
            nonlocal at
            length = number("H")  # with a zero at its end
            at += length
            return content[at - length : at - 1].decode()

        if (version := number("I")) != _VERSION:
            raise ValueError(f"its format is {version}, and {_VERSION} is read here")
        text()
        number("I")
        for _ in range(number("I")):
            name = text()
            shape = [number("I") for _ in range(number("B"))]
            kind, size = number("B"), number("I")
            if (own := name.removeprefix("encoder/")) != name and own in wanted:
                numbers = np.frombuffer(content[at : at + size], _NUMBERS[kind])
                yield own, numbers.reshape(shape).astype(np.float32)
            at += size
