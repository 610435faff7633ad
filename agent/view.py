"""A session at a glance, in a terminal: devices, words, each speaker's emotions over time, latency.

What happens is only noted here; it is drawn four times a second, however much happens, on a thread that waits for
nobody.
"""

from __future__ import annotations

import io
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mer_agent.health import RECORDER, WELL
from mer_agent.listen import printable
from mer_agent.palette import colours
from mer_agent.streams.types import NS_PER_S, AudioChunk, VideoFrame
from mer_agent.wire.schema import EmotionMessage

REFRESH_HZ = 4
SHOWN = 32
"""Utterances of a speaker that are drawn side by side."""
SPEAKERS = 4
"""Speakers that are drawn: those who spoke last."""
LINES = 6
METER_CELLS = 24
FLOOR_DB = -60.0
_BARS = " ▁▂▃▄▅▆▇█"
_DELAYS = 200


@dataclass(slots=True)
class _Device:
    """What is known of a source."""

    state: str = ""
    level_db: float = FLOOR_DB
    pictures_ns: deque[int] = field(default_factory=lambda: deque(maxlen=64))


@dataclass(slots=True)
class _Speaker:
    """What is known of a speaker: the latest word on each of the last utterances."""

    name: str = ""
    utterances: dict[str, EmotionMessage] = field(default_factory=dict)


class View:
    """The live display. Call it with each message; `with` it, it is drawn.

    Args:
        console: where to draw.
        now_s: seconds of some steady clock.
    """

    def __init__(self, console: Console, now_s: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now_s = now_s
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._speakers: dict[str, _Speaker] = {}
        self._lines: dict[str, EmotionMessage] = {}
        self._notes: deque[str] = deque(maxlen=3)
        self._delays_ms: deque[float] = deque(maxlen=_DELAYS)
        self._utterances = 0
        self._begun_s = now_s()
        self._live: Live | None = None
        self._handlers: list[logging.Handler] = []

    def captured(self, item: AudioChunk | VideoFrame) -> None:
        """Takes what was heard or seen, for the meters."""
        device = self._devices.get(item.source) or self._devices.setdefault(item.source, _Device())
        if isinstance(item, VideoFrame):
            device.pictures_ns.append(item.captured_ns)
        elif len(item.samples):
            power = float(np.mean(np.square(item.samples, dtype=np.float64)))
            level_db = 10 * math.log10(power) if power > 0 else FLOOR_DB
            # Up at once, down slowly, as meters do.
            device.level_db = max(FLOOR_DB, level_db, device.level_db - 1.0)

    def device(self, source: str, state: str) -> None:
        """Takes the state of a source."""
        with self._lock:
            device = self._devices.setdefault(source, _Device())
            device.state = state
            if state not in WELL:
                device.level_db = FLOOR_DB

    def say(self, text: str) -> None:
        """Takes a line for the user."""
        with self._lock:
            self._notes.append(printable(text))

    def __call__(self, message: EmotionMessage) -> None:
        """Takes a prediction; a later one of the same utterance replaces it."""
        with self._lock:
            speaker = self._speakers.pop(message.speaker, None) or _Speaker()
            for id_, other in list(self._speakers.items()):
                if other.utterances.pop(message.utterance, None) and not other.utterances:
                    del self._speakers[id_]  # all that was taken for theirs was somebody else's
            speaker.name = printable(message.speaker_name or message.speaker)
            self._speakers[message.speaker] = speaker  # who spoke last stands last
            _keep(speaker.utterances, message, SHOWN)
            _keep(self._lines, message, LINES)
            while len(self._speakers) > SPEAKERS:
                del self._speakers[next(iter(self._speakers))]
            if message.kind == "final":
                self._utterances += 1
                if message.delay_ms is not None:
                    self._delays_ms.append(message.delay_ms)

    def render(self) -> RenderableType:
        """Draws what is known now."""
        with self._lock:
            parts: list[RenderableType] = [self._head()]
            if self._devices:
                parts.append(self._meters())
            parts += [_panel(speaker) for _, speaker in sorted(self._speakers.items())]
            if self._lines:
                parts.append(self._words())
            parts += [Text(note, style="dim", overflow="ellipsis", no_wrap=True) for note in self._notes]
        return Group(*parts)

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._handlers, root.handlers = root.handlers, [_ToView(self)]
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=REFRESH_HZ)
        self._live.start()
        self._console.show_cursor(True)  # a second Ctrl-C ends the process at once, and nobody would show it again
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        logging.getLogger().handlers = self._handlers

    def _head(self) -> Text:
        seconds = int(self._now_s() - self._begun_s)
        head = Text.assemble(
            ("mer-agent", "bold"), f"  {seconds // 60}:{seconds % 60:02d}  {self._utterances} utterances"
        )
        if self._delays_ms:
            middle, slow = np.percentile(list(self._delays_ms), [50, 95])
            head.append(f"  latency {self._delays_ms[-1]:.0f} ms (p50 {middle:.0f}, p95 {slow:.0f})")
        recorder = self._devices.get(RECORDER)
        if recorder is not None:
            on = recorder.state == "recording"
            head.append("  ● RECORDING" if on else "  ■ RECORDING STOPPED", "bold red" if on else "bold yellow")
        return head

    def _meters(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for source, device in sorted(self._devices.items()):
            if source == RECORDER:
                continue
            state = Text(device.state, "green" if not device.state or device.state in WELL else "bold red")
            table.add_row(
                Text(source, "bold"), _pictures(device) if source.startswith("video") else _level(device), state
            )
        return table

    def _words(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for message in self._lines.values():
            guess, said = message.kind == "partial", printable(message.text or "")
            colour = colours(list(message.distribution)).get(message.label or "", "")
            name = Text(printable(message.speaker_name or message.speaker), "bold")
            if message.overlap:
                name.append(" + another", "dim")
            table.add_row(
                name,
                Text(message.label or "-", colour),
                Text(f"{message.confidence:.0%}", "dim"),
                Text(f"{said} …".strip() if guess else said, "italic dim" if guess else ""),
            )
        return table


def picture(
    title: str, messages: Sequence[EmotionMessage], captured: Iterable[AudioChunk | VideoFrame] = (), width: int = 100
) -> str:
    """Gives the view as it was at the end of the last utterance, as SVG.

    Args:
        title: stands above it.
        messages: what was said, in order.
        captured: what was heard and seen meanwhile, for the meters.
        width: in characters.
    """
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    now_s = [0.0]
    view = View(console, lambda: now_s[0])
    end_ns = max(message.end_ns for message in messages)
    for item in captured:
        if getattr(item, "end_ns", 0) <= end_ns:
            view.device(item.source, "replay")
            view.captured(item)
    for message in messages:
        view(message)
    now_s[0] = end_ns / NS_PER_S
    console.print(view.render())
    return console.export_svg(title=title, unique_id="view")


class _ToView(logging.Handler):
    """Shows what is logged in the view: written past it, it would tear the picture."""

    def __init__(self, view: View) -> None:
        super().__init__(logging.WARNING)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        self._view.say(record.getMessage())


def _keep(kept: dict[str, EmotionMessage], message: EmotionMessage, most: int) -> None:
    kept[message.utterance] = message
    while len(kept) > most:
        del kept[next(iter(kept))]


def _level(device: _Device) -> Text:
    filled = round((device.level_db - FLOOR_DB) / -FLOOR_DB * METER_CELLS)
    colour = "red" if device.level_db > -3 else "green"
    return Text.assemble(("█" * filled, colour), ("░" * (METER_CELLS - filled), "dim"), f" {device.level_db:4.0f} dB")


def _pictures(device: _Device) -> Text:
    times = list(device.pictures_ns)
    recent = [at_ns for at_ns in times if at_ns > times[-1] - 2 * NS_PER_S]
    span_s = (recent[-1] - recent[0]) / NS_PER_S if recent else 0
    return Text(f"{(len(recent) - 1) / span_s:.1f} pictures/s" if span_s else "no pictures")


def _panel(speaker: _Speaker) -> Panel:
    """A speaker's probabilities: a row for each label, a column for each utterance, the latest one also in figures."""
    judged = [message for message in speaker.utterances.values() if message.distribution]
    labels = list(dict.fromkeys(label for message in judged for label in message.distribution))
    table = Table.grid(padding=(0, 1))
    for label, colour in colours(labels).items():
        shares = [message.distribution.get(label, 0.0) for message in judged]
        bars = "".join(_BARS[round(share * (len(_BARS) - 1))] for share in shares).rjust(SHOWN)
        last = Text(f"{shares[-1]:4.0%}", "bold" if judged[-1].label == label else "dim")
        table.add_row(Text(f"{label:<10}"), Text(bars, colour), last)
    return Panel(table, title=Text(speaker.name, "bold"), title_align="left", expand=False)
