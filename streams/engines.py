"""What finds words, by name: our own engines, and those that other packages bring.

A package brings one with an entry point of the group `mer_agent.transcribers`, whose name is what `transcriber.engine`
asks for:

    [project.entry-points."mer_agent.transcribers"]
    moonshine = "my_package:make"

    def make(settings: TranscriberSettings, weights_dir: Callable[[str], Path]) -> Engine: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from mer_agent.config.settings import AUTO, TranscriberSettings
from mer_agent.errors import ConfigError
from mer_agent.streams.given_words import GivenWords
from mer_agent.streams.transcriber import Transcriber
from mer_agent.streams.types import Segment, Transcript

GROUP = "mer_agent.transcribers"


class Engine(Protocol):
    """Finds the words of segments. Calls may come side by side; each segment gets the same words every time."""

    async def warm_up(self) -> None:
        """Loads what is needed, so that the first segment is as fast as the others."""
        ...

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words with their session times; an empty transcript when there are none."""
        ...

    def close(self) -> None:
        """Takes no more segments."""
        ...


Make = Callable[[TranscriberSettings, Callable[[str], Path]], Engine]
"""Makes an engine from its settings and from what says where the weights of a name are."""


def names() -> list[str]:
    """The engines that are there."""
    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))})


def create(settings: TranscriberSettings, weights_dir: Callable[[str], Path]) -> Engine:
    """Gives the engine of these settings; nothing is loaded yet.

    Raises:
        ConfigError: no engine has that name, or the package that brings it is broken.
        WeightsError: its weights have not been pulled.
    """
    name = settings.engine
    if name in _OWN:
        return _OWN[name](settings, weights_dir)
    for point in entry_points(group=GROUP, name=name):
        try:
            make: Make = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"transcriber.engine={name}: {point.value} can't be imported ({error})") from error
        return make(settings, weights_dir)
    raise ConfigError(f"transcriber.engine={name}: there is {', '.join(names())}")


def _whisper(settings: TranscriberSettings, weights_dir: Callable[[str], Path]) -> Engine:
    return Transcriber(
        weights_dir(settings.weights),
        language=None if settings.language == AUTO else settings.language,
        beam_size=settings.beam_size,
        emphasis=settings.emphasis,
        compute_type=settings.compute_type,
        cpu_threads=settings.threads or min(4, max(1, processors() // 2)),
    )


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _text(settings: TranscriberSettings, weights_dir: Callable[[str], Path]) -> Engine:
    return GivenWords(settings.file)


_OWN: Mapping[str, Make] = {"faster-whisper": _whisper, "text": _text}
