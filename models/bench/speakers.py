"""How well voices are told apart as they come, beside an offline clustering of the same embeddings.

Conversations of one to four speakers are made of RAVDESS's actors 13 to 24 and of EmoDB's last five speakers, so that
the truth is known; two fifths of the turns are cuts of 0.3 to 1.5 s. Beside them stand IEMOCAP's own, of session 5, in
which two actors talk to each other. Of none of these people has the voice space or the tracker learned anything. The
error is that of diarisation when the times are given: seconds of speech with the wrong speaker (confusion) and with
none (missed), over all seconds; numbers are matched to names as well as possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_agent.config.settings import SpeakerSettings
from mer_agent.encoders.base import limit_threads
from mer_agent.encoders.voice import VoiceEncoder
from mer_agent.errors import DataError
from mer_agent.models.perception.fit_voice_space import Voices, acted, cluster, follow, iemocap, invented
from mer_agent.streams import voice_space

Guess = Callable[[Voices], list[int | None]]

CORPORA: Mapping[str, Callable[[str], str]] = {"ravdess": lambda stem: stem[-2:], "emodb": lambda stem: stem[:2]}
"""Folder -> the speaker in a clip's name."""


def error_s(guesses: Sequence[int | None], voices: Voices) -> tuple[float, float]:
    """Gives the seconds with the wrong speaker and those with none, under the best match of numbers to names."""
    from scipy.optimize import linear_sum_assignment

    numbers = sorted({guess for guess in guesses if guess is not None})
    names = np.unique(voices.speakers)
    given = np.array([-1 if guess is None else numbers.index(guess) for guess in guesses])
    together = np.array(
        [
            [voices.durations_s[(given == number) & (voices.speakers == name)].sum() for name in names]
            for number in range(len(numbers))
        ]
    ).reshape(len(numbers), len(names))
    right_s = together[linear_sum_assignment(together, maximize=True)].sum()
    missed_s = voices.durations_s[given == -1].sum()
    return float(voices.durations_s.sum() - missed_s - right_s), float(missed_s)


def score(conversations: Sequence[Voices], guess: Guess) -> dict[str, float]:
    """Gives shares of all speech: `error`, its parts `confusion` and `missed`; and `right_number` of conversations.

    `error_N` is the error of the conversations of N speakers.
    """
    confused_s = missed_s = 0.0
    counted = 0
    total_s, wrong_s = defaultdict[int, float](float), defaultdict[int, float](float)
    for voices in conversations:
        guesses = guess(voices)
        confused, missed = error_s(guesses, voices)
        speakers = len(np.unique(voices.speakers))
        confused_s, missed_s = confused_s + confused, missed_s + missed
        total_s[speakers] += float(voices.durations_s.sum())
        wrong_s[speakers] += confused + missed
        counted += len(set(guesses) - {None}) == speakers
    whole_s = sum(total_s.values())
    return {
        "error": (confused_s + missed_s) / whole_s,
        "confusion": confused_s / whole_s,
        "missed": missed_s / whole_s,
        "right_number": counted / len(conversations),
        **{f"error_{speakers}": wrong_s[speakers] / total_s[speakers] for speakers in sorted(total_s)},
    }


def bench(data_dir: Path, *, every: int = 3, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measures the tracker on speakers whom it has never heard.

    Args:
        data_dir: folder with `speech/ravdess`, `speech/emodb` and `iemocap`.
        every: only every so manieth clip of a speaker is encoded.
        say: takes lines for the user.

    Raises:
        DataError: no speech is there.
        WeightsError: the voice encoder has not been pulled.
    """
    limit_threads(1)  # clips are short: more threads wait for each other
    space, encoder = voice_space.load(), VoiceEncoder("cpu")
    figures: dict[str, Any] = {"every": every, "sets": {}}
    conversations: dict[str, list[Voices]] = {}
    for name, speaker_of in CORPORA.items():
        folder = data_dir / "speech" / name
        clips = sorted(folder.glob("*.flac"))
        held_out = _held_out(name, sorted({speaker_of(clip.stem) for clip in clips}))
        # Of each speaker by himself: the names are in such an order that every third clip would leave speakers out.
        clips = [clip for who in held_out for clip in [one for one in clips if speaker_of(one.stem) == who][::every]]
        if not clips:
            raise DataError(f"{folder} holds no .flac of the speakers that are kept for measuring")
        say(f"Encoding {len(clips)} clips of {name} ...")
        conversations[name] = invented(acted(clips, speaker_of, encoder))
    conversations["iemocap"] = iemocap(data_dir / "iemocap", "5")
    for name, held in conversations.items():
        figures["sets"][name] = {how: score(held, guess) for how, guess in _ways(space).items()}
    errors = {how: [rows[how]["error"] for rows in figures["sets"].values()] for how in _ways(space)}
    figures["error"] = float(np.mean(errors["streaming"]))
    figures["ratio"] = figures["error"] / float(np.mean(errors["offline, number known"]))
    return figures


def _ways(space: voice_space.VoiceSpace) -> dict[str, Guess]:
    def known(voices: Voices) -> list[int | None]:
        return follow(space, voices, SpeakerSettings(fixed=len(np.unique(voices.speakers))))

    return {
        "streaming": lambda voices: follow(space, voices),
        "streaming, number known": known,
        "offline, number known": lambda voices: cluster(space, voices),
        "offline, number known, plain cosine": lambda voices: cluster(None, voices),
    }


def _held_out(name: str, speakers: Sequence[str]) -> Sequence[str]:
    """The half of a corpus's speakers of whom nothing was learned (`models.perception.fit_voice_space`)."""
    return speakers[12:] if name == "ravdess" else speakers[5:]
