"""Microphones, by PortAudio: sound in the moment at which it reached the converter, whatever the device's format.

PortAudio calls us on a thread of its own, 31 times a second, and tells when the block's first sample was captured.
Drivers say that with more or less truth, so it counts slowly: when blocks arrive gives the pace (`drift.DriftClock`),
the median of what the driver says, how long before that they were captured. The samples go through
`resampler.Resampler`. A microphone that says nothing is told from one that says silence by its callbacks (`supervise`).
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_agent.errors import DeviceError, MissingExtraError
from mer_agent.streams.clock import SessionClock
from mer_agent.streams.devices import DEFAULT, DeviceInfo, choose
from mer_agent.streams.drift import DriftClock
from mer_agent.streams.resampler import Resampler
from mer_agent.streams.sound import Chunker
from mer_agent.streams.supervise import Patience, Pulse, Stale
from mer_agent.streams.types import NS_PER_S, AudioChunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

BLOCK_S = 0.032
"""How much sound PortAudio gives at once."""
MOST_CHANNELS = 16
"""A device that offers more is a virtual one: it is asked for one channel, and mixes better than an average would."""
SLACK_S = 0.1
"""Room in the driver's buffer: a busy machine calls late. A block is given when it is full all the same."""
_STEP_NS = 1_000_000
"""Stamps are moved by no more than this at a block."""

_open: set[Any] = set()
"""The streams that are open, or about to be. While there are any, PortAudio can't look for new devices."""
_lock = threading.Lock()
"""Held while PortAudio looks for devices; never while one is opened or closed, which may block for ever."""


def microphones() -> list[DeviceInfo]:
    """Gives the microphones of this machine, newly looked for.

    Raises:
        MissingExtraError: sounddevice, or the system library that it needs, is missing.
    """
    with _lock:
        return _microphones(_portaudio())


class Microphone:
    """One microphone as a source of 16 kHz mono chunks.

    Args:
        source: name for the chunks.
        wanted: `default`, an index, or a name or part of one. It is looked up again whenever the device is opened,
            by the name that it had at first: numbers change when devices come and go.
        clock: session time.
        rate_hz: sample rate to ask for; 0: the device's own, which costs nobody a resampling that we don't know.
    """

    stale: Stale = "silent"
    patience = Patience(stale_ns=5 * NS_PER_S)

    def __init__(self, source: str, wanted: str, clock: SessionClock, rate_hz: int = 0) -> None:
        self.source = source
        self._wanted = wanted
        self._clock = clock
        self._rate_hz = rate_hz
        self._chunker = Chunker(source)

    def find(self) -> DeviceInfo:
        """Gives the device that is meant.

        Raises:
            DeviceError: there is none, or more than one.
            MissingExtraError: see `microphones`.
        """
        with _lock:
            return self._find(_portaudio())

    def open(self, deliver: Callable[[AudioChunk], None]) -> MicrophoneCapture:
        """Opens the microphone and begins to listen.

        Raises:
            DeviceError: it is unknown, gone or busy.
            MissingExtraError: see `microphones`.
        """
        with _lock:
            sounddevice = _portaudio()
            device = self._find(sounddevice)
            capture = MicrophoneCapture(self._clock, self._chunker, self._rate_hz or round(device.rate_hz), deliver)
            _open.add(capture)  # while the lock is held: nobody may start PortAudio anew under it
        try:
            capture.start(sounddevice, device)
        except (sounddevice.PortAudioError, ValueError) as error:
            reason = str(error.args[0] if error.args else error)
            raise DeviceError(
                f"microphone {device.index} {device.name!r} can't be opened ({reason}); "
                "does another program hold it, or does it lack the rate that was asked for?"
            ) from error
        return capture

    def _find(self, sounddevice: Any) -> DeviceInfo:
        listed = _microphones(sounddevice)
        device = choose(listed, self._wanted, "microphone")
        if self._wanted != DEFAULT and [one.name for one in listed].count(device.name) == 1:
            self._wanted = device.name
        return device


class MicrophoneCapture:
    """An open microphone."""

    def __init__(
        self, clock: SessionClock, chunker: Chunker, rate_hz: int, deliver: Callable[[AudioChunk], None]
    ) -> None:
        now_ns = clock.now_ns()
        self.pulse = Pulse(now_ns, now_ns)
        self._clock = clock
        self._chunker = chunker
        self._rate_hz = rate_hz
        self._deliver = deliver
        self._resampler = Resampler(rate_hz)
        self.drift = DriftClock(rate_hz)
        self._early: deque[int] = deque(maxlen=64)
        self._latency_ns = 0
        self._buffer_s = SLACK_S  # what was asked for, until the driver says what it gave
        self._samples = 0
        self._skipped_ns = 0
        self._begun = self._closed = False
        self._stream: Any = None

    def start(self, sounddevice: Any, device: DeviceInfo) -> None:
        """Starts the device's stream; called once."""
        try:
            self._stream = sounddevice.InputStream(
                device=device.index,
                channels=device.channels if device.channels <= MOST_CHANNELS else 1,
                samplerate=self._rate_hz,
                blocksize=round(self._rate_hz * BLOCK_S),
                dtype="float32",
                latency=SLACK_S,
                callback=self._hear,
                finished_callback=self._finished,
            )
            self._buffer_s = self._stream.latency
            self._stream.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops listening; may block where the driver does."""
        self._closed = True
        if self._begun:
            log.info("%s: its clock differed by %+.0f ppm, corrected", self._chunker.source, self.drift.mean_ppm)
        if self._stream is not None:
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)
        _open.discard(self)

    def hear(self, sound: NDArray[np.float32], arrived_ns: int, captured_ns: int, lost: bool = False) -> None:
        """Takes a block of sound.

        Args:
            sound: float32 [n, channel].
            arrived_ns: session time now.
            captured_ns: session time at which the first sample was captured, as far as the driver can tell.
            lost: the driver says that sound before it is missing.
        """
        missing = self.drift.observe(self._samples, arrived_ns, lost=lost)
        elapsed_ns = int(self._samples * NS_PER_S / self._rate_hz)
        self._find_latency(self.drift.offset_ns + elapsed_ns - captured_ns)
        if missing or not self._begun:
            for chunk in self._chunker.push(self._resampler.finish(), last=True) if self._begun else ():
                self._deliver(chunk)
            self._resampler = Resampler(self._rate_hz)
            # From here on the chunker counts from this block, the drift clock from the first one.
            self._skipped_ns = elapsed_ns
            self._chunker.restart(0)
            self._begun = True
        self._chunker.anchor_ns = self.drift.offset_ns - self._latency_ns + self._skipped_ns
        self._samples += len(sound)
        for chunk in self._chunker.push(self._resampler.push(sound.T)):
            self._deliver(chunk)
        self.pulse.beat(self._clock.now_ns(), fresh=bool(sound.any()) or not self.pulse.given)

    def _find_latency(self, early_ns: int) -> None:
        """Takes how long before its arrival a block was captured; follows the median in small steps."""
        self._early.append(early_ns)
        aim_ns = int(np.median(self._early))
        first = len(self._early) == 1
        self._latency_ns += aim_ns if first else max(-_STEP_NS, min(_STEP_NS, aim_ns - self._latency_ns))

    def _hear(self, block: NDArray[np.float32], frames: int, times: Any, status: Any) -> None:
        """PortAudio's callback. An error in here would end the stream without a word."""
        if self._closed:
            return
        try:
            age_s = times.currentTime - times.inputBufferAdcTime
            block_s = frames / self._rate_hz
            if not abs(age_s) <= block_s + self._buffer_s:
                # Older than what the driver holds, or from the future: it doesn't know. PulseAudio's does so for the
                # first second, by 0.4 s and more, and stamps that begin so are wrong for a quarter of a minute.
                age_s = block_s
            now_ns = self._clock.now_ns()
            self.hear(block, now_ns, now_ns - int(age_s * NS_PER_S), lost=bool(status.input_overflow))
        except Exception as error:
            self.pulse.fault = f"the microphone's sound can't be read ({type(error).__name__})"

    def _finished(self) -> None:
        """PortAudio has ended the stream: the device is gone, unless it was us."""
        if not self._closed:
            self.pulse.fault = "the microphone is gone"


def _portaudio() -> Any:
    """The package sounddevice, with the list of devices as it is now.

    Raises:
        MissingExtraError: it, or the system library that it needs, is missing.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("sounddevice is not installed; run: pip install 'mer-agent[live]'") from error
    except OSError as error:  # it is installed, the library underneath is not
        raise MissingExtraError(
            "the system library PortAudio is missing; on Debian: apt-get install libportaudio2, "
            "on Fedora: dnf install portaudio, on macOS: brew install portaudio"
        ) from error
    # At exit it would close what is open, and a driver that hangs would keep the process for ever. Without it the
    # system takes back what the process held.
    atexit.unregister(sounddevice._exit_handler)
    if not _open:
        # PortAudio looks for devices only once, when it starts.
        sounddevice._terminate()
        sounddevice._initialize()
    return sounddevice


def _microphones(sounddevice: Any) -> list[DeviceInfo]:
    default = sounddevice.default.device[0]
    return [
        DeviceInfo(
            index,
            device["name"],
            f"{device['max_input_channels']} channels, {device['default_samplerate']:.0f} Hz",
            index == (default if default >= 0 else sounddevice.query_hostapis(0)["default_input_device"]),
            device["default_samplerate"],
            device["max_input_channels"],
        )
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]
