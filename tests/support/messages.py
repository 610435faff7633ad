"""Predictions and messages that say something without anybody having spoken."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mer_agent.streams.types import NS_PER_S, Prediction, Transcript, Utterance
from mer_agent.wire.schema import EmotionMessage, to_message

SESSION_STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def prediction(number: int = 0, *, speaker: int | None = 0, text: str = "what a day", **changes: Any) -> Prediction:
    """The prediction for a two-second utterance that begins 3 s after the one before."""
    utterance = Utterance(
        id=f"u{number:06d}",
        speaker=speaker,
        start_ns=3 * number * NS_PER_S,
        end_ns=(3 * number + 2) * NS_PER_S,
        transcript=Transcript(text, language="en") if text else None,
        speaker_confidence=0.9,
    )
    values: dict[str, Any] = {
        "utterance": utterance,
        "kind": "final",
        "revision": 0,
        "label_set": "iemocap6",
        "distribution": {"happy": 0.7, "neutral": 0.2, "sad": 0.1},
        "label": "happy",
        "confidence": 0.7,
        "modalities_used": ("text", "audio"),
        "modalities_missing": ("visual",),
        "context_length": number,
        "model": "iemocap6",
        "timings_ms": {"words": 310.25, "fusion": 1.5, "delay": 640.0},
    }
    return Prediction(**values | changes)


def message(number: int = 0, **changes: Any) -> EmotionMessage:
    """The message for `prediction(number)`."""
    return to_message(
        prediction(number, **changes), agent="desk", session="s1", seq=number, session_started=SESSION_STARTED
    )
