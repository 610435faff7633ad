"""A session's emotions for other programs: subtitles, speaker turns, words and tables, all as text.

    vtt   WebVTT, subtitles for a player; a cue's class is its emotion, for `::cue(v.happy)` in a style sheet
    rttm  NIST's Rich Transcription Time Marked: who spoke when; it has no place for emotions
    ctm   NIST's time-marked words
    csv   a row for each utterance, a column for each probability

`exports_xml` has ELAN and EmotionML, `timeline` the picture.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mer_agent.errors import MediaError
from mer_agent.streams.session import PREDICTIONS, SpokenWord, read_words
from mer_agent.streams.types import NS_PER_S
from mer_agent.wire.schema import EmotionMessage


@dataclass(frozen=True, slots=True)
class Judged:
    """A session's utterances in order of time, each as it was judged last."""

    name: str
    utterances: tuple[EmotionMessage, ...]
    words: Mapping[tuple[int, int], tuple[SpokenWord, ...]]
    """Start and end of an utterance -> its words with their times, where those were recorded."""

    @property
    def started_at(self) -> datetime:
        """Wall-clock time of session time 0."""
        first = self.utterances[0]
        return first.started_at - timedelta(microseconds=first.start_ns / 1000)

    @property
    def labels(self) -> list[str]:
        """All labels, in the model's order."""
        return list(dict.fromkeys(label for message in self.utterances for label in message.distribution))

    @property
    def speakers(self) -> list[str]:
        """Names of those who spoke, in order of appearance."""
        return list(dict.fromkeys(who(message) for message in self.utterances))


def read(path: Path) -> Judged:
    """Gives what is known of a session.

    Args:
        path: a session folder with predictions, or a file of them as `--output` and `--json` write it.

    Raises:
        MediaError: there are none, or a line is malformed.
    """
    file = path / PREDICTIONS if path.is_dir() else path
    if not file.is_file():
        raise MediaError(f"{file}: no such file; `--record DIR` and `--output FILE` write predictions")
    latest: dict[str, EmotionMessage] = {}
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{file}: can't be read as text") from error
    unfinished = lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            message = EmotionMessage.from_json(line)
        except ValueError as error:
            raise MediaError(f"{file}, line {number}: is no prediction of mer-agent") from error
        if message.kind != "partial":
            latest[message.utterance] = message
    if not latest:
        why = "its only line was never finished" if unfinished else "holds no prediction"
        raise MediaError(f"{file}: {why}, so there is nothing to export")
    ordered = sorted(latest.values(), key=lambda message: (message.start_ns, message.end_ns))
    spoken = read_words(path) if path.is_dir() else []
    words = {(turn.start_ns, turn.end_ns): turn.words for turn in spoken if turn.words}
    return Judged(ordered[0].session, tuple(ordered), words)


def who(message: EmotionMessage) -> str:
    """The speaker's name, or what stands for it."""
    return message.speaker_name or message.speaker


def to_vtt(judged: Judged) -> str:
    """Gives WebVTT: a cue for each utterance, with its speaker, words and emotion."""
    cues = ["WEBVTT"]
    for message in judged.utterances:
        label = message.label or "not sure"
        name = _escaped(who(message)).replace("&gt;", "")
        end_ns = max(message.end_ns, message.start_ns + 1_000_000)
        cues.append(
            f"{message.utterance}\n{_clock(message.start_ns)} --> {_clock(end_ns)}\n"
            f"<v.{re.sub(r'[^A-Za-z0-9_-]', '-', label)} {name}>{_escaped(message.text or '')}</v>\n"
            f"[{_escaped(label)} {message.confidence:.0%}]"
        )
    return "\n\n".join(cues) + "\n"


def to_rttm(judged: Judged) -> str:
    """Gives RTTM: a SPEAKER line for each utterance, with how sure it is who spoke."""
    return "".join(
        f"SPEAKER {judged.name} 1 {message.start_ns / NS_PER_S:.3f} "
        f"{(message.end_ns - message.start_ns) / NS_PER_S:.3f} <NA> <NA> {_one(who(message))} "
        f"{message.speaker_confidence:.3f} <NA>\n"
        for message in judged.utterances
    )


def to_ctm(judged: Judged) -> str:
    """Gives CTM: a line for each word. Times that nobody recorded are spread evenly, without a confidence."""
    lines: list[tuple[int, str]] = []
    for message in judged.utterances:
        for word in judged.words.get((message.start_ns, message.end_ns)) or _spread(message):
            # Left out where it isn't known: NIST's scorer takes "NA" for a confidence of 0.
            sure = f" {word.probability:.3f}" if word.probability is not None else ""
            text = "_".join(word.text.split())
            length_s = max(0, word.end_ns - word.start_ns) / NS_PER_S
            lines.append((word.start_ns, f"{judged.name} 1 {word.start_ns / NS_PER_S:.3f} {length_s:.3f} {text}{sure}"))
    return "".join(f"{line}\n" for _, line in sorted(lines, key=lambda line: line[0]))


def to_csv(judged: Judged) -> str:
    """Gives a table with a header: times in seconds, one column for each label's probability.

    `overlap` is 1 where somebody else spoke meanwhile, 0 where nobody did, empty where nobody can tell.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    labels = judged.labels
    writer.writerow(
        [
            "utterance",
            "start_s",
            "end_s",
            "speaker",
            "speaker_name",
            "overlap",
            "text",
            "language",
            "label",
            "confidence",
        ]
        + [f"p_{label}" for label in labels]
        + ["modalities", "model", "delay_ms", "degraded"]
    )
    for message in judged.utterances:
        writer.writerow(
            [message.utterance, f"{message.start_ns / NS_PER_S:.3f}", f"{message.end_ns / NS_PER_S:.3f}"]
            + [message.speaker, message.speaker_name or "", "" if message.overlap is None else int(message.overlap)]
            + [message.text or "", message.language or "", message.label or ""]
            + [f"{message.confidence:.6f}"]
            + [message.distribution.get(label, "") for label in labels]
            + ["+".join(message.modalities_used), message.model]
            + ["" if message.delay_ms is None else message.delay_ms, message.degraded or ""]
        )
    return table.getvalue()


TEXTS: Mapping[str, Callable[[Judged], str]] = {"vtt": to_vtt, "rttm": to_rttm, "ctm": to_ctm, "csv": to_csv}
"""Format -> what writes it."""


@dataclass(frozen=True, slots=True)
class _Spread:
    """A word whose time is only known to lie somewhere in its utterance."""

    text: str
    start_ns: int
    end_ns: int
    probability: None = None


def _spread(message: EmotionMessage) -> Sequence[_Spread]:
    pieces = (message.text or "").split()
    step_ns = (message.end_ns - message.start_ns) // max(1, len(pieces))
    return [
        _Spread(piece, message.start_ns + at * step_ns, message.start_ns + (at + 1) * step_ns)
        for at, piece in enumerate(pieces)
    ]


def _clock(at_ns: int) -> str:
    ms = at_ns // 1_000_000
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def _one(text: str) -> str:
    """A name as one field."""
    return "_".join(text.split()) or "unknown"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
