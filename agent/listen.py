"""`mer-agent listen`: what a chatbot would receive, one line for each utterance, in a terminal or a pipe."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from mer_agent.client import EmotionMessage, EmotionStream
from mer_agent.errors import BrokerError
from mer_agent.wire.endpoint import Endpoint

BAR_CELLS = 10
PATIENCE_S = 5.0
"""With `until_offline`: a broker that stays away this long took its agent along, as the embedded one does."""

_COLOURS = {
    "happy": "green", "happiness": "green", "joy": "green", "excited": "bright_green", "surprise": "bright_yellow",
    "sad": "blue", "sadness": "blue", "angry": "red", "anger": "red", "frustrated": "dark_orange",
    "fear": "magenta", "disgust": "yellow", "neutral": "white",
}  # fmt: skip


async def listen(
    url: str | Endpoint,
    *,
    agent: str = "+",
    session: str = "+",
    speaker: str = "+",
    until_offline: bool = False,
    json_lines: bool = False,
    prefix: str = "mer/v1",
    console: Console | None = None,
) -> int:
    """Prints each utterance as it arrives, and gives how many there were.

    Args:
        url: the broker.
        agent: which agent; `+` is any.
        session: which session; `+` is any.
        speaker: which speaker; `+` is any.
        until_offline: return when every agent that was heard of is offline, or the broker is gone for good.
        json_lines: print the messages themselves, a line of JSON each.
        prefix: first part of the topics.
        console: where to print; default: standard output.

    Raises:
        BrokerError: the broker can't be reached.
    """
    console = console or Console(highlight=False)
    stream = EmotionStream(
        url,
        agent=agent,
        session=session,
        speaker=speaker,
        prefix=prefix,
        patience_s=PATIENCE_S if until_offline else None,
    )
    count, alive, answered = 0, set[str](), False
    try:
        async with aclosing(stream.events()) as events:
            async for message in events:
                answered = True
                if isinstance(message, EmotionMessage):
                    count += 1
                    alive.add(message.agent)
                    print_emotion(console, message, json_lines)
                    continue
                if console.is_terminal and not json_lines:
                    console.print(Text(f"{message.agent} is {message.state}", style="dim"))
                if message.state != "offline":
                    alive.add(message.agent)
                elif message.agent in alive:
                    # An `offline` of an agent that we never heard of is an old one, kept by the broker.
                    alive.discard(message.agent)
                    if until_offline and not alive:
                        break
    except BrokerError:
        if not (until_offline and answered):
            raise
    return count


def plain_line(message: EmotionMessage, arrived: datetime) -> str:
    """An utterance as one line of plain text: speaker, emotion, confidence, delay, words."""
    parts = [_name(message), message.label or "-", f"{message.confidence:.2f}"]
    if (delay_ms := arrival_delay_ms(message, arrived)) is not None:
        parts.append(f"{delay_ms:.0f} ms")
    if message.degraded:
        parts.append(f"({message.degraded})")
    if message.text:
        parts.append(message.text)
    return printable("  ".join(parts))


def coloured_line(message: EmotionMessage, arrived: datetime) -> Text:
    """The same for a terminal, with a bar for the confidence and a colour for the emotion."""
    colour = _COLOURS.get(message.label or "", "cyan")
    filled = round(message.confidence * BAR_CELLS)
    line = Text.assemble(
        (f"{printable(_name(message)):<11}", "bold"),
        (f"{printable(message.label or '(not sure)'):<11}", colour),
        ("█" * filled + "░" * (BAR_CELLS - filled), colour),
        f" {message.confidence:4.0%}",
    )
    if (delay_ms := arrival_delay_ms(message, arrived)) is not None:
        line.append(f"{f'+{delay_ms:.0f} ms':>10}", "dim")
    if message.kind == "revision":
        line.append("  revised", "dim")
    if message.degraded:
        line.append(f"  ({printable(message.degraded)})", "yellow")
    if message.text:
        line.append(f"  {printable(message.text)}")
    return line


def arrival_delay_ms(message: EmotionMessage, arrived: datetime) -> float | None:
    """Milliseconds from the end of the speech to the arrival here; None when the agent didn't work in real time."""
    if message.delay_ms is None:
        return None
    return (arrived - message.ended_at).total_seconds() * 1000


def print_emotion(console: Console, message: EmotionMessage, json_lines: bool = False) -> None:
    """Prints an utterance that has just arrived: in colour on a terminal, plainly elsewhere, or as JSON."""
    arrived = datetime.now(UTC)
    if json_lines:
        console.file.write(message.to_json() + "\n")
        console.file.flush()
    elif console.is_terminal:
        console.print(coloured_line(message, arrived))
    else:
        console.file.write(plain_line(message, arrived) + "\n")
        console.file.flush()


def _name(message: EmotionMessage) -> str:
    return message.speaker_name or message.speaker


def printable(text: str) -> str:
    """Gives the text without what could steer the terminal that it came to, over a network or from a file."""
    return "".join(character if character.isprintable() else " " for character in text)
