"""How much of its accuracy a model keeps when nothing is given to it: the agent's whole path, judged by the truth.

The agent runs on recordings faster than real time, first with every stage replaced by the truth (`gold`), then with one
stage after the other as it is live. What is lost from one step to the next is what that stage costs:

    features      as the model learned them (of a table, or of a whole clip) -> computed here from the stretch of sound
    segmentation  true begins and ends -> cut by the segmenter
    words         as they were said -> as they were recognised
    speakers      as they are -> as their voices were told apart

The last step is the agent as it runs live. Beside it stands what it would gain if a single stage were perfect. A truth
that nobody knows can't be put in place of what was found, so there that stage is always as it is live.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_agent.agent import Agent
from mer_agent.aligner import Aligner, FrameRing
from mer_agent.config.settings import Settings
from mer_agent.encoders import weights
from mer_agent.encoders.base import Encoder
from mer_agent.encoders.prosody import ProsodyEncoder
from mer_agent.inference import ThreadInference
from mer_agent.judging import composed_cases
from mer_agent.judging.attribution import Played, attribute
from mer_agent.judging.gold import GivenCuts, GivenWords, RememberedEncoder, RememberedFaces, RememberedWords, Seated
from mer_agent.judging.truth import Case, find
from mer_agent.loading import Models, load
from mer_agent.perception import Perception, Words
from mer_agent.segmenter import Cutter, SpeechCutter
from mer_agent.streams.clock import VirtualClock
from mer_agent.streams.replay import ReplaySource
from mer_agent.streams.speakers import SpeakerTracker
from mer_agent.streams.types import Modality, Prediction, VideoFrame

if TYPE_CHECKING:
    from torch import Tensor

STAGES = ("features", "segmentation", "words", "speakers")
"""In the order in which the truth is taken away."""

LIVE = frozenset(STAGES)


class Player:
    """Plays recordings through the agent's own stages; weights are loaded once.

    Args:
        settings: the agent's.
        models: what `loading.load` gives.
    """

    def __init__(self, settings: Settings, models: Models) -> None:
        self._settings, self._models = settings, models
        self._inference = ThreadInference()
        self._case: Case | None = None

    @property
    def models(self) -> Models:
        """What judges."""
        return self._models

    def close(self) -> None:
        """Takes no more recordings."""
        self._inference.close()
        self._models.close()

    async def play(self, case: Case, found: Iterable[str] = STAGES, *, without: Modality | None = None) -> Played:
        """Gives the final predictions.

        Args:
            case: the recording.
            found: the stages that are as they are live.
            without: a modality that nobody encodes.
        """
        live = frozenset(found) | (LIVE - case.known)
        if case is not self._case:
            self._remember(case)
        settings, models = self._settings, self._models
        cutter: Cutter = SpeechCutter(models.vad.stream, settings.segmenter)
        if "segmentation" not in live:
            cutter = GivenCuts(case.truth, settings.segmenter.padding_ms)
        seats: Mapping[str, int] = {}
        if "speakers" not in live:
            cutter, seats = Seated(cutter, case.truth), case.speakers
        words: Words = self._words if "words" in live else GivenWords(case.truth, self._words)
        kept = [encoder for encoder in self._encoders if encoder.modality != without]
        encoders: tuple[Encoder, ...] = tuple(kept)
        if "features" not in live:
            encoders = tuple(encoder.knowing(_known(case, encoder.feature)) for encoder in kept)
        speakers = SpeakerTracker(settings.speakers)
        conversation = replace(models, encoders=encoders).conversation(speakers, seats)
        predictions: list[Prediction] = []

        async def keep(prediction: Prediction) -> None:
            light = replace(prediction.utterance, audio=None, frames=())
            predictions.append(replace(prediction, utterance=light))

        async def look(frame: VideoFrame) -> VideoFrame:
            assert self._faces is not None  # noqa: S101
            return await self._inference.run(self._faces.see, frame)

        rate_hz = settings.camera.rate_hz
        agent = Agent(
            ReplaySource(case.path, clock=VirtualClock(), speed=math.inf, video_rate_hz=rate_hz),
            cutter,
            Aligner(FrameRing(rate_hz)),
            Perception(words, conversation, self._inference),
            conversation,
            self._inference,
            keep,
            look=look if self._faces else None,
        )
        await agent.run()
        return Played(case, live, tuple(predictions))

    def _remember(self, case: Case) -> None:
        """Begins a recording: nothing that was found in another one is of use."""
        watcher = self._models.watcher()
        self._case = case
        self._words = RememberedWords(self._models.words)
        self._encoders = [RememberedEncoder(encoder) for encoder in self._models.encoders]
        self._faces = RememberedFaces(watcher.see) if watcher else None


def _known(case: Case, feature: str) -> dict[tuple[int, int], Tensor | None]:
    return {
        (one.start_ns, one.until_ns): rows[feature]
        for one, rows in zip(case.truth, case.trained, strict=True)
        if feature in rows
    }


def evaluate(
    settings: Settings,
    folder: Path | None,
    data_dir: Path,
    encoders: Path,
    compose: int = 0,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Gives the figures of `measure` on the recordings of a folder, and on conversations that are made of clips.

    Args:
        settings: the agent's, the checkpoint among them.
        folder: see `truth.find`; None: only what is made.
        data_dir: holds speech/ and meld/.
        encoders: the folder of `mer-agent train-encoder voice`.
        compose: how many conversations are made.
        seed: of what is made.
        say: takes a line of progress.

    Raises:
        MediaError: nothing can be played.
        DataError: a corpus is missing, or a truth is malformed.
        WeightsError, CheckpointError: see `loading.load`.
    """
    weights.set_directory(settings.weights.dir)
    cases = [] if folder is None else find(folder, data_dir, ProsodyEncoder.names)
    with tempfile.TemporaryDirectory(prefix="mer-agent-") as made:
        instead: dict[str, Encoder] = {}
        if compose:
            own, voice = composed_cases.compose(data_dir, encoders, Path(made), compose, seed, say)
            cases, instead = [*cases, *own], {voice.feature: voice}
        return asyncio.run(measure(settings, cases, encoders=instead, say=say))


async def measure(
    settings: Settings,
    cases: Sequence[Case],
    *,
    encoders: Mapping[str, Encoder] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Gives the figures of `attribution.attribute`, with the recordings that nobody knows the truth about counted.

    Args:
        settings: the agent's, the checkpoint among them.
        cases: the recordings.
        encoders: feature -> encoder that takes the place of the shipped one, as of voices that it has learned.
        say: takes a line of progress.

    Raises:
        WeightsError, CheckpointError: see `loading.load`.
        MediaError: a recording can't be played.
    """
    player = await open_player(settings, encoders)
    try:
        steps = [frozenset(STAGES[:many]) for many in range(len(STAGES) + 1)]
        # Features can't be as they were learned where the cuts are not.
        spared = {stage: LIVE - {stage} for stage in STAGES if stage != "features"}
        played: dict[frozenset[str], list[Played]] = {found: [] for found in (*steps, *spared.values())}
        unknown = []
        for number, case in enumerate(cases, 1):
            say(f"{number}/{len(cases)} {case.path.name}: {len(case.truth)} utterances are known")
            live = await player.play(case)
            if not case.truth:
                unknown.append({"name": case.path.name, "utterances": len(live.predictions)})
                continue
            for found, own in played.items():
                own.append(live if found == LIVE else await player.play(case, found))
        card = player.models.card
        figures = attribute(
            [played[found] for found in steps],
            {stage: played[found] for stage, found in spared.items()},
            card.labels,
            STAGES,
        )
    finally:
        player.close()
    return {
        "checkpoint": card.name,
        "sha256": card.sha256,
        "labels": list(card.labels),
        "words": settings.transcriber.weights,
        "recordings": len(cases),
        "without_truth": unknown,
        **figures,
    }


async def open_player(settings: Settings, encoders: Mapping[str, Encoder] | None = None) -> Player:
    """Loads what the settings name; `encoders` take the place of those of the same feature.

    Raises:
        WeightsError, CheckpointError: see `loading.load`.
    """
    loading = ThreadInference("loading")
    try:
        models = await load(settings, loading)
    finally:
        loading.close()
    instead = encoders or {}
    return Player(settings, replace(models, encoders=tuple(instead.get(e.feature, e) for e in models.encoders)))
