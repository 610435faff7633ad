"""What a session's recording needs of the agent: what is known at its start, and each prediction with its words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from mer_agent import __version__
from mer_agent.config.settings import AUTO, Settings
from mer_agent.health import RECORDER
from mer_agent.inputs import Input
from mer_agent.loading import Models
from mer_agent.streams.clock import SessionClock
from mer_agent.streams.recorder import Recorder, State
from mer_agent.streams.session import Manifest, Spoken, SpokenWord
from mer_agent.streams.supervise import on_daemon_thread
from mer_agent.streams.types import Prediction
from mer_agent.wire.schema import EmotionMessage

log = logging.getLogger(__name__)

_CLOSE_S = 3.0


async def begin(
    folder: Path,
    settings: Settings,
    heard: Input,
    models: Models,
    clock: SessionClock,
    report: Callable[[str, str], None],
    stack: contextlib.AsyncExitStack,
) -> Recorder:
    """Begins a recording that ends with the stack, and says so aloud: nobody is recorded by mistake.

    Raises:
        InputError: the folder isn't empty or can't be written, or its disk has no room.
    """
    loop = asyncio.get_running_loop()

    def tell(state: State) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(report, RECORDER, state)

    manifest = Manifest(
        started_at=clock.started_at,
        language=None if (language := settings.transcriber.language) == AUTO else language,
        speakers=heard.speakers,
        versions={
            "mer-agent": __version__,
            "model": models.card.name,
            "words": f"{settings.transcriber.engine} {settings.transcriber.weights}",
        },
    )
    recorder = Recorder(folder, manifest, tell)
    stack.push_async_callback(on_daemon_thread, recorder.close, _CLOSE_S)
    log.warning("RECORDING sound, pictures and words into %s", folder)
    return recorder


def note(recorder: Recorder, prediction: Prediction, message: EmotionMessage) -> None:
    """Puts a prediction and its words on record; guesses on the way to it are left out."""
    if message.kind == "partial":
        return
    recorder.judged(message.to_json())
    utterance = prediction.utterance
    if utterance.text and utterance.transcript:
        words = tuple(
            SpokenWord(
                text=word.text,
                start_ns=max(0, word.start_ns),
                end_ns=max(0, word.start_ns, word.end_ns),
                probability=min(1.0, max(0.0, word.probability)),
            )
            for word in utterance.transcript.words
        )
        recorder.spoken(
            utterance.id,
            Spoken(
                speaker=message.speaker_name or message.speaker,
                text=utterance.text,
                start_ns=max(0, utterance.start_ns),
                end_ns=max(0, utterance.end_ns),
                words=words,
            ),
        )
