"""Emotions as a stream of the Lab Streaming Layer, in step with EEG, eye trackers and what else a laboratory records.

    pip install mer-agent pylsl
    python examples/lsl_bridge.py mqtt://127.0.0.1:1883 speaker-0

The stream `mer-agent speaker-0` has a channel for each label, with its probability, at an irregular rate: a sample for
each utterance, stamped with the moment at which the speech ended, by the clock of this machine. Revisions are samples,
too, with the stamp of what they revise.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

import pylsl

from mer_agent.client import EmotionMessage, EmotionStream


class Outlet:
    """One speaker's outlet, opened at the first emotion, when the labels are known."""

    def __init__(self) -> None:
        self._outlet: pylsl.StreamOutlet | None = None
        self._labels: tuple[str, ...] = ()

    def push(self, emotion: EmotionMessage) -> None:
        """Sends an emotion; one that could not be judged is a sample of NaN."""
        if self._outlet is None:
            if not emotion.distribution:
                return
            self._open(emotion)
        nan = float("nan")
        sample = [emotion.distribution.get(label, 0.0 if emotion.distribution else nan) for label in self._labels]
        assert self._outlet is not None  # noqa: S101  # see _open
        since_s = (datetime.now(UTC) - emotion.ended_at).total_seconds()
        self._outlet.push_sample(sample, pylsl.local_clock() - since_s)

    def _open(self, emotion: EmotionMessage) -> None:
        self._labels = tuple(sorted(emotion.distribution))
        info = pylsl.StreamInfo(
            f"mer-agent {emotion.speaker}",
            "Emotion",
            len(self._labels),
            pylsl.IRREGULAR_RATE,
            pylsl.cf_float32,
            f"{emotion.agent}/{emotion.session}/{emotion.speaker}",
        )
        channels = info.desc().append_child("channels")
        for label in self._labels:
            channels.append_child("channel").append_child_value("label", label).append_child_value(
                "unit", "probability"
            )
        self._outlet = pylsl.StreamOutlet(info)


async def bridge(stream: EmotionStream) -> None:
    """Sends every emotion on, each speaker by an outlet of its own, for ever."""
    outlets: dict[tuple[str, str, str], Outlet] = {}
    async for emotion in stream:
        outlets.setdefault((emotion.agent, emotion.session, emotion.speaker), Outlet()).push(emotion)


if __name__ == "__main__":
    url, speaker = (*sys.argv[1:3], "+")[:2] if len(sys.argv) > 1 else ("mqtt://127.0.0.1:1883", "+")
    asyncio.run(bridge(EmotionStream(url, speaker=speaker)))
