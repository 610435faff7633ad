"""`mer-agent bench robustness`: what noise, bad light, hidden faces and missing modalities do to accuracy and honesty.

- **sound**: conversations of acted speakers whom nothing has learned from (`composed_cases`), through the agent's whole
  path, with noise under them, or somebody else who talks;
- **words**: the same with other weights of the recogniser;
- **missing**: the same without one modality;
- **faces**: FER+'s test faces by the face encoder and the fusion model, harmed as `models.perception.judge_faces` does
  it, and as the agent has it when there is no face: nothing.

Noises are made here: babble of six voices of other speakers, chords with a beat, and a hum of 50 Hz with its harmonics.
The ratio of speech to noise is that of the middle one of the turns, without pauses: softer ones have less.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mer_agent.config.settings import Settings
from mer_agent.encoders import weights
from mer_agent.encoders.base import Encoder
from mer_agent.judging import composed_cases
from mer_agent.judging.attribution import Played, heard, judged, score
from mer_agent.judging.end_to_end import open_player
from mer_agent.judging.truth import Case, Truth, named
from mer_agent.models.data import ferplus, speech_data
from mer_agent.models.live import live_faces
from mer_agent.models.live.composed import write_wav
from mer_agent.models.live.live_data import FROM_FACES
from mer_agent.models.live.live_parts import HELD_OUT
from mer_agent.models.perception.face_augment import augment
from mer_agent.models.perception.judge_faces import DAMAGE
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Modality

Sound = NDArray[np.float32]

RATIOS_DB = (20, 10, 5, 0)
TALKER_DB = (10, 0)
"""How much louder the one who is meant is than the one who talks beside him."""
HARMED = ("unharmed", "light at 5 to 20 %, with noise", "light from one side", "16 to 24 pixels", "a quarter covered")
"""Of `judge_faces.DAMAGE`."""
SMALLER = "whisper-tiny.en"
"""Weights that are compared with the default ones, on English."""
FACES = 1000
_VOICES = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; figures in percent."""

    part: str
    condition: str
    figures: Mapping[str, Any]

    def __str__(self) -> str:
        """The line for who waits."""
        told = ", ".join(f"{key} {self.figures[key]}" for key in ("weighted_f1", "accuracy", "ece", "missed", "n"))
        wrong = (self.figures.get("heard") or {}).get("word_errors")
        return f"{self.part}, {self.condition}: {told}, wrong words {wrong}"


def bench(
    settings: Settings,
    data_dir: Path,
    encoders: Path,
    conversations: int = 5,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measures all conditions.

    Args:
        settings: the agent's, the checkpoint among them.
        data_dir: holds speech/ and faces/.
        encoders: the folder of `mer-agent train-encoder voice`.
        conversations: how many are made of acted clips; some twelve utterances each.
        seed: of all chances.
        say: takes a line of progress.

    Raises:
        DataError: a corpus is missing.
        WeightsError, CheckpointError: see `loading.load`.
    """
    weights.set_directory(settings.weights.dir)
    weights.path(SMALLER)  # else their lack would be told at the end, and all else be lost
    with tempfile.TemporaryDirectory(prefix="mer-agent-") as folder:
        cases, voice = composed_cases.compose(data_dir, encoders, Path(folder), conversations, seed, say)
        others = [clip for clip in speech_data.load(data_dir / "speech") if clip.fold not in (HELD_OUT,)]
        random = np.random.default_rng(seed)
        voices = [speech_data.sound(others[at]) for at in random.choice(len(others), 60, replace=False)]
        instead: dict[str, Encoder] = {voice.feature: voice}
        name, own = asyncio.run(_faces(settings, data_dir, seed, say))
        rows = asyncio.run(_heard(settings, cases, voices, instead, Path(folder), seed, say))
    return {
        "checkpoint": name,
        "conversations": conversations,
        "utterances": sum(len(case.truth) for case in cases),
        "faces": FACES,
        "rows": [{"part": row.part, "condition": row.condition, **row.figures} for row in (*rows, *own)],
    }


async def _heard(
    settings: Settings,
    cases: Sequence[Case],
    voices: Sequence[Sound],
    encoders: Mapping[str, Encoder],
    folder: Path,
    seed: int,
    say: Callable[[str], None],
) -> list[Row]:
    rows: list[Row] = []

    def note(part: str, condition: str, played: Sequence[Played]) -> None:
        told, wanted = judged(played, labels)
        rows.append(Row(part, condition, {**score(told, wanted, labels), "heard": heard(played)}))
        say(str(rows[-1]))

    player = await open_player(settings, encoders)
    labels = player.models.card.labels
    try:
        missing: dict[Modality | None, list[Played]] = {None: [], "text": [], "audio": []}
        for case in cases:
            for modality, own in missing.items():
                own.append(await player.play(case, without=modality))
        clean = missing.pop(None)
        note("sound", "as it was recorded", clean)
        for gone, own in missing.items():
            note("missing", f"no {gone}", own)
        for kind, ratio_db, noisy in _noisy(cases, voices, folder, seed):
            note("sound", f"{kind}, {ratio_db} dB", [await player.play(case) for case in noisy])
    finally:
        player.close()
    english = [case for case in cases if case.kind == "ravdess"]
    note("words", settings.transcriber.weights, [one for one in clean if one.case in english])
    words = settings.transcriber.model_copy(update={"weights": SMALLER})
    player = await open_player(settings.model_copy(update={"transcriber": words}), encoders)
    try:
        note("words", SMALLER, [await player.play(case) for case in english])
    finally:
        player.close()
    return rows


def _noisy(
    cases: Sequence[Case], voices: Sequence[Sound], folder: Path, seed: int
) -> Iterator[tuple[str, int, list[Case]]]:
    """Gives all conversations with each noise at each ratio."""
    kinds: Mapping[str, tuple[Callable[[int, np.random.Generator], Sound], Sequence[int]]] = {
        "babble": (lambda length, random: babble(length, voices, random), RATIOS_DB),
        "music": (music, RATIOS_DB),
        "hum": (hum, RATIOS_DB),
        "somebody else talks": (lambda length, random: talker(length, voices, random), TALKER_DB),
    }
    for kind, (make, ratios) in kinds.items():
        for ratio_db in ratios:
            noisy = []
            for number, case in enumerate(cases):
                path = folder / f"noisy-{number:02}.wav"
                clean = np.concatenate([chunk.samples for chunk in audio_chunks(case.path)])
                noise = make(len(clean), np.random.default_rng((seed, number)))
                write_wav(path, mixed(clean, noise, case.truth, ratio_db))
                noisy.append(replace(case, path=path, trained=()))
            yield kind, ratio_db, noisy


def mixed(clean: Sound, noise: Sound, truth: Sequence[Truth], ratio_db: float) -> Sound:
    """Gives both, the noise `ratio_db` below the middle one of the turns; softer as a whole where it would be clipped.

    Not below their mean: acted shouts are 20 dB louder than whispers, and the mean is theirs.
    """
    edges = [(t.start_ns * SAMPLE_RATE_HZ // NS_PER_S, t.until_ns * SAMPLE_RATE_HZ // NS_PER_S) for t in truth]
    power = float(np.median([_power(clean[first:last]) for first, last in edges]))
    other = _power(noise)
    both = clean + noise * np.float32(np.sqrt(power / max(other, 1e-12) * 10 ** (-ratio_db / 10)))
    return (both / max(1.0, float(np.abs(both).max()))).astype(np.float32)


def _power(sound: Sound) -> float:
    return float(np.mean(np.square(sound, dtype=np.float64)))


def talker(length: int, voices: Sequence[Sound], random: np.random.Generator) -> Sound:
    """Gives one voice after the other, float32 [length]."""
    order = random.permutation(len(voices))
    return np.resize(np.concatenate([voices[at] for at in order]), length).astype(np.float32)


def babble(length: int, voices: Sequence[Sound], random: np.random.Generator) -> Sound:
    """Gives several voices at once, each as loud as the others, float32 [length]."""
    every = [talker(length, voices, random) for _ in range(_VOICES)]
    even = np.stack([one / max(1e-6, float(np.sqrt(np.mean(one**2)))) for one in every])
    return np.asarray(even.sum(0), np.float32)


def music(length: int, random: np.random.Generator) -> Sound:
    """Gives chords of three plucked notes with a beat under them, two changes a second, float32 [length]."""
    step = SAMPLE_RATE_HZ // 2
    t = np.arange(step) / SAMPLE_RATE_HZ
    beat = np.exp(-60 * t) * random.standard_normal(step)
    parts = []
    for _ in range(-(-length // step)):
        root_hz = 110 * 2 ** (random.choice([0, 5, 7, 9]) / 12)
        notes_hz = [root_hz * ratio for ratio in (1, random.choice([6 / 5, 5 / 4]), 3 / 2, 2)]
        chord = np.sum([np.sin(2 * np.pi * k * hz * t) / k for hz in notes_hz for k in (1, 2, 3, 4)], axis=0)
        parts.append((np.exp(-3 * t) * chord + beat).astype(np.float32))
    return np.concatenate(parts)[:length]


def hum(length: int, random: np.random.Generator) -> Sound:
    """Gives mains hum with its harmonics and a little hiss, float32 [length]."""
    t = np.arange(length) / SAMPLE_RATE_HZ
    sound: Sound = (0.05 * random.standard_normal(length)).astype(np.float32)
    for k in range(1, 9):
        sound += (np.sin(2 * np.pi * 50 * k * t + random.uniform(0, 6)) / k).astype(np.float32)
    return sound


async def _faces(settings: Settings, data_dir: Path, seed: int, say: Callable[[str], None]) -> tuple[str, list[Row]]:
    """Gives the checkpoint's name and how faces alone are judged, harmed and unharmed, each as its own conversation."""
    player = await open_player(settings)
    player.close()
    fusion, card = player.models.fusion, player.models.card
    feature = next((spec.id for spec in card.features if spec.modality == "visual"), None)
    if feature is None:
        return card.name, []
    every = ferplus.load(data_dir / "faces" / "ferplus.parquet")["test"]
    chosen = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:FACES]
    emotions = [ferplus.EMOTIONS[at] for at in every.votes[chosen].argmax(1)]
    labels = [named(FROM_FACES.get(name, name), card.labels) for name in emotions]
    kept = [at for at, label in enumerate(labels) if label is not None]
    images, wanted = every.images[chosen][kept], torch.tensor([labels[at] for at in kept])
    network = live_faces.shipped_network()

    def judge(rows: Tensor | None) -> dict[str, Any]:
        told = [
            fusion.stream().append("u", 0, {} if rows is None else {feature: rows[at]}).probabilities
            for at in range(len(wanted))
        ]
        missed = torch.zeros(len(told), 1)
        return score(torch.cat([torch.stack(told), missed], 1), wanted, card.labels)

    found = []
    for name in HARMED:
        harmed = augment(images, DAMAGE[name], torch.Generator().manual_seed(seed))
        found.append(Row("faces", name, judge(live_faces.encode(network, harmed))))
        say(str(found[-1]))
    return card.name, [*found, Row("faces", "no face, nor anything else", judge(None))]


def markdown(figures: Mapping[str, Any]) -> str:
    """Gives the table of `bench`."""
    told = [
        f"Checkpoint `{figures['checkpoint']}`; {figures['utterances']} utterances in {figures['conversations']} "
        f"conversations, {figures['faces']} faces. Percent.",
        "",
        "| | | weighted F1 | accuracy | ECE | missed | wrong words | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        wrong = (row.get("heard") or {}).get("word_errors")
        scored = " | ".join(f"{row[key]:.1f}" for key in ("weighted_f1", "accuracy", "ece"))
        words = "" if wrong is None else f"{wrong:.1f}"
        told.append(f"| {row['part']} | {row['condition']} | {scored} | {row['missed']} | {words} | {row['n']} |")
    return "\n".join(told) + "\n"
