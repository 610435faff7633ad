"""One session from start to end: broker, models, source, agent, and an orderly way out.

Ready means: weights loaded, a dummy utterance inferred end to end, broker connected. Only then the source is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from mer_agent import recording
from mer_agent.agent import Agent
from mer_agent.aligner import Aligner, FrameRing
from mer_agent.config.settings import Settings
from mer_agent.conversation import SPEAKER_FEATURE, Conversation
from mer_agent.health import Health
from mer_agent.inference import Inference, ThreadInference
from mer_agent.inputs import Input, ReplayInput
from mer_agent.loading import Models, load
from mer_agent.own_speech import OwnSpeech
from mer_agent.perception import Perception
from mer_agent.provisional import Provisional
from mer_agent.roster import Roster
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams import recorder as recordings
from mer_agent.streams import voice_prints
from mer_agent.streams.faces import FaceWatcher
from mer_agent.streams.given_words import GivenWords
from mer_agent.streams.live import LiveSource
from mer_agent.streams.partial_words import PartialWords
from mer_agent.streams.recorder import Recorder
from mer_agent.streams.silence import Silence
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import NS_PER_S, AudioChunk, Prediction, VideoFrame
from mer_agent.terminal import INTERRUPTED
from mer_agent.turn_end import plainly_over
from mer_agent.view import View
from mer_agent.wire.broker import EmbeddedBroker, subscribe_command
from mer_agent.wire.control import Control
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import EmotionMessage, Topics, to_message

STOP_S = 2.0
"""After the first Ctrl-C, how long the utterances already heard may take to be judged."""
GOODBYE_S = 0.8
"""And how long the broker may then take for what waits and a goodbye."""
UNHURRIED_S = 5.0
"""The same when the input came to its end by itself."""


@dataclass(slots=True)
class Summary:
    """What a session was, for whoever wants to know how fast it went."""

    utterances: int = 0
    media_s: float = 0.0
    ready_s: float = 0.0
    """From the start of `run` to ready."""
    work_s: float = 0.0
    """From ready to the last prediction."""
    stages_ms: Counter[str] = field(default_factory=Counter)
    """Stage -> milliseconds in all."""
    stopped: bool = False

    def count(self, message: EmotionMessage) -> None:
        """Takes a prediction into account; what was only a guess on the way doesn't count."""
        if message.kind == "final":
            self.utterances += 1
            self.stages_ms.update(message.timings_ms)


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
        sinks: see `run`, as for the rest.
        say: see `run`.
        ready: see `run`.

    Raises:
        MediaError: it can't be played. For all else see `run`.
    """
    return await run(settings, ReplayInput(path, settings, real_time), sinks=sinks, say=say, ready=ready)


async def run(
    settings: Settings,
    heard: Input,
    *,
    sinks: Sequence[Callable[[EmotionMessage], None]] = (),
    say: Callable[[str], None] = lambda text: None,
    ready: Callable[[], None] = lambda: None,
    record: Path | None = None,
    view: View | None = None,
) -> Summary:
    """Runs one session, live or replayed, until its input ends or somebody stops it.

    Args:
        settings: all of them.
        heard: where sound and pictures come from.
        sinks: each takes every prediction, words included, in this process.
        say: takes lines for the user: how to listen, how far it is.
        ready: called when everything is loaded and warm, before anything is heard.
        record: folder into which all that is heard, seen and said is written; None: nothing is.
        view: shows how the devices are, and what they hear while it happens.

    Raises:
        InputError: nothing can be recorded there.
        WeightsError, CheckpointError, ConfigError, MissingExtraError: see there; before anything is heard.
        BrokerError: the broker can't be reached.
        DeviceError: no device could be opened.
    """
    begun = time.monotonic()
    if record is not None:
        recordings.prepare(record)
    session = settings.agent.session or heard.session
    topics = Topics(settings.agent.name, session, settings.mqtt.prefix)
    summary = Summary(media_s=heard.media_s)
    inference = ThreadInference()
    async with contextlib.AsyncExitStack() as stack:
        interruption = stack.enter_context(_Interruption())
        stack.callback(inference.close)
        endpoint = await _endpoint(settings, stack)
        say(f"Listen with: {subscribe_command(endpoint.host, endpoint.port, [topics.emotion()])}")
        control: Control | None = None  # nobody is heard before everything is ready
        publisher = Publisher(
            endpoint,
            topics,
            publish_text=settings.mqtt.publish_text,
            outbox_age_s=settings.mqtt.outbox_age_s,
            envelope=settings.mqtt.envelope,
            receive=lambda delivery: control.receive(delivery) if control else None,
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(publisher.run(), name="publisher")
        await publisher.wait_connected()
        say("Loading models ...")
        models = await load(settings, inference)
        stack.callback(models.close)
        summary.ready_s = time.monotonic() - begun
        say(f"Ready after {summary.ready_s:.1f} s; {heard.title}")
        ready()

        clock = heard.clock()
        sequence = itertools.count()
        roster = Roster(enumerate(heard.speakers.values()))
        own_speech = OwnSpeech(settings.turns.tail_ms)
        tracker = _tracker(settings)

        async def publish(prediction: Prediction) -> None:
            if prediction.kind == "partial" and own_speech.overlaps(prediction.utterance):
                return  # whose voice it is only its words will tell
            speaker = roster.id(prediction.utterance.speaker)
            message = to_message(
                prediction,
                agent=settings.agent.name,
                session=session,
                seq=next(sequence),
                session_started=clock.started_at,
                delay_ms=(clock.now_ns() - prediction.utterance.end_ns) / 1e6 if heard.real_time else None,
                speaker=speaker,
                speaker_name=roster.name(speaker) or tracker.name(prediction.utterance.speaker),
            )
            summary.count(message)
            if message.kind != "partial" and roster.note(message) and control:
                control.announce("speakers")
            for sink in sinks:
                sink(message)
            if recorder is not None:
                recording.note(recorder, prediction, message)
            if heard.live or message.kind == "partial":
                publisher.publish(message)
            else:
                await publisher.publish_wait(message)

        health = Health(publisher.set_status, view.device if view else None)
        source = heard.source(clock, health.report)
        recorder = None
        if record is not None:
            recorder = await recording.begin(record, settings, heard, models, clock, health.report, stack)
        seats = {source_id: number for number, source_id in enumerate(heard.speakers)}
        conversation = models.conversation(tracker, seats)
        if heard.live and settings.camera.device and not conversation.sees and recorder is None:
            say(f"{models.card.name} reads no pictures: the camera is kept open, and nobody looks")
        agent = Agent(
            source,
            SpeechCutter(models.vad.stream, settings.segmenter),
            Aligner(FrameRing(settings.camera.rate_hz)),
            _perception(settings, heard, models, conversation, inference),
            conversation,
            inference,
            publish,
            look=_look(models.watcher(), recorder, stack),
            provisional=_provisional(settings, heard, models, conversation, inference, publish),
            over=plainly_over if settings.segmenter.least_hangover_ms else None,
            own_speech=own_speech,
            echo=settings.turns.echo,
            tap=_tap(recorder, view if heard.real_time else None, looks=conversation.sees),
        )
        interruption.drain = stop = source.stop if isinstance(source, LiveSource | Silence) else agent.stop
        control = Control(
            topics, clock, agent, conversation, inference, roster, own_speech, publish, publisher, stop,
            given=models.words if isinstance(models.words, GivenWords) else None,
        )  # fmt: skip
        heard_by = settings.transcriber
        words = heard_by.weights if heard_by.engine == "faster-whisper" else heard_by.engine
        publisher.set_capabilities(models.capabilities(topics.agent, words, publishes_text=settings.mqtt.publish_text))
        control.announce("started")
        obeying = tasks.create_task(control.run(), name="control")
        await agent.run()
        obeying.cancel()
        control.announce("ended")
        if interruption.happened or heard.live:
            heard_s = clock.now_ns() / NS_PER_S
            summary.media_s = heard_s if heard.live else min(summary.media_s, heard_s)
        summary.stopped = interruption.happened
        summary.work_s = time.monotonic() - begun - summary.ready_s
        await publisher.drain(GOODBYE_S if summary.stopped else UNHURRIED_S)
    return summary


def _tap(
    recorder: Recorder | None, view: View | None, *, looks: bool
) -> Callable[[AudioChunk | VideoFrame], AudioChunk | VideoFrame] | None:
    """What wants to know of each chunk and picture, if anybody does; a picture that is looked at is recorded then."""
    if recorder is None and view is None:
        return None

    def tap(captured: AudioChunk | VideoFrame) -> AudioChunk | VideoFrame:
        if view is not None:
            view.captured(captured)
        if recorder is None or (looks and isinstance(captured, VideoFrame)):
            return captured
        return recorder.take(captured)

    return tap


def _tracker(settings: Settings) -> SpeakerTracker:
    """What tells voices apart, and knows those that are enrolled."""
    prints = voice_prints.load(settings.speakers.voices or voice_prints.default_file())
    enrolled = [(one.name, one.embedding, one.speech_s) for one in prints if one.feature == SPEAKER_FEATURE]
    return SpeakerTracker(settings.speakers, enrolled=enrolled)


def _perception(
    settings: Settings, heard: Input, models: Models, conversation: Conversation, inference: Inference
) -> Perception:
    """What finds the words; in advance where time counts, or where the end of an utterance depends on them."""
    ahead: Literal["never", "idle", "always"] = "idle" if heard.real_time and settings.transcriber.ahead else "never"
    return Perception(
        models.words,
        conversation,
        inference,
        ahead="always" if settings.segmenter.least_hangover_ms else ahead,
        # A recording waits, so that it gives the same at any speed.
        patience_s=settings.transcriber.patience_s if heard.live else None,
    )


def _provisional(
    settings: Settings,
    heard: Input,
    models: Models,
    conversation: Conversation,
    inference: Inference,
    publish: Callable[[Prediction], Awaitable[None]],
) -> Provisional | None:
    """What guesses while somebody speaks, if that is wanted."""
    rules = settings.partial
    if rules.when == "never" or (rules.when == "live" and not heard.real_time):
        return None
    words = None
    if rules.words_ms and not isinstance(models.partial_words, GivenWords):  # those come when they come
        words = PartialWords(models.partial_words, every_ms=rules.words_ms, load=rules.load)
    return Provisional(conversation, inference, publish, threshold=rules.threshold, words=words)


def _look(
    watcher: FaceWatcher | None, recorder: Recorder | None, stack: contextlib.AsyncExitStack
) -> Callable[[VideoFrame], Awaitable[VideoFrame]] | None:
    """What finds faces in a thread of its own: a picture must not wait for an utterance that is being judged.

    While a recording goes on, it looks at pictures as the recording keeps them.
    """
    if watcher is None:
        return None
    see = watcher.see if recorder is None else lambda frame: watcher.see(recorder.see(frame))
    eyes = ThreadInference("faces")
    stack.callback(eyes.close)

    async def look(frame: VideoFrame) -> VideoFrame:
        return await eyes.run(see, frame)

    return look


async def _endpoint(settings: Settings, stack: contextlib.AsyncExitStack) -> Endpoint:
    """The broker of the settings, or an embedded one that runs as long as the session."""
    if settings.mqtt.url:
        return Endpoint.from_settings(settings.mqtt)
    broker = await stack.enter_async_context(EmbeddedBroker(settings.mqtt.port or None))
    return Endpoint.parse(broker.url, version="3.1.1")


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
