import io
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lxml import etree
from rich.console import Console
from support.messages import message

from mer_agent import view as module
from mer_agent.streams.types import AudioChunk, VideoFrame
from mer_agent.view import View, picture
from mer_agent.wire.schema import EmotionMessage


def said(number: int, **changes: Any) -> EmotionMessage:
    return message(number).model_copy(update={"delay_ms": 600.0, **changes})


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=60, color_system=None)


def shown(view: View) -> str:
    console = terminal()
    console.print(view.render())
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def view() -> View:
    return View(terminal(), lambda: 65.0)


def chunk(level: float, number: int = 0) -> AudioChunk:
    return AudioChunk(np.full(512, level, np.float32), number * 32_000_000, number)


def test_devices_show_how_they_are_and_what_they_hear(view: View) -> None:
    view.device("audio-0", "capturing")
    view.captured(chunk(0.1))
    view.device("video-0", "capturing")
    for number in range(30):
        view.captured(VideoFrame(np.zeros((2, 2, 3), np.uint8), number * 100_000_000, number))
    assert " -20 dB" in shown(view)
    assert "10.0 pictures/s" in shown(view)
    view.captured(chunk(0.0, 1))
    assert " -21 dB" in shown(view), "down slowly"
    view.captured(chunk(1.0, 2))
    assert "   0 dB" in shown(view), "up at once"
    view.device("audio-0", "lost")
    assert " -60 dB" in shown(view)
    assert "lost" in shown(view)


def test_a_recording_is_plain_to_see(view: View) -> None:
    assert "RECORDING" not in shown(view)
    view.device("recorder", "recording")
    assert "● RECORDING" in shown(view)
    view.device("recorder", "stopped")
    assert "RECORDING STOPPED" in shown(view)


def test_words_emotions_and_latency(view: View) -> None:
    for number in range(9):
        view(said(number, delay_ms=100.0 * number))
    view(said(9, kind="partial", text="and then", speaker="speaker-1", speaker_name="Ann", delay_ms=5.0))
    text = shown(view)
    assert "9 utterances" in text
    assert "latency 800 ms (p50 400, p95 760)" in text
    assert "and then …" in text
    assert text.count("what a day") == module.LINES - 1
    assert "╭─ speaker-0" in text
    assert "╭─ Ann" in text
    (happy,) = [line for line in text.splitlines() if "happy" in line and "▆▆▆▆▆▆▆▆▆" in line]
    assert " 70%" in happy


def test_a_revision_takes_the_place_of_what_was_judged_before_even_of_another_speaker(view: View) -> None:
    view(said(0))
    view(said(1, kind="partial"))
    view(said(1, kind="revision", speaker="speaker-1", distribution={"sad": 1.0}, label="sad", text="alas"))
    text = shown(view)
    assert "alas" in text
    assert text.count("what a day") == 1
    assert "1 utterances" in text
    assert "100%" in text
    view(said(0, kind="revision", speaker="speaker-1"))
    assert "speaker-0 ─" not in shown(view), "nothing is left of it"


def test_it_says_where_somebody_else_spoke_meanwhile(view: View) -> None:
    view(said(0, overlap=False))
    assert "+ another" not in shown(view)
    view(said(1, overlap=True))
    assert shown(view).count("+ another") == 1


def test_nothing_grows_with_the_session(view: View) -> None:
    for number in range(2000):
        view(said(number, speaker=f"speaker-{number % 9}"))
        view.say("a note")
    assert len(view._lines) <= module.LINES
    assert len(view._speakers) == module.SPEAKERS
    assert max(len(speaker.utterances) for speaker in view._speakers.values()) <= module.SHOWN
    assert len(shown(view).splitlines()) < 60


def test_what_others_say_cannot_steer_the_terminal(view: View) -> None:
    view(said(0, text="a\x1b[2Jb [red]c[/red] :smile:", speaker_name="Ann\x1b]0;owned\x07"))
    view.say("c\x1b[31md")
    assert "\x1b[2J" not in shown(view)
    assert "\x07" not in shown(view)
    assert "\x1b[31m" not in shown(view)
    assert "[red]c[/red] :smile:" in shown(view)


@pytest.fixture
def root_handlers() -> Iterator[list[logging.Handler]]:
    before = list(logging.getLogger().handlers)
    yield before
    assert logging.getLogger().handlers == before


def test_it_is_drawn_a_few_times_a_second_however_much_happens(
    monkeypatch: pytest.MonkeyPatch, root_handlers: list[logging.Handler]
) -> None:
    drawn: list[float] = []
    render = View.render

    def counted(self: View) -> Any:
        drawn.append(time.monotonic())
        return render(self)

    monkeypatch.setattr(View, "render", counted)
    messages = [said(number) for number in range(200)]
    begun, noted = time.monotonic(), 0
    with View(terminal()) as view:
        while time.monotonic() - begun < 1.0:
            view(messages[noted % len(messages)])
            view.captured(chunk(0.1, noted))
            noted += 1
        logging.getLogger("mer_agent.x").warning("the camera is lost")
        assert "the camera is lost" in shown(view)
        drawn.pop()
    elapsed_s = time.monotonic() - begun
    assert noted > 1000
    # The first and the last one come on top; rich measures a picture before it draws it.
    assert 2 <= len(drawn) <= 2 * (elapsed_s * module.REFRESH_HZ + 3)


def test_the_picture_of_it_is_an_svg_with_words_and_bars() -> None:
    text = picture("two voices", [said(number) for number in range(3)])
    root = etree.fromstring(text.encode())
    words = "".join(root.itertext()).replace("\xa0", " ")
    assert "what a day" in words
    assert "▆▆▆" in words
    assert picture("two voices", [said(number) for number in range(3)]) == text
