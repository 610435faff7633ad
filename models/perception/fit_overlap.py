"""Learns to notice two voices at once (`encoders.overlap`) from acted speech that is mixed here, and measures it.

    python -m mer_agent.models.perception.fit_overlap DATA_DIR [--output encoders/trained]

A sound is one voice (one clip or two), two voices in turn with at most 0.25 s between them, or two at once: one within
the other, or the second into the end of the first for 0.4 to 1.5 s. One of the two is softer by up to 12 dB. Sounds are
taken as they are or distorted: rooms with up to 1.4 s of reverberation, echoes, other throats, microphones, noise,
telephone and Opus.

Learned from actors 1 to 9 of RAVDESS and four speakers of EmoDB. The limit is chosen on actors 10 to 12 and a fifth
speaker, distorted, so that `ALARMS` of the sounds in which nobody overlaps are taken for two voices. Measured on actors
13 to 24 and the other five, at 0, 5 and 10 dB. It takes some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mer_agent.encoders import shipped, voice
from mer_agent.encoders.overlap import OverlapEncoder, OverlapNetwork
from mer_agent.models.data import speech_data
from mer_agent.models.data.speech_data import Clip
from mer_agent.models.perception.speech_augment import Sound, add, opus, reverberate, telephone
from mer_agent.models.training import records
from mer_agent.streams.types import SAMPLE_RATE_HZ

LEARN, CHOOSE, MEASURE = 7000, 2000, 2000
ALARMS = 0.005
LEAST_S = 0.3
"""A window with less of two voices teaches nothing, and says nothing in either direction."""
NOTICEABLE_S = 0.4
"""An utterance with less of two voices isn't counted."""
UNITS, EPOCHS, BATCH, RATE, DECAY = 64, 12, 128, 2e-3, 0.05

_CHOOSE = {"ravdess-10", "ravdess-11", "ravdess-12", "emodb-11"}
_LEARN = {f"ravdess-{number:02d}" for number in range(1, 10)} | {f"emodb-{name}" for name in ("03", "08", "09", "10")}


@dataclass(frozen=True)
class Heard:
    """Windows of many sounds: `windows` [n, 1024], `both_s` [n] of two voices in each, `sound` [n], the sound's number.

    Of each sound its `kind` (one, turns, within, into) and by how much one voice is softer, `ratio_db`.
    """

    windows: Tensor
    both_s: Tensor
    sound: Tensor
    kind: NDArray[np.str_]
    ratio_db: NDArray[np.float64]

    def of_sounds(self, values: Tensor) -> NDArray[np.float64]:
        """The greatest value among the windows of each sound."""
        most = torch.full((len(self.kind),), -torch.inf).scatter_reduce(0, self.sound, values, "amax")
        return most.double().numpy()


class Mixer:
    """Makes sounds of clips; the same seed gives the same ones."""

    def __init__(self, clips: Sequence[Clip], seed: int, distorted: float, ratios_db: Sequence[float] = ()) -> None:
        self._random = np.random.default_rng(seed)
        self._clips: dict[str, list[Clip]] = {}
        for clip in clips:
            self._clips.setdefault(clip.speaker, []).append(clip)
        self._sounds: dict[Path, Sound] = {}
        self._distorted, self._ratios_db = distorted, ratios_db

    def make(self) -> tuple[str, Sound, NDArray[np.bool_], float]:
        """Gives its kind, the sound, where two voices are in it [n], and by how many decibels one is softer."""
        random = self._random
        one, other = random.choice(sorted(self._clips), 2, replace=False)
        kind = str(random.choice(["one", "turns", "within", "into"], p=[0.45, 0.13, 0.25, 0.17]))
        bad = random.random() < self._distorted
        first = self._voice(one, bad)
        if kind == "one":
            return kind, self._recorded(self._in_room(first, bad), bad), np.zeros(len(first), np.bool_), 0.0
        second = self._voice(other, bad)
        ratio_db = float(random.choice(self._ratios_db) if len(self._ratios_db) else random.uniform(0, 12))
        if kind == "turns":
            begin = len(first) + int(random.uniform(0, 0.25) * SAMPLE_RATE_HZ)
        elif kind == "into":
            begin = max(0, len(first) - int(random.uniform(0.4, 1.5) * SAMPLE_RATE_HZ))
        else:
            first, second = sorted((first, second), key=len, reverse=True)
            begin = int(random.integers(len(first) - len(second) + 1))
        length = max(len(first), begin + len(second))
        speak = [np.zeros(length, np.bool_), np.zeros(length, np.bool_)]
        speak[0][: len(first)], speak[1][begin : begin + len(second)] = _active(first), _active(second)
        voices = [self._in_room(first, bad), self._in_room(second, bad)]
        voices[int(random.integers(2))] *= np.float32(10 ** (-ratio_db / 20))
        sound = np.zeros(length, np.float32)
        sound[: len(first)] += voices[0]
        sound[begin : begin + len(second)] += voices[1]
        return kind, self._recorded(sound, bad), speak[0] & speak[1], ratio_db

    def _voice(self, speaker: str, bad: bool) -> Sound:
        """One clip or two of a speaker, at equal loudness."""
        random, clips = self._random, self._clips[speaker]
        speed = random.uniform(0.85, 1.18) if bad else 1.0
        parts: list[Sound] = []
        for _ in range(int(random.integers(1, 3))):
            clip = clips[int(random.integers(len(clips)))]
            if clip.path not in self._sounds:
                speech = speech_data.as_cut(speech_data.sound(clip)).speech
                assert speech is not None  # noqa: S101  # a clip has sound
                self._sounds[clip.path] = (speech * (0.05 / np.sqrt(np.mean(speech**2)))).astype(np.float32)
            speech = self._sounds[clip.path]
            faster = np.interp(np.arange(0, len(speech) - 1, speed), np.arange(len(speech)), speech)
            parts += [faster.astype(np.float32), np.zeros(int(random.uniform(0.05, 0.3) * SAMPLE_RATE_HZ), np.float32)]
        return np.concatenate(parts[:-1])

    def _in_room(self, sound: Sound, bad: bool) -> Sound:
        random = self._random
        if bad and random.random() < 0.6:
            sound = reverberate(sound, random.uniform(0.1, 1.4), random)
        if bad and random.random() < 0.3:
            dry = sound
            for _ in range(int(random.integers(1, 5))):
                delay = int(random.uniform(0.02, 0.35) * SAMPLE_RATE_HZ)
                echo = np.pad(dry, (delay, 0))[: len(dry)]
                sound = sound + echo * np.float32(10 ** (random.uniform(-18, -3) / 20) * random.choice([-1, 1]))
        return sound.copy()

    def _recorded(self, sound: Sound, bad: bool) -> Sound:
        """As a microphone and a line make it."""
        random = self._random
        if not bad:
            return sound
        if random.random() < 0.6:
            sound = self._coloured(sound)
        if random.random() < 0.75:
            noise = np.fft.rfft(random.standard_normal(len(sound)))
            noise /= np.maximum(1, np.arange(len(noise))) ** (0.5 * random.integers(3))
            sound = add(sound, np.fft.irfft(noise, len(sound)).astype(np.float32), random.uniform(5, 35))
        sound = sound * np.float32(10 ** (random.uniform(-25, 0) / 20) / max(1e-6, float(np.abs(sound).max())))
        if random.random() < 0.2:
            sound = [telephone, opus][int(random.integers(2))](sound)
        return sound.astype(np.float32)

    def _coloured(self, sound: Sound) -> Sound:
        """As a microphone with another frequency response gives it."""
        random = self._random
        hz = np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ), 20)
        gain_db = np.interp(np.log(hz), np.linspace(np.log(50), np.log(8000), 8), random.uniform(-5, 5, 8))
        gain_db += random.uniform(-2, 2) * np.log2(hz / 1000)
        if random.random() < 0.4:
            gain_db -= 18 * np.maximum(0, np.log2(random.uniform(80, 350) / hz))
        if random.random() < 0.4:
            gain_db -= 24 * np.maximum(0, np.log2(hz / random.uniform(3000, 7000)))
        return np.fft.irfft(np.fft.rfft(sound) * 10 ** (gain_db / 20), len(sound)).astype(np.float32)


def hear(clips: Sequence[Clip], count: int, seed: int, distorted: float, ratios_db: Sequence[float] = ()) -> Heard:
    """Makes so many sounds and hears them window by window."""
    torch.set_num_threads(1)
    mixer, encoder = Mixer(clips, seed, distorted, ratios_db), voice.VoiceEncoder("cpu")
    windows: list[Tensor] = []
    both_s: list[float] = []
    number: list[int] = []
    kinds: list[str] = []
    ratios: list[float] = []
    length = int(voice.WINDOW_S * SAMPLE_RATE_HZ)
    for _ in range(count):
        kind, sound, both, ratio_db = mixer.make()
        (found,) = encoder.windows([sound])
        if found is None:
            continue
        kept = voice.kept_samples(voice.raise_volume(sound))
        both = both[: len(kept)][kept]
        starts = np.array(voice.partial_starts(len(both))) * SAMPLE_RATE_HZ // 100
        windows.append(found)
        both_s += [float(both[at : at + length].sum()) / SAMPLE_RATE_HZ for at in starts]
        number += [len(kinds)] * len(found)
        kinds.append(kind)
        ratios.append(ratio_db)
    return Heard(torch.cat(windows), torch.tensor(both_s), torch.tensor(number), np.array(kinds), np.array(ratios))


def fit(heard: Heard, seed: int = 0) -> OverlapNetwork:
    """Trains a network on windows, for a number of epochs that is fixed beforehand."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    clear = (heard.both_s == 0) | (heard.both_s > LEAST_S)
    windows, both = heard.windows[clear], (heard.both_s[clear] > 0).float()
    network = OverlapNetwork(UNITS)
    network.mean.copy_(windows.mean(0))
    network.deviation.copy_(windows.std(0).clamp_min(1e-4))
    steps = EPOCHS * -(-len(windows) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(windows), generator=random).split(BATCH):  # type: ignore[no-untyped-call]
            loss = nn.functional.binary_cross_entropy_with_logits(network(windows[rows]), both[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def calibrate(network: OverlapNetwork, heard: Heard) -> None:
    """Moves the log odds so that `ALARMS` of the sounds in which nobody overlaps come out above 0."""
    odds = heard.of_sounds(network(heard.windows))
    network.head.bias.sub_(float(np.quantile(odds[np.isin(heard.kind, ("one", "turns"))], 1 - ALARMS)))


def figures(network: OverlapNetwork, heard: Heard) -> dict[str, float]:
    """Gives, in percent, how often each kind of sound is taken for two voices at once, and the area under the ROC."""
    odds, both_s = heard.of_sounds(network(heard.windows)), heard.of_sounds(heard.both_s)
    single = np.isin(heard.kind, ("one", "turns"))
    found = {kind: 100 * float((odds[heard.kind == kind] > 0).mean()) for kind in ("one", "turns")}
    for kind in ("within", "into"):
        for ratio_db in sorted(set(heard.ratio_db[heard.kind == kind].tolist())):
            own = (heard.kind == kind) & (heard.ratio_db == ratio_db) & (both_s >= NOTICEABLE_S)
            found[f"{kind}_{ratio_db:.0f}_db"] = 100 * float((odds[own] > 0).mean())
    overlapping = odds[~single & (both_s >= NOTICEABLE_S)]
    found["area"] = 100 * float((overlapping[:, None] > odds[single]).mean())
    return {name: round(value, 1) for name, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Mixes, fits, measures and writes the weights and their card."""
    parser = argparse.ArgumentParser(description="Learn to notice two voices at once.")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--output", type=Path, default=shipped.FOLDER)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    clips = speech_data.load(options.data_dir / "speech")
    learn, choose = ([clip for clip in clips if clip.speaker in own] for own in (_LEARN, _CHOOSE))
    others = [clip for clip in clips if clip.speaker not in _LEARN | _CHOOSE]
    with ProcessPoolExecutor(2) as pool:
        halves = [pool.submit(hear, learn, LEARN // 2, seed, 0.6) for seed in (1, 2)]
        chosen = pool.submit(hear, choose, CHOOSE, 3, 1.0)
        measured = {
            name: pool.submit(hear, others, MEASURE, seed, distorted, (0, 5, 10))
            for name, seed, distorted in (("as_recorded", 4, 0.0), ("distorted", 5, 1.0))
        }
        network = fit(_joined([half.result() for half in halves]))
        calibrate(network, chosen.result())
        found: dict[str, Any] = {name: figures(network, one.result()) for name, one in measured.items()}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    shipped.save(
        options.output,
        "overlap",
        {key: value.half() for key, value in network.state_dict().items()},
        feature=OverlapEncoder.feature,
        recipe={"units": UNITS},
        data="RAVDESS (actors 1 to 12) and EmoDB (5 speakers), mixed",
        terms="non-commercial: trained on RAVDESS (CC BY-NC-SA 4.0) and EmoDB (free for research)",
        figures=found | {"protocol": "percent taken for two voices; other speakers than learned from; one seed"},
        record={"seed": 0, "sounds": LEARN, "alarms": ALARMS, "epochs": EPOCHS, "revision": records.git_revision()},
    )


def _joined(parts: Sequence[Heard]) -> Heard:
    first = np.cumsum([0, *(len(part.kind) for part in parts)])
    return Heard(
        torch.cat([part.windows for part in parts]),
        torch.cat([part.both_s for part in parts]),
        torch.cat([part.sound + int(at) for part, at in zip(parts, first, strict=False)]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.ratio_db for part in parts]),
    )


def _active(sound: Sound) -> NDArray[np.bool_]:
    """Tells of each sample whether it is within 30 dB of the loudest 10 ms, or next to such."""
    frame = SAMPLE_RATE_HZ // 100
    power = np.square(sound[: len(sound) // frame * frame].reshape(-1, frame)).mean(1)
    loud = np.convolve(power > power.max() / 1000, np.ones(5), "same") > 0
    return np.pad(np.repeat(loud, frame), (0, len(sound) % frame))


if __name__ == "__main__":
    main()
