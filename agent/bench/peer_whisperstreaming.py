"""Plays a sound file to whisper_streaming at real speed, for `bench latency`; runs in an environment of its own.

It reads and writes what `pipelines` does. Words are delivered when they are committed, which is when two looks in
a row agree on them; `end_s` is where the last of them ends, by Whisper's own times.
"""

from __future__ import annotations

import json
import sys
import time
import wave
from queue import Empty
from typing import Any

import numpy as np
from numpy.typing import NDArray
from whisper_streaming import ASRProcessor, AudioReceiver, Backend, OutputSender, TimeTrimming
from whisper_streaming.backend import (
    FasterWhisperFeatureExtractorConfig,
    FasterWhisperModelConfig,
    FasterWhisperTranscribeConfig,
)

LEAST_S = 1.0
"""Sound between two looks at least: what its authors recommend."""
KEPT_S = 15.0
"""Sound that is looked at."""


def tell(**line: object) -> None:
    """Writes a line."""
    sys.stdout.write("\n" + json.dumps(line) + "\n")
    sys.stdout.flush()


class Sound(AudioReceiver):  # type: ignore[misc]  # it has no types here
    """Gives all that was said since the last look; it is the queue that the program asks."""

    def __init__(self, samples: NDArray[np.float32], rate_hz: int) -> None:
        super().__init__()
        self.queue = self
        self._samples, self._rate_hz = samples, rate_hz
        self._given = 0
        self.began_s = 0.0

    def get(self, timeout: float) -> NDArray[np.float32]:
        """Waits for a second of sound at least; raises Empty at the end."""
        if self._given == len(self._samples):
            raise Empty
        due_s = self.began_s + self._given / self._rate_hz + LEAST_S
        time.sleep(max(0.0, due_s - time.monotonic()))
        spoken = min(len(self._samples), round((time.monotonic() - self.began_s) * self._rate_hz))
        part, self._given = self._samples[self._given : spoken], spoken
        return part

    def _do_receive(self) -> None:
        """Nothing more: `get` gives it."""

    def _do_close(self) -> None:
        """Nothing is open."""


class Words(OutputSender):  # type: ignore[misc]
    """Tells when words are committed; it is the queue that the program fills."""

    def __init__(self, sound: Sound) -> None:
        super().__init__()
        self.queue = self
        self._sound = sound

    def put_nowait(self, words: Any) -> None:
        """Takes words that are committed."""
        tell(end_s=words.end, delivered_s=time.monotonic() - self._sound.began_s)

    def get_nowait(self) -> None:
        """Has nothing to give: raises Empty."""
        raise Empty

    def _do_output(self, data: Any) -> None:
        """`put_nowait` has told it."""

    def _do_close(self) -> None:
        """Nothing is open."""


def main() -> None:
    """Feeds the file and tells when words are committed."""
    given = json.load(sys.stdin)
    with wave.open(sys.argv[1], "rb") as file:
        rate_hz, pcm = file.getframerate(), file.readframes(file.getnframes())
    sound = Sound((np.frombuffer(pcm, "<i2") / 32768).astype(np.float32), rate_hz)
    processor = ASRProcessor(
        ASRProcessor.ProcessorConfig(
            sampling_rate=rate_hz,
            prompt_size=200,
            audio_receiver_timeout=LEAST_S,
            audio_trimming=TimeTrimming(KEPT_S),  # the other way, by sentences, raises an error in this version
            language=given["words"]["language"],
        ),
        sound,
        Words(sound),
        Backend.FASTER_WHISPER,
        FasterWhisperModelConfig(
            given["words"]["path"],
            device="cpu",
            compute_type=given["words"]["compute_type"],
            cpu_threads=given["transcriber"]["threads"],
        ),
        FasterWhisperTranscribeConfig(beam_size=given["transcriber"]["beam_size"]),
        FasterWhisperFeatureExtractorConfig(),
    )
    processor.backend.transcribe(np.zeros(rate_hz, np.float32), "")
    tell(ready=True)
    sound.began_s = time.monotonic()
    processor.run()
    tell(end=True)


if __name__ == "__main__":
    main()
