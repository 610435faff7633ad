"""How it was said, in eight numbers a person can read: length, loudness, pitch, speed and clearness of the voice.

    duration_s              of the speech
    intensity_db_mean       10 log10 of the mean power, dB re 2e-5 of full scale: depends on the microphone's gain
    intensity_db_deviation  standard deviation of the decibels over time; digital silence has none
    pitch_hz_mean           over the voiced frames
    pitch_hz_deviation
    pitch_hz_range          highest less lowest
    articulation_rate_hz    syllables in a second of speech, pauses left out
    hnr_db_mean             mean harmonics-to-noise ratio of the frames that have one

One that is undefined is NaN: the pitch's three where nothing is voiced, the rate where no syllable is found, the
loudness of less than 64 ms, the ratio of near silence. A model replaces NaN by what it learned for it.

They stand for the columns duration, avg_intensity, intensity_variation, avg_pitch, pitch_std, pitch_range,
articulation_rate and mean_hnr of the tables that are in use for IEMOCAP and MELD, and are computed as those were: by
the methods and standard settings of Praat, here in numpy (`pitch`, `loudness`, `harmonicity`, `syllables`), from 16
kHz mono. In those tables pitch_std and pitch_range are 0 where avg_pitch is empty: read all three as undefined there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mer_agent.encoders.framing import Reals
from mer_agent.encoders.harmonicity import harmonics_to_noise_db
from mer_agent.encoders.loudness import SILENCE_DB, loudness
from mer_agent.encoders.pitch import pitch_track
from mer_agent.encoders.syllables import articulation_rate_hz
from mer_agent.streams.types import SAMPLE_RATE_HZ, Modality, Turn, Utterance

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTORS = (
    "duration_s",
    "intensity_db_mean",
    "intensity_db_deviation",
    "pitch_hz_mean",
    "pitch_hz_deviation",
    "pitch_hz_range",
    "articulation_rate_hz",
    "hnr_db_mean",
)
"""Dimensions of `audio/prosody@1`, in order; NaN where one is undefined (no voiced frame, no syllable)."""


class ProsodyEncoder:
    """Gives the eight `DESCRIPTORS` of each utterance; None where there is no sound. Runs on the CPU, in numpy."""

    feature = "audio/prosody@1"
    modality: Modality = "audio"
    dimension = len(DESCRIPTORS)
    names = DESCRIPTORS
    """What each dimension is: a checkpoint refuses columns in another order."""

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives float32 [8] for each utterance, None where its sound is absent or digital silence.

        `past_turns` is not read: this recipe hears the utterance alone.
        """
        import torch

        # Without the padding: how quiet it was before and after says nothing about the speech.
        sounds = [utterance.speech for utterance in utterances]
        found = [None if sound is None else describe(sound) for sound in sounds]
        return [torch.from_numpy(values.astype(np.float32)) if values is not None else None for values in found]


def describe(samples: NDArray[np.float32]) -> Reals | None:
    """Gives the `DESCRIPTORS` of `samples` (float [n], 16 kHz), float64 [8]; None for digital silence.

    NaN and infinite samples count as silence.
    """
    sound = np.nan_to_num(np.asarray(samples, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if not sound.any():
        return None
    level_db = loudness(sound).intensity_db
    pitch_hz = pitch_track(sound).voiced_hz
    clearness_db = harmonics_to_noise_db(sound)
    return np.array(
        [
            len(sound) / SAMPLE_RATE_HZ,
            10 * np.log10(np.mean(10 ** (level_db / 10))) if len(level_db) else np.nan,
            _deviation(level_db[level_db > SILENCE_DB]),
            np.mean(pitch_hz) if len(pitch_hz) else np.nan,
            _deviation(pitch_hz),
            np.ptp(pitch_hz) if len(pitch_hz) else np.nan,
            articulation_rate_hz(sound),
            np.mean(clearness_db) if len(clearness_db) else np.nan,
        ]
    )


def _deviation(values: Reals) -> float:
    """Gives the standard deviation with n - 1 in the denominator, as Praat does; 0 for one value, NaN for none."""
    if len(values) == 0:
        return float("nan")
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
