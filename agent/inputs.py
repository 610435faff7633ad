"""Where a session's sound and pictures come from: the only thing in which live sessions and replays differ."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from mer_agent.agent import Source
from mer_agent.config.settings import Settings
from mer_agent.errors import InputError
from mer_agent.streams.camera import Camera
from mer_agent.streams.clock import RealClock, SessionClock, VirtualClock
from mer_agent.streams.live import LiveSource
from mer_agent.streams.microphone import Microphone
from mer_agent.streams.replay import Recording, ReplaySource, open_media
from mer_agent.streams.silence import Silence
from mer_agent.streams.types import NS_PER_S

Report = Callable[[str, str], None]
"""Takes a source and its state."""


class Input(Protocol):
    """What a session hears and sees."""

    session: str
    """Its name, if nobody gives another."""
    title: str
    """What it is, for the user."""
    media_s: float
    """How long it lasts; 0 where nobody knows."""
    real_time: bool
    """Whether the clock is real, so that a delay means something."""
    live: bool
    """Whether the world goes on when we are slow."""
    speakers: Mapping[str, str | None]
    """Source of sound -> name of the one speaker that it is of; empty when voices have to be told apart."""

    def clock(self) -> SessionClock:
        """Gives the session's clock, which starts now."""
        ...

    def source(self, clock: SessionClock, report: Report) -> Source:
        """Gives the source; `report` takes how its parts are."""
        ...


@dataclass
class ReplayInput:
    """A media file or a session folder.

    Raises:
        MediaError: it can't be played.
    """

    path: Path
    settings: Settings
    real_time: bool
    live: bool = False
    speakers: Mapping[str, str | None] = field(init=False)

    def __post_init__(self) -> None:
        self._recording: Recording = open_media(self.path)
        self.speakers = self._recording.speakers
        self.session = _anonymous(self.path)
        self.title = f"playing {self.path.name}"
        self.media_s = (self._recording.duration_ns or 0) / NS_PER_S

    def clock(self) -> SessionClock:
        """Gives the machine's clock at real speed, else one that shows media time."""
        return RealClock() if self.real_time else VirtualClock(started_at=self._recording.started_at)

    def source(self, clock: SessionClock, report: Report) -> Source:
        """Gives the recording as a source."""
        for track in self._recording.audio:
            report(track.source, "replay")
        speed = 1.0 if self.real_time else math.inf
        return ReplaySource(self.path, clock=clock, speed=speed, video_rate_hz=self.settings.camera.rate_hz)


@dataclass
class LiveInput:
    """The microphones and cameras of the settings.

    Raises:
        DeviceError: one of them is unknown.
        InputError: there is none, or a speaker has two microphones.
        MissingExtraError: a package or a system library that reads them is missing.
    """

    settings: Settings
    real_time: bool = True
    live: bool = True
    media_s: float = 0.0

    def __post_init__(self) -> None:
        microphone, camera = self.settings.microphone, self.settings.camera
        heard = [_named(text) for text in _listed(microphone.device)]
        names = [name for name, _ in heard]
        if len({name for name in names if name}) < sum(name is not None for name in names):
            raise InputError(f"two microphones of one name: {', '.join(map(str, names))}; give each speaker one")
        self._microphones = [wanted for _, wanted in heard]
        self._cameras = _listed(camera.device)
        if not self._microphones:
            raise InputError(
                "no microphone: utterances are judged, and they begin and end with a voice; add --mic default"
            )
        own = len(names) > 1 or names[0] is not None
        seated = {f"audio-{number}": name for number, name in enumerate(names)}
        self.speakers: Mapping[str, str | None] = seated if own else {}
        # What is unknown is said now, and not when all the models are loaded.
        clock = RealClock()
        ears = [one.find().name for one in self._hear(clock)]
        if twice := [name for name in ears if ears.count(name) > 1]:
            raise InputError(f"the microphone {twice[0]} is named twice; give each speaker one")
        self.title = f"listening to {', '.join([*ears, *(one.find() for one in self._see(clock))])}"
        self.session = f"live-{datetime.now(UTC):%Y%m%d-%H%M%S}"

    def clock(self) -> SessionClock:
        """Gives the machine's clock."""
        return RealClock()

    def source(self, clock: SessionClock, report: Report) -> Source:
        """Gives the devices as one source."""
        return LiveSource(self._hear(clock), self._see(clock), clock, report)

    def _hear(self, clock: SessionClock) -> list[Microphone]:
        rate_hz = self.settings.microphone.rate_hz
        return [Microphone(f"audio-{n}", wanted, clock, rate_hz) for n, wanted in enumerate(self._microphones)]

    def _see(self, clock: SessionClock) -> list[Camera]:
        camera = self.settings.camera
        return [
            Camera(f"video-{n}", wanted, clock, rate_hz=camera.rate_hz, width=camera.width, height=camera.height)
            for n, wanted in enumerate(self._cameras)
        ]


@dataclass
class ChatInput:
    """A conversation that is written: nothing is heard or seen, and all that is said comes over MQTT, as turns."""

    title: str = "waiting for turns over MQTT"
    real_time: bool = True
    live: bool = True
    media_s: float = 0.0
    speakers: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.session = f"chat-{datetime.now(UTC):%Y%m%d-%H%M%S}"

    def clock(self) -> SessionClock:
        """Gives the machine's clock."""
        return RealClock()

    def source(self, clock: SessionClock, report: Report) -> Source:
        """Gives silence."""
        report("turns", "capturing")
        return Silence()


def _anonymous(path: Path) -> str:
    """The same for every replay of a recording, and anonymous: file names tell who was recorded."""
    return f"replay-{hashlib.sha256(path.resolve().name.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _listed(devices: str) -> list[str]:
    return [text.strip() for text in devices.split(";") if text.strip()]


def _named(text: str) -> tuple[str | None, str]:
    """A speaker's name, if one is given, and the microphone: `alice=0`."""
    named = re.fullmatch(r"([^\W\d][\w .-]{0,31})=(.+)", text)
    return (named[1].strip(), named[2].strip()) if named else (None, text)
