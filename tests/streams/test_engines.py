"""What finds words, by name, and how many threads it may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_agent.config.settings import TranscriberSettings
from mer_agent.errors import ConfigError
from mer_agent.streams import engines


@pytest.mark.parametrize(
    ("processors", "asked", "threads"), [(1, 0, 1), (2, 0, 1), (4, 0, 2), (64, 0, 4), (2, 3, 3)], ids=str
)
def test_the_recogniser_gets_half_of_the_processors_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processors: int, asked: int, threads: int
) -> None:
    (tmp_path / "model.bin").touch()
    monkeypatch.setattr(engines, "processors", lambda: processors)
    engine = engines.create(TranscriberSettings(threads=asked), lambda name: tmp_path)
    assert vars(engine)["_cpu_threads"] == threads
    engine.close()


def test_an_engine_that_nobody_brings_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match="there is faster-whisper, text"):
        engines.create(TranscriberSettings(engine="moonshine"), lambda name: Path(name))


def test_a_package_can_bring_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint, EntryPoints

    points = EntryPoints([EntryPoint("mine", "support.streams_fakes:ScriptedTranscriber", engines.GROUP)])
    monkeypatch.setattr(engines, "entry_points", lambda **chosen: points.select(**chosen))
    with pytest.raises(TypeError):  # it was found and called, with settings and weights
        engines.create(TranscriberSettings(engine="mine"), lambda name: Path(name))
    assert engines.names() == ["faster-whisper", "mine", "text"]
