"""What flows through the agent: small frozen records, from sound and pictures to a prediction.

All times are integer nanoseconds of *capture time*: the session clock at the moment at which the sound or light
reached the device (`streams.clock`), never the moment at which the program got round to it. 0 is the start of the
session. This module imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
"""Every stream of sound inside the agent has this rate and one channel."""

NS_PER_S = 1_000_000_000

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 100
_FRAME_NS = NS_PER_S // 100

Modality = Literal["text", "audio", "visual"]
MODALITIES: tuple[Modality, ...] = ("text", "audio", "visual")

ClosedBy = Literal["pause", "longest", "end"]
"""Why an utterance ended: silence, the longest length allowed, or the end of the stream."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """A short run of mono sound: `samples` float32 [n] in -1..1, captured from `start_ns` on.

    One without samples says that the microphone has gone: what was open ends here.
    """

    samples: NDArray[np.float32]
    start_ns: int
    sequence: int
    rate_hz: int = SAMPLE_RATE_HZ
    discontinuity: bool = False
    """Something was lost between the chunk before and this one."""
    source: str = "audio-0"

    @property
    def end_ns(self) -> int:
        """Capture time just after the last sample."""
        return self.start_ns + len(self.samples) * NS_PER_S // self.rate_hz


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture, cut out and upright (`streams.faces`)."""

    track: int
    """The same number for the same face for as long as it can be followed."""
    crop: NDArray[np.uint8]
    """Grey levels [48, 48], with eyes and mouth where the training faces have them."""
    box: tuple[float, float, float, float]
    """Left, top, width and height, as shares of the picture's."""
    quality: float
    """0 to 1: how well an expression can be read, of size, sharpness and pose."""
    mouth_motion: float | None = None
    """How much more the mouth changed than the rest of the face since the track was last seen; None at first."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture: `image` uint8 [height, width, 3] in RGB, taken at `captured_ns`.

    `faces` is None until somebody has looked for them. From then on the picture itself is no longer needed and may be
    empty, [0, 0, 3].
    """

    image: NDArray[np.uint8]
    captured_ns: int
    sequence: int
    source: str = "video-0"
    faces: tuple[Face, ...] | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word with its times and the recogniser's probability for it (0..1)."""

    text: str
    start_ns: int
    end_ns: int
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a recogniser's own encoder made of the sound, before any word: it knows more than the words."""

    weights: str
    """Of the recogniser, such as "whisper-base": other ones' numbers mean something else."""
    steps: NDArray[np.float32]
    """The mean of its last states in each 80 ms, of the first 8 s at most, float32 [n, width]; a rest is left out."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. `confidence` is the recogniser's mean word probability (0..1)."""

    text: str
    words: tuple[Word, ...] = ()
    final: bool = True
    revision: int = 0
    confidence: float = 1.0
    language: str | None = None
    """Code of the language that the words are written in, None where nobody said."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """Code -> probability that this language was spoken, the likeliest; empty where nobody looked."""
    hearing: Hearing | None = field(default=None, compare=False)
    """None where the recogniser doesn't tell. The same words are the same whatever was heard beside them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech that the segmenter cut out, before anyone knows its words or its speaker.

    `start_ns` and `end_ns` bound the speech itself. `audio` (float32 [n], 16 kHz) begins at `audio_start_ns` and is
    a little longer on both sides (padding), since a recogniser hears better with some room around the words.
    """

    start_ns: int
    end_ns: int
    audio: NDArray[np.float32]
    audio_start_ns: int
    closed_by: ClosedBy
    declared_ns: int
    """Media time at which the end was declared: `end_ns`, the hangover, and how late the detector hears."""
    source: str = "audio-0"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One speaker's turn or part of it: the unit that gets an emotion.

    `speaker` is a small integer in order of appearance, None when unknown. A modality that was not there is None
    or empty here and absent from the features; it is never filled with zeros.
    """

    id: str
    speaker: int | None
    start_ns: int
    end_ns: int
    audio: NDArray[np.float32] | None = None
    """float32 [n] at 16 kHz, padding included."""
    audio_start_ns: int | None = None
    """Capture time of the first sample; None when the sound begins with the speech."""
    frames: tuple[VideoFrame, ...] = ()
    transcript: Transcript | None = None
    closed_by: ClosedBy = "pause"
    speaker_confidence: float = 1.0
    source: str = "audio-0"
    """Whose microphone or sound track it came from."""
    overlap: bool | None = None
    """Whether somebody else spoke meanwhile; None where nobody can tell."""
    hearing: Hearing | None = None
    """What the recogniser made of the sound, once it was asked, even if it found no words."""

    @property
    def text(self) -> str:
        """The words, or an empty string when there are none."""
        return self.transcript.text if self.transcript else ""

    @property
    def speech(self) -> NDArray[np.float32] | None:
        """The sound of the speech itself, float32 [n] at 16 kHz, without the padding around it.

        It begins and ends whole hundredths of a second from where `audio` begins, so that frames of features, which
        are as long, fall on the same sounds as those of `audio` do.
        """
        if self.audio is None or self.audio_start_ns is None:
            return self.audio
        first_ns, last_ns = (max(0, at_ns - self.audio_start_ns) for at_ns in (self.start_ns, self.end_ns))
        first, last = first_ns // _FRAME_NS, -(-last_ns // _FRAME_NS)
        return self.audio[first * _FRAME_SAMPLES : last * _FRAME_SAMPLES]

    @property
    def duration_s(self) -> float:
        """Length of the speech in seconds."""
        return (self.end_ns - self.start_ns) / NS_PER_S


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier utterance as a context-aware text encoder sees it: an anonymous speaker and words."""

    speaker: int | None
    text: str


Features = Mapping[str, Any]
"""Feature id (`text/mpnet@1`) -> float32 tensor [dimension]. A missing key means absent, never zeros."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The emotion of one utterance, with everything a reader needs in order to weigh it."""

    utterance: Utterance
    kind: Literal["partial", "final", "revision"]
    revision: int
    label_set: str
    distribution: Mapping[str, float]
    """Label -> probability; sums to 1. Empty when the utterance could not be judged."""
    label: str | None
    """The likeliest label, None when the model abstained or failed."""
    confidence: float
    modalities_used: tuple[Modality, ...]
    modalities_missing: tuple[Modality, ...]
    context_length: int
    """How many earlier utterances the model saw."""
    model: str
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """Stage -> milliseconds of work; `delay` is speech end -> prediction, where the clock is real."""
    degraded: str | None = None
    """Why this prediction is worth less than usual, or None."""
    valence: float | None = None
    """-1 unpleasant to 1 pleasant, if the model tells."""
    arousal: float | None = None
    """-1 calm to 1 excited, if the model tells."""
    why: Mapping[str, Mapping[str, float]] | None = None
    """`modalities` and `turns` (utterance ids) -> by how much the label's probability falls without each."""
