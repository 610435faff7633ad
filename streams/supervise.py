"""Keeps a device going: opens it, notices within a second when it is no longer what it was, and opens it again.

    opening -> capturing -> stalled | frozen | lost -> (a pause that grows) -> opening
                         -> ended, when there is nothing more to come, as at the end of a file

    stalled   nothing has come for a while: drivers stop calling without a word
    frozen    the same picture again and again: cameras repeat the last one
    lost      the device itself says so: unplugged, closed, taken by somebody else
    silent    every sample is 0: muted, or not allowed to listen. Told, not mended: there is nothing to reopen.

Devices block for as long as they like, so each call to one runs on a daemon thread of its own with a time limit; one
that never returns is left behind. Whatever happens to one device happens to nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from mer_agent.errors import DeviceError, MerError
from mer_agent.streams.clock import SessionClock
from mer_agent.streams.types import NS_PER_S

log = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Stale = Literal["frozen", "silent"]
State = Literal["opening", "capturing", "silent", "stalled", "frozen", "lost", "ended"]

WATCH_NS = 100_000_000
"""How often a device's pulse is felt."""
OPEN_S = 10.0
"""How long opening may take: a network camera's name has to be found, and its stream."""
CLOSE_S = 1.0
FIRST_PAUSE_NS = 250_000_000
LONGEST_PAUSE_NS = 8 * NS_PER_S
"""Between two tries to open a device."""
WELL_NS = 5 * NS_PER_S
"""After this long without a fault the pause is short again."""


@dataclass(slots=True)
class Pulse:
    """How an open device does; written by the device's thread, read by its supervisor."""

    alive_ns: int
    """Session time at which it last gave anything."""
    fresh_ns: int
    """Session time at which it last gave something new: another picture, a sample that is not 0."""
    fresh: bool = False
    """Whether it has given anything new yet."""
    given: bool = False
    """Whether it has given anything yet."""
    fault: str | None = None
    """Why it can't go on."""
    ended: bool = False
    """It has come to its end in good order."""

    def beat(self, now_ns: int, fresh: bool) -> None:
        """Says that something has come."""
        self.alive_ns = now_ns
        self.given = True
        if fresh:
            self.fresh_ns, self.fresh = now_ns, True


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a device may take."""

    first_ns: int = 5 * NS_PER_S
    """From open to the first thing it gives: cameras adjust to the light."""
    stall_ns: int = 700_000_000
    stale_ns: int | None = 800_000_000
    """Nothing new; None: for ever."""


class Capture(Protocol):
    """A device that is open and gives what it captures, from a thread of its own."""

    @property
    def pulse(self) -> Pulse:
        """How it does."""
        ...

    def close(self) -> None:
        """Gives the device back; may block. Nothing is handed over after it has returned."""
        ...


class Device(Protocol[T_co]):
    """A device that can be opened, many times one after the other."""

    source: str
    """What its chunks or frames are called: `audio-0`."""
    stale: Stale
    """What it is when nothing new comes. Frozen devices are opened again."""
    patience: Patience

    def open(self, deliver: Callable[[T_co], None]) -> Capture:
        """Opens the device; may block. `deliver` is then called from any thread.

        Raises:
            DeviceError: it can't be opened.
        """
        ...


class Blocking(Protocol):
    """Runs a call that may block for ever."""

    async def __call__(self, call: Callable[[], T], limit_s: float, late: Callable[[T], object] | None = None) -> T:
        """Gives what `call` gives; raises TimeoutError after `limit_s`. What comes too late goes to `late`."""
        ...


async def on_daemon_thread(call: Callable[[], T], limit_s: float, late: Callable[[T], object] | None = None) -> T:
    """Gives what `call` gives, from a daemon thread that nobody waits for longer than `limit_s`.

    Raises:
        TimeoutError: it took longer. What it gives in the end goes to `late`, in that thread.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    left = threading.Event()

    def settle(value: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)  # type: ignore[arg-type]

    def work() -> None:
        value, error = None, None
        try:
            value = call()
        except BaseException as raised:
            error = raised
        if not left.is_set():
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, value, error)
                return
        if error is None and late is not None:
            late(value)  # type: ignore[arg-type]

    threading.Thread(target=work, name="device", daemon=True).start()
    try:
        async with asyncio.timeout(limit_s):
            return await answer
    except BaseException:
        left.set()
        raise


class Supervisor(Generic[T]):
    """Runs one device until it ends or `run` is cancelled.

    Args:
        device: what to keep going.
        deliver: takes what it captures, on the event loop.
        report: takes its state whenever that changes, on the event loop.
        clock: session time.
        blocking: runs calls that may block; tests run them inline.

    Attributes:
        state: how the device is now.
        tried: set once the device was opened, or couldn't be, for the first time.
        first_error: why it couldn't; `run` tries again all the same.
    """

    def __init__(
        self,
        device: Device[T],
        deliver: Callable[[T], None],
        report: Callable[[str, State], None],
        clock: SessionClock,
        blocking: Blocking = on_daemon_thread,
    ) -> None:
        self._device = device
        self._deliver = deliver
        self._report = report
        self._clock = clock
        self._blocking = blocking
        self._told: str | None = None
        self.state: State = "opening"
        self.tried = asyncio.Event()
        self.first_error: DeviceError | None = None

    async def run(self) -> None:
        """Keeps the device going, whatever it does; returns when it has ended."""
        self._report(self._device.source, self.state)
        failures = 0
        while True:
            begun_ns = self._clock.now_ns()
            if await self._session():
                return
            if self._clock.now_ns() - begun_ns > WELL_NS:
                failures = 0
            pause_ns = min(FIRST_PAUSE_NS * 2**failures, LONGEST_PAUSE_NS)
            failures = min(failures + 1, 16)
            await self._clock.sleep_until(self._clock.now_ns() + pause_ns)

    async def _session(self) -> bool:
        """Opens the device and watches it until it fails (False) or has ended (True)."""
        try:
            capture = await self._opened()
        except DeviceError as error:
            if not self.tried.is_set():
                self.first_error = error
            self._fail("lost", str(error))
            return False
        finally:
            self.tried.set()
        try:
            return await self._watch(capture)
        finally:
            await self._close(capture)

    async def _opened(self) -> Capture:
        loop = asyncio.get_running_loop()

        def deliver(item: T) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._deliver, item)

        try:
            return await self._blocking(lambda: self._device.open(deliver), OPEN_S, lambda late: late.close())
        except TimeoutError:
            raise DeviceError(f"didn't open within {OPEN_S:.0f} s") from None

    async def _watch(self, capture: Capture) -> bool:
        pulse, patience = capture.pulse, self._device.patience
        while True:
            await self._clock.sleep_until(self._clock.now_ns() + WATCH_NS)
            now_ns = self._clock.now_ns()
            if pulse.ended:
                self._set("ended")
                return True
            if pulse.fault is not None:
                self._fail("lost", pulse.fault)
                return False
            if now_ns - pulse.alive_ns > (patience.stall_ns if pulse.given else patience.first_ns):
                self._fail("stalled", "gives nothing any more" if pulse.given else "gives nothing")
                return False
            if not pulse.given:
                continue
            if patience.stale_ns is None or now_ns - pulse.fresh_ns <= patience.stale_ns:
                if not pulse.fresh:
                    continue  # opened again, and still the old picture
                if self._told is not None:
                    log.warning("%s: is back", self._device.source)
                    self._told = None
                self._set("capturing")
            elif self._device.stale == "frozen":
                self._fail("frozen", "gives the same picture again and again")
                return False
            else:
                self._set("silent")

    async def _close(self, capture: Capture) -> None:
        try:
            await self._blocking(capture.close, CLOSE_S)
        except TimeoutError:
            log.warning("%s: doesn't close; it is left behind", self._device.source)
        except MerError as error:
            log.warning("%s", error)

    def _fail(self, state: State, reason: str) -> None:
        """Says what happened, once for each reason until the device is back."""
        if reason != self._told:
            log.warning("%s: %s; trying again", self._device.source, reason)
            self._told = reason
        self._set(state)

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._report(self._device.source, state)
