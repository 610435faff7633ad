"""Plays a sound file to RealtimeSTT at real speed, for `bench latency`; runs in RealtimeSTT's own environment.

It reads and writes what `pipelines` does. `noticed_s` is when RealtimeSTT says that a recording has stopped.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import types
import wave
from collections import deque

CHUNK = 512
"""Samples fed at once: 32 ms."""


def tell(**line: object) -> None:
    """Writes a line."""
    sys.stdout.write("\n" + json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Feeds the file and tells when each transcript is there."""
    given = json.load(sys.stdin)
    # PyAudio opens microphones. None is opened here, and it needs a compiler to install.
    sys.modules["pyaudio"] = types.SimpleNamespace(paInt16=8, PyAudio=None, paInputOverflowed=-9981)  # type: ignore[assignment]
    from RealtimeSTT import AudioToTextRecorder

    with wave.open(sys.argv[1], "rb") as file:
        rate_hz, sound = file.getframerate(), file.readframes(file.getnframes())
    stopped: deque[float] = deque()
    began = 0.0
    recorder = AudioToTextRecorder(
        model=given["words"]["path"],
        compute_type=given["words"]["compute_type"],
        language=given["words"]["language"],
        beam_size=given["transcriber"]["beam_size"],
        device="cpu",
        post_speech_silence_duration=0.5,
        use_microphone=False,
        spinner=False,
        no_log_file=True,
        on_recording_stop=lambda *_: stopped.append(time.monotonic() - began),
    )
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            text = recorder.text()
            delivered_s = time.monotonic() - began
            if stopped and text:
                tell(noticed_s=stopped.popleft(), delivered_s=delivered_s)
            elif stopped:
                stopped.popleft()

    threading.Thread(target=take, daemon=True).start()
    time.sleep(1.0)  # until it listens
    tell(ready=True)
    began = time.monotonic()
    for number, at in enumerate(range(0, len(sound), 2 * CHUNK), 1):
        wait_s = began + number * CHUNK / rate_hz - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        recorder.feed_audio(sound[at : at + 2 * CHUNK], rate_hz)
    tell(end=True)
    over.set()
    recorder.shutdown()


if __name__ == "__main__":
    main()
