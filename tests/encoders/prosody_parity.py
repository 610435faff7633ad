"""How near our prosody is to Praat's, over real speech: `python tests/encoders/prosody_parity.py DATA [EVERY]`.

Reads every EVERYth clip of DATA/speech/ravdess and DATA/speech/emodb, and all of DATA/media/meld_*.mp4. Prints for each
descriptor the correlation, the mean absolute difference and on how many clips both are defined. Articulation rate is
that of the script of de Jong and Wempe 2009, in Praat. The deviation of loudness is over Praat's frames without those
of digital silence (-300 dB), which ours leaves out on purpose.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import parselmouth
from parselmouth.praat import call

from mer_agent.encoders.prosody import DESCRIPTORS, describe
from mer_agent.streams.sound import audio_chunks


def praat(samples: np.ndarray) -> np.ndarray:
    """Gives the eight descriptors as Praat computes them."""
    sound = parselmouth.Sound(samples.astype(float), 16_000)
    intensity, pitch = sound.to_intensity(), sound.to_pitch()
    voiced = pitch.selected_array["frequency"][pitch.selected_array["frequency"] > 0]
    clearness = sound.to_harmonicity().values
    clear = clearness[clearness > -200]
    return np.array(
        [
            sound.duration,
            call(intensity, "Get mean", 0, 0, "energy"),
            intensity.values[intensity.values > -299].std(ddof=1),
            voiced.mean() if len(voiced) else np.nan,
            voiced.std(ddof=1) if len(voiced) > 1 else np.nan,
            np.ptp(voiced) if len(voiced) else np.nan,
            rate_hz(sound),
            clear.mean() if len(clear) else np.nan,
        ]
    )


def rate_hz(sound: parselmouth.Sound) -> float:
    """Gives syllable nuclei in a second of speech: peaks of loudness, a dip of 2 dB after each, voiced."""
    intensity = sound.to_intensity(50)
    lowest, highest = (call(intensity, f"Get {which}", 0, 0, "Parabolic") for which in ("minimum", "maximum"))
    loud = call(intensity, "Get quantile", 0, 0, 0.99)
    threshold = max(loud - 25, lowest)
    grid = call(intensity, "To TextGrid (silences)", -25 - (highest - loud), 0.3, 0.1, "silent", "sounding")
    curve = call(call(intensity, "Down to Matrix"), "To Sound (slice)", 1)
    points = call(curve, "To PointProcess (extrema)", "Left", "yes", "no", "Sinc70")
    times = [call(points, "Get time from index", i + 1) for i in range(call(points, "Get number of points"))]
    peaks = [(t, v) for t in times if (v := call(curve, "Get value at time", t, "Cubic")) > threshold]
    pitch = sound.to_pitch_ac(0.02, 30, 4, False, 0.03, 0.25, 0.01, 0.35, 0.25, 450)
    spoken = [
        (call(grid, "Get start time of interval", 1, i), call(grid, "Get end time of interval", 1, i))
        for i in range(1, call(grid, "Get number of intervals", 1) + 1)
        if call(grid, "Get label of interval", 1, i) == "sounding"
    ]
    syllables = 0
    for (t, level), (following, _) in itertools.pairwise(peaks):
        dip = call(intensity, "Get minimum", t, following, "None")
        if abs(level - dip) > 2 and any(a <= t <= b for a, b in spoken) and np.isfinite(pitch.get_value_at_time(t)):
            syllables += 1
    seconds = sum(b - a for a, b in spoken)
    return syllables / seconds if syllables and seconds else np.nan


def main(data: Path, every: int) -> None:
    for name, files in (
        ("ravdess", sorted((data / "speech/ravdess").glob("*.flac"))[::every]),
        ("emodb", sorted((data / "speech/emodb").glob("*.flac"))[::every]),
        ("meld", sorted((data / "media").glob("meld_*.mp4"))),
    ):
        ours, theirs = [], []
        for file in files:
            samples = np.concatenate([chunk.samples for chunk in audio_chunks(file)])
            found = describe(samples)
            if found is not None:
                ours.append(found)
                theirs.append(praat(samples))
        for k, descriptor in enumerate(DESCRIPTORS):
            a, b = np.array(ours)[:, k], np.array(theirs)[:, k]
            both = np.isfinite(a) & np.isfinite(b)
            near = np.corrcoef(a[both], b[both])[0, 1]
            print(f"{name:<8} {descriptor:<24} r {near:.4f}  |d| {np.abs(a - b)[both].mean():.4f}  n {both.sum()}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
