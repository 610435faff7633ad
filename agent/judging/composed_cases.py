"""Conversations of speakers whom the live model never heard, as recordings with truth (`models.live.composed`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mer_agent.judging.truth import Case, Truth
from mer_agent.models.live import composed
from mer_agent.models.live.held_out_voice import HeldOutVoice
from mer_agent.models.live.live_parts import HELD_OUT


def compose(
    data_dir: Path, encoders: Path, folder: Path, count: int, seed: int, say: Callable[[str], None]
) -> tuple[list[Case], HeldOutVoice]:
    """Gives recordings, and the voice encoder that doesn't know their speakers either.

    Args:
        data_dir: holds speech/ravdess and speech/emodb.
        encoders: the folder of `mer-agent train-encoder voice`; its runs are made if they are not there.
        folder: where the recordings are written.
        count: how many.
        seed: of the choice of clips.
        say: takes a line of progress.

    Raises:
        DataError: a corpus is missing.
        WeightsError: the voice encoders' weights are not here.
    """
    voice = HeldOutVoice(data_dir, encoders, HELD_OUT, say)
    alone = {example.clip: example.alone[0] for example in voice.examples}
    cases = []
    for one in composed.compose(composed.held_out(data_dir, HELD_OUT), folder, count, seed):
        trained = [{**alone[clip], voice.feature: voice.as_trained(clip)} for clip in one.clips]
        language = "en" if one.corpus == "ravdess" else "de"
        truth = tuple(Truth.model_validate({**turn.model_dump(), "language": language}) for turn in one.turns)
        cases.append(Case(one.path, one.corpus, truth, tuple(trained)))
    return cases, voice
