"""The agent between gold and live: which parts know the truth at which step, and that the last step is the agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import media_files, needs
from support.fakes import FakeEncoder
from support.streams_fakes import LoudnessVad, ScriptedTranscriber, bursts
from torch import Tensor

from mer_agent.config import settings as config
from mer_agent.config.settings import Settings
from mer_agent.conversation import SPEAKER_FEATURE
from mer_agent.judging import end_to_end
from mer_agent.judging.end_to_end import STAGES, Player, measure
from mer_agent.judging.truth import Case, Truth, find
from mer_agent.loading import Models
from mer_agent.models.stream import Judgement
from mer_agent.run import replay
from mer_agent.streams.types import NS_PER_S
from mer_agent.wire.schema import EmotionMessage

SESSION = Path(__file__).parents[2] / "sessions" / "two-voices"
LABELS = ("joy", "anger")
VOICE = "audio/any@1"


class ByVoice:
    """Judges by the sign of the voice's first number; remembers what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[int | None, Mapping[str, Tensor]]] = []

    def append(self, utterance_id: str, speaker: int | None, features: Mapping[str, Tensor]) -> Judgement:
        self.got.append((speaker, features))
        joy = 0.9 if features[VOICE][0] > 0 else 0.1
        return Judgement(torch.tensor([joy, 1 - joy]), 0, ("audio",), ())


class Fakes:
    """Two turns of one second each, with a pause; the recogniser and the voice encoder are mistaken about both."""

    def __init__(self, tmp_path: Path) -> None:
        sound = bursts([(1, False), (1, True), (1, False), (1, True), (1, False)])
        media_files.write_sound(tmp_path / "talk.wav", sound[None] * 0.9)
        told = [("joy", "ann", "how nice", 1), ("anger", "bob", "go away", 3)]
        truth = tuple(
            Truth(label=label, speaker=who, text=text, start_ns=at * NS_PER_S, end_ns=(at + 1) * NS_PER_S)
            for label, who, text, at in told
        )
        rows = tuple({VOICE: torch.tensor([sign, 0.0])} for sign in (1.0, -1.0))
        self.case = Case(tmp_path / "talk.wav", "made", truth, rows)
        self.streams: list[ByVoice] = []
        encoders = (
            FakeEncoder("text/any@1", "text"),
            FakeEncoder(SPEAKER_FEATURE, "audio", torch.ones(256)),
            FakeEncoder(VOICE, "audio", torch.tensor([1.0, 0.0])),
        )
        self.voice = encoders[2]
        words = ScriptedTranscriber({0: "hound ice", 1: "hound ice", 2: "gone away", 3: "gone away"})
        card: Any = SimpleNamespace(labels=LABELS, label_set="two", name="fake", sha256="0")
        fusion: Any = SimpleNamespace(stream=self._stream)
        vad: Any = SimpleNamespace(stream=LoudnessVad)
        self.models = Models(vad, words, words, encoders, fusion, card)

    def _stream(self) -> ByVoice:
        self.streams.append(ByVoice())
        return self.streams[-1]


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path)


def texts(
    fakes: Fakes, found: Sequence[str], case: Case | None = None
) -> tuple[list[str], list[int | None], list[str | None]]:
    player = Player(Settings(), fakes.models)
    try:
        predictions = asyncio.run(player.play(case or fakes.case, found)).predictions
    finally:
        player.close()
    return (
        [one.utterance.text for one in predictions],
        [one.utterance.speaker for one in predictions],
        [one.label for one in predictions],
    )


def test_every_stage_is_true_until_it_is_found(fakes: Fakes) -> None:
    true, wrong = ["how nice", "go away"], ["hound ice", "gone away"]
    assert texts(fakes, ()) == (true, [0, 1], ["joy", "anger"])
    assert texts(fakes, STAGES[:1]) == (true, [0, 1], ["joy", "joy"]), "the voice as it is encoded here"
    assert texts(fakes, STAGES[:2]) == (true, [0, 1], ["joy", "joy"])
    assert texts(fakes, STAGES[:3]) == (wrong, [0, 1], ["joy", "joy"])
    assert texts(fakes, STAGES) == (wrong, [0, 0], ["joy", "joy"]), "both have the same voice"


def test_a_truth_that_nobody_knows_is_found(fakes: Fakes) -> None:
    silent = tuple(one.model_copy(update={"text": None, "speaker": None}) for one in fakes.case.truth)
    case = replace(fakes.case, truth=silent, trained=())
    assert texts(fakes, (), case) == (["hound ice", "gone away"], [0, 0], ["joy", "joy"])


def test_nothing_of_a_recording_is_found_twice(fakes: Fakes) -> None:
    player = Player(Settings(), fakes.models)
    for _ in range(3):
        asyncio.run(player.play(fakes.case))
    player.close()
    assert len(fakes.voice.seen) == 2


def test_the_drop_is_told_stage_by_stage(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(settings: Settings, encoders: object = None) -> Player:
        return Player(settings, fakes.models)

    monkeypatch.setattr(end_to_end, "open_player", opened)
    unknown = Case(fakes.case.path, "without truth")
    lines: list[str] = []
    figures = asyncio.run(measure(Settings(), [fakes.case, unknown], say=lines.append))
    assert [step["stage"] for step in figures["steps"]] == ["gold", *STAGES]
    assert [step["accuracy"] for step in figures["steps"]] == [100, 50, 50, 50, 50]
    assert figures["drop"]["weighted_f1"] == pytest.approx(figures["steps"][1]["lost"])
    assert figures["if_perfect"]["words"]["gained"] == 0
    assert figures["heard"]["speaker_errors"] == pytest.approx(50, abs=1)
    assert figures["heard"]["word_errors"] == 75
    assert figures["without_truth"] == [{"name": "talk.wav", "utterances": 2}]
    assert len(lines) == 2
    json.dumps(figures)


@pytest.mark.real_weights
def test_the_last_step_is_the_agent_itself() -> None:
    for name in ("whisper-base", "mpnet", "ge2e", "yunet"):
        needs.weights(name)
    settings = config.load(assignments=["agent.session=s1"]).settings
    (case,) = find(SESSION, Path("nowhere"))

    async def played() -> list[Mapping[str, float]]:
        player = await end_to_end.open_player(settings)
        try:
            return [one.distribution for one in (await player.play(case)).predictions]
        finally:
            player.close()

    messages: list[EmotionMessage] = []
    asyncio.run(replay(settings, SESSION, real_time=False, sinks=[messages.append]))
    for one, message in zip(asyncio.run(played()), messages, strict=True):
        assert one == pytest.approx(message.distribution, abs=1e-5)
