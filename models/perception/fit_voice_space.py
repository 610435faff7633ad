"""Learns how to tell voices apart (`streams.voice_space`) from labelled speech, and measures it on held-out speakers.

    python -m mer_agent.models.perception.fit_voice_space DATA_DIR [--output streams/voice_space.safetensors]

Learned from: sessions 1 to 4 of IEMOCAP (8 speakers, their embeddings), actors 1 to 12 of RAVDESS, the first 5 speakers
of EmoDB (their sound, encoded here, each clip once as a whole and once as a cut of 0.3 to 1.5 s, for short answers).
Measured on: session 5, actors 13 to 24, the other 5 speakers, as conversations: IEMOCAP's own, and for the acted clips
random ones of one to four speakers and thirty turns. It takes some five minutes on one core.

Accuracy is the share of utterances with the right speaker, numbers matched to names as well as possible, and unknown
counted as wrong. Beside it stands what an offline clustering reaches that hears everything first and knows how many
speak.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_agent.config.settings import SpeakerSettings
from mer_agent.encoders.voice import VoiceEncoder, raise_volume, without_silences
from mer_agent.errors import DataError
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import SAMPLE_RATE_HZ
from mer_agent.streams.voice_space import FILE, Vector, VoiceSpace, load, terms

METADATA = {
    "data": "GE2E embeddings of IEMOCAP sessions 1 to 4, RAVDESS actors 1 to 12, the first 5 speakers of EmoDB",
    "terms": "research and non-commercial use, as IEMOCAP (research licence) and RAVDESS (CC BY-NC-SA 4.0) ask",
    "made_by": "python -m mer_agent.models.perception.fit_voice_space",
}
"""What stands in the file's header."""

RANK = 16
SHORT_CUTS_S = (0.3, 1.5)
TURNS, CONVERSATIONS = 30, 100


@dataclass(frozen=True)
class Voices:
    """Utterances of known speakers: `embeddings` [n, 256], `durations_s` [n], `speakers` [n], `short` [n]: a cut."""

    embeddings: NDArray[np.float64]
    durations_s: NDArray[np.float64]
    speakers: NDArray[np.str_]
    short: NDArray[np.bool_]

    def of(self, speakers: set[str]) -> Voices:
        """Gives the utterances of these speakers alone."""
        return self.take(np.flatnonzero(np.isin(self.speakers, sorted(speakers))))

    def take(self, rows: NDArray[np.int64]) -> Voices:
        """Gives these utterances, in this order."""
        return Voices(self.embeddings[rows], self.durations_s[rows], self.speakers[rows], self.short[rows])

    def __len__(self) -> int:
        return len(self.speakers)


def fit(corpora: Sequence[Voices], conversations: Sequence[Voices], rank: int = RANK) -> VoiceSpace:
    """Learns the space from speakers (each weighs the same) and its calibration from conversations.

    Directions that vary as little as the average one keep 1 / sqrt(2) of their length, those that vary more keep less.
    """
    averages, covariances = [], []
    for voices in corpora:
        groups = [voices.embeddings[voices.speakers == name] for name in np.unique(voices.speakers)]
        averages.append(np.mean([group.mean(axis=0) for group in groups], axis=0))
        covariances += [np.cov(group.T, bias=True) for group in groups]
    within = np.mean(covariances, axis=0)
    floor = np.trace(within) / len(within)
    values, vectors = np.linalg.eigh(within)
    strongest = np.argsort(values)[::-1][:rank]
    taken = 1 - np.sqrt(floor / (values[strongest] + floor))
    space = VoiceSpace(np.mean(averages, axis=0), vectors[:, strongest], taken, ())
    return replace(space, calibration=_calibrate(space, conversations))


def _calibrate(space: VoiceSpace, conversations: Sequence[Voices]) -> tuple[float, ...]:
    """Fits the log odds to every utterance against every voice heard before it; both answers weigh the same."""
    from sklearn.linear_model import LogisticRegression

    rows, same = [], []
    for voices in conversations:
        totals: dict[str, Vector] = {}
        known_s: dict[str, float] = {}
        for embedding, duration_s, speaker in zip(voices.embeddings, voices.durations_s, voices.speakers, strict=True):
            place = space.place(embedding)
            if place is None:
                continue
            for name, total in totals.items():
                cosine = float(total @ place / np.linalg.norm(total))
                rows.append(terms(cosine, duration_s, known_s[name])[:-1])
                same.append(name == speaker)
            totals[speaker] = totals.get(speaker, 0.0) + duration_s * place
            known_s[speaker] = known_s.get(speaker, 0.0) + duration_s
    model = LogisticRegression(C=100.0, max_iter=5000, class_weight="balanced").fit(rows, same)
    return (*model.coef_[0].tolist(), float(model.intercept_[0]))


def iemocap(folder: Path, sessions: str) -> list[Voices]:
    """Gives the dialogues of some sessions, utterances in order of their ends."""
    with np.load(folder / "ge2e.npz", allow_pickle=False) as file:
        table = dict(zip(file["id"].tolist(), file["embedding"].astype(np.float64), strict=True))
    found = []
    for line in (folder / "dialogues.jsonl").read_text(encoding="utf-8").splitlines():
        dialogue = json.loads(line)
        session = dialogue["dialogue"][4]
        said = sorted((u for u in dialogue["utterances"] if u["id"] in table), key=lambda u: u["end"])
        if session in sessions and said:
            embeddings = np.array([table[u["id"]] for u in said])
            durations_s = np.array([u["end"] - u["start"] for u in said])
            speakers = np.array([session + u["speaker"] for u in said])
            found.append(Voices(embeddings, durations_s, speakers, np.zeros(len(said), dtype=np.bool_)))
    return found


def acted(clips: Sequence[Path], speaker_of: Callable[[str], str], encoder: VoiceEncoder, seed: int = 0) -> Voices:
    """Encodes clips, and a short cut of each.

    Raises:
        DataError: there is no speech in them.
    """
    import av

    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, float, str, bool]] = []
    for path in clips:
        with av.open(path) as file:
            pcm = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
        sound = (pcm / 32768).astype(np.float32)
        speech = without_silences(raise_volume(sound))
        samples = int(rng.uniform(*SHORT_CUTS_S) * SAMPLE_RATE_HZ)
        begin = int(rng.integers(max(1, len(speech) - samples)))
        quiet = rng.normal(0, 1e-4, SAMPLE_RATE_HZ // 10).astype(np.float32)
        cut = np.concatenate([quiet, speech[begin : begin + samples], quiet])
        for embedding, length, short in zip(
            encoder.encode_sounds([sound, cut]),
            (len(speech), len(speech[begin : begin + samples])),
            (False, True),
            strict=True,
        ):
            if embedding is not None:
                rows.append((embedding.double().numpy(), length / SAMPLE_RATE_HZ, speaker_of(path.stem), short))
    if not rows:
        raise DataError("there is no speech to learn voices from: name a folder with speech/ravdess and speech/emodb")
    embeddings, durations_s, speakers, shorts = zip(*rows, strict=True)
    return Voices(np.array(embeddings), np.array(durations_s), np.array(speakers), np.array(shorts))


def invented(voices: Voices, seed: int = 0) -> list[Voices]:
    """Gives conversations of one to four of these speakers, who sometimes go on; two fifths of the turns are short."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(CONVERSATIONS):
        who = rng.choice(np.unique(voices.speakers), 1 + number % 4, replace=False)
        turns = rng.integers(len(who), size=TURNS)
        turns[: len(who)] = np.arange(len(who))
        for i in range(1, TURNS):
            turns[i] = turns[i - 1] if rng.random() < 0.3 else turns[i]
        rows = [
            rng.choice(np.flatnonzero((voices.speakers == who[turn]) & (voices.short == (rng.random() < 0.4))))
            for turn in turns
        ]
        found.append(voices.take(np.array(rows)))
    return found


def follow(space: VoiceSpace, voices: Voices, settings: SpeakerSettings | None = None) -> list[int | None]:
    """Gives what the tracker says of a conversation, utterance by utterance."""
    tracker = SpeakerTracker(settings, space)
    return [
        tracker.identify(embedding, duration_s).speaker
        for embedding, duration_s in zip(voices.embeddings, voices.durations_s.tolist(), strict=True)
    ]


def cluster(space: VoiceSpace | None, voices: Voices) -> list[int | None]:
    """Gives an offline clustering (average linkage, cosine) into the true number of speakers; None: of embeddings."""
    from sklearn.cluster import AgglomerativeClustering

    places = voices.embeddings if space is None else np.array([space.place(e) for e in voices.embeddings])
    speakers = len(np.unique(voices.speakers))
    if len(voices) < 2:
        return [0] * len(voices)
    model = AgglomerativeClustering(n_clusters=speakers, metric="cosine", linkage="average")
    return [int(label) for label in model.fit(places).labels_]


def right(guesses: Sequence[int | None], speakers: Sequence[str]) -> int:
    """Gives how many utterances have the right speaker when numbers are matched to names as well as possible."""
    both = Counter(zip(guesses, speakers, strict=True))
    names = sorted(set(speakers))
    # A name may stay without a number: None stands for that, once for each.
    numbers = [*{guess for guess in guesses if guess is not None}, *[None] * len(names)]
    return max(
        sum(both[number, name] for number, name in zip(chosen, names, strict=True) if number is not None)
        for chosen in permutations(numbers, len(names))
    )


def report(name: str, conversations: Sequence[Voices], guess: Callable[[Voices], list[int | None]]) -> str:
    """Gives one line: accuracy, unknown utterances, conversations with the right number of speakers."""
    total = correct = unknown = counted = 0
    for voices in conversations:
        guesses = guess(voices)
        total += len(voices)
        correct += right(guesses, voices.speakers.tolist())
        unknown += guesses.count(None)
        counted += len(set(guesses) - {None}) == len(np.unique(voices.speakers))
    share = counted / len(conversations)
    return f"{name:34} accuracy {correct / total:.3f}  unknown {unknown / total:.3f}  right number {share:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fits, reports and writes; with `--report-only`, measures the space that the package brings."""
    parser = argparse.ArgumentParser(description="Learn how to tell voices apart.")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    encoder = VoiceEncoder("cpu")
    ravdess = acted(sorted((options.data_dir / "speech/ravdess").glob("*.flac")), lambda stem: stem[-2:], encoder)
    emodb = acted(sorted((options.data_dir / "speech/emodb").glob("*.flac")), lambda stem: stem[:2], encoder)
    actors = {f"{number:02d}" for number in range(1, 13)}
    germans = set(sorted(set(emodb.speakers.tolist()))[:5])
    talk = iemocap(options.data_dir / "iemocap", "1234")
    learn = [*talk, *invented(ravdess.of(actors)), *invented(emodb.of(germans))]
    if options.report_only:
        space = load(options.output)
    else:
        whole = Voices(*(np.concatenate([getattr(v, f) for v in talk]) for f in Voices.__dataclass_fields__))
        space = fit([whole, ravdess.of(actors), emodb.of(germans)], learn)
        space.save(options.output, METADATA)
        space = load(options.output)
    sets = {
        "IEMOCAP 1-4 (learned from)": talk,
        "IEMOCAP 5": iemocap(options.data_dir / "iemocap", "5"),
        "RAVDESS 13-24": invented(ravdess.of(set(ravdess.speakers.tolist()) - actors)),
        "EmoDB, last 5": invented(emodb.of(set(emodb.speakers.tolist()) - germans)),
    }
    for name, conversations in sets.items():
        for how, guess in {
            "as it comes": lambda voices: follow(space, voices),
            "as it comes, number known": lambda voices: follow(
                space, voices, SpeakerSettings(fixed=len(np.unique(voices.speakers)))
            ),
            "offline, number known": lambda voices: cluster(space, voices),
            "offline, plain cosine": lambda voices: cluster(None, voices),
        }.items():
            sys.stdout.write(report(f"{name}: {how}", conversations, guess) + "\n")


if __name__ == "__main__":
    main()
