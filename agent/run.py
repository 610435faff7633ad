"""One session from start to end: broker, models, source, agent, and an orderly way out.

Ready means: weights loaded, a dummy utterance inferred end to end, broker connected. Only then the source is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mer_agent.agent import Agent
from mer_agent.aligner import Aligner
from mer_agent.broker import EmbeddedBroker, subscribe_command
from mer_agent.config.settings import Settings
from mer_agent.inference import ThreadInference
from mer_agent.loading import load
from mer_agent.mqtt import Endpoint
from mer_agent.publisher import Publisher
from mer_agent.schema import EmotionMessage, Topics, to_message
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.clock import RealClock, SessionClock, VirtualClock
from mer_agent.streams.replay import ReplaySource, open_media
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import NS_PER_S, Prediction
from mer_agent.terminal import INTERRUPTED

STOP_S = 3.0
"""After the first Ctrl-C, how long the utterances already heard may take to be judged and published."""


@dataclass(slots=True)
class Summary:
    """What a session was, for whoever wants to know how fast it went."""

    utterances: int = 0
    media_s: float = 0.0
    ready_s: float = 0.0
    """From the start of `replay` to ready."""
    work_s: float = 0.0
    """From ready to the last prediction."""
    stages_ms: Counter[str] = field(default_factory=Counter)
    """Stage -> milliseconds in all."""
    stopped: bool = False


async def replay(
    settings: Settings,
    path: Path,
    *,
    real_time: bool,
    sinks: Sequence[Callable[[EmotionMessage], None]] = (),
    say: Callable[[str], None] = lambda text: None,
    ready: Callable[[], None] = lambda: None,
) -> Summary:
    """Plays a recording through the agent and publishes the emotions in it.

    Args:
        settings: all of them.
        path: a media file or a session folder.
        real_time: at the speed at which it was recorded; otherwise as fast as the machine can.
        sinks: each takes every prediction, words included, in this process.
        say: takes lines for the user: how to listen, how far it is.
        ready: called when everything is loaded and warm, before anything plays.

    Raises:
        MediaError, WeightsError, CheckpointError, ConfigError, MissingExtraError: see there; before anything plays.
        BrokerError: the broker can't be reached.
    """
    begun = time.monotonic()
    recording = open_media(path)
    session = settings.agent.session or _session_name(path)
    topics = Topics(settings.agent.name, session, settings.mqtt.prefix)
    summary = Summary(media_s=(recording.duration_ns or 0) / NS_PER_S)
    inference = ThreadInference()
    async with contextlib.AsyncExitStack() as stack:
        interruption = stack.enter_context(_Interruption())
        stack.callback(inference.close)
        endpoint = await _endpoint(settings, stack)
        say(f"Listen with: {subscribe_command(endpoint.host, endpoint.port, [topics.emotion()])}")
        publisher = Publisher(
            endpoint,
            topics,
            publish_text=settings.mqtt.publish_text,
            outbox_age_s=settings.mqtt.outbox_age_s,
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(publisher.run(), name="publisher")
        await publisher.wait_connected()
        say("Loading models ...")
        models = await load(settings, inference)
        stack.callback(models.words.close)
        summary.ready_s = time.monotonic() - begun
        say(f"Ready after {summary.ready_s:.1f} s; playing {path.name}")
        ready()
        publisher.set_status("ready", {track.source: "replay" for track in recording.audio})

        clock: SessionClock = RealClock() if real_time else VirtualClock(started_at=recording.started_at)

        async def publish(prediction: Prediction) -> None:
            delay_ms = (clock.now_ns() - prediction.utterance.end_ns) / 1e6 if real_time else None
            message = to_message(
                prediction,
                agent=settings.agent.name,
                session=session,
                seq=summary.utterances,
                session_started=clock.started_at,
                delay_ms=delay_ms,
            )
            summary.utterances += 1
            summary.stages_ms.update(message.timings_ms)
            for sink in sinks:
                sink(message)
            await publisher.publish_wait(message)

        agent = Agent(
            ReplaySource(path, clock=clock, speed=1.0 if real_time else math.inf),
            SpeechCutter(models.vad.stream, settings.segmenter),
            Aligner(),
            models.words,
            models.conversation(SpeakerTracker(settings.speakers)),
            inference,
            publish,
        )
        interruption.drain = agent.stop
        await agent.run()
        if interruption.happened:
            summary.stopped = True
            summary.media_s = min(summary.media_s, clock.now_ns() / NS_PER_S)
        summary.work_s = time.monotonic() - begun - summary.ready_s
        await publisher.drain()
    return summary


def _session_name(path: Path) -> str:
    """The same for every replay of a recording, and anonymous: file names tell who was recorded."""
    return f"replay-{hashlib.sha256(path.resolve().name.encode(errors='surrogateescape')).hexdigest()[:8]}"


async def _endpoint(settings: Settings, stack: contextlib.AsyncExitStack) -> Endpoint:
    """The broker of the settings, or an embedded one that runs as long as the session."""
    if settings.mqtt.url:
        return Endpoint.from_settings(settings.mqtt)
    broker = await stack.enter_async_context(EmbeddedBroker(settings.mqtt.port or None))
    return Endpoint.parse(broker.url)


class _Interruption:
    """What Ctrl-C and SIGTERM do while the block runs: the first one stops in good order, a second one exits at once.

    Before there is anything to drain (`drain` is None), stopping means cancelling. Draining that takes longer than
    `STOP_S` is cancelled, too.
    """

    def __init__(self) -> None:
        self.drain: Callable[[], None] | None = None
        self.happened = False
        self._handled: list[signal.Signals] = []

    def __enter__(self) -> Self:
        self._loop, self._session = asyncio.get_running_loop(), asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Windows has no such handlers: there Ctrl-C raises KeyboardInterrupt as usual. Nor have other threads.
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                self._loop.add_signal_handler(number, self._handle)
                self._handled.append(number)
        return self

    def __exit__(self, *error: object) -> None:
        for number in self._handled:
            self._loop.remove_signal_handler(number)

    def _handle(self) -> None:
        assert self._session is not None  # noqa: S101  # a context manager of a coroutine
        if self.happened:
            os._exit(INTERRUPTED)  # no more waiting, not even for threads
        self.happened = True
        if self.drain is None:
            self._session.cancel()
        else:
            self._loop.call_later(STOP_S, self._session.cancel)
            self.drain()
