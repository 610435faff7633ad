"""What the recogniser hears as a sequence: what a step is, its limits, whose hearing counts, and encoders' contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import encoder_contract, needs, voices
from torch import Tensor

from mer_agent.encoders.base import create, hears_recogniser
from mer_agent.encoders.sequences import STEPS, take_apart
from mer_agent.encoders.whisper_steps import RECOGNISER, WIDTH, WhisperStepsEncoder
from mer_agent.streams.transcriber import MOST_STEPS, Transcriber
from mer_agent.streams.types import NS_PER_S, Hearing, Turn, Utterance

MOST = STEPS[WhisperStepsEncoder.feature]


def heard(steps: np.ndarray, weights: str = RECOGNISER) -> Utterance:
    return Utterance("u", None, 0, NS_PER_S, hearing=Hearing(weights, steps))


def numbers(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, WIDTH)).astype(np.float32)


def test_a_row_is_the_steps_that_were_heard_and_nothing_after_them() -> None:
    told = numbers(7)
    (row,) = WhisperStepsEncoder().encode([heard(told)])
    assert row is not None
    steps, there = take_apart(row[None], MOST)
    assert there[0].tolist() == [True] * 7 + [False] * (MOST - 7)
    np.testing.assert_array_equal(steps[0, :7], told)
    assert MOST == MOST_STEPS, "the recogniser keeps as many as are read"


def test_what_was_not_heard_by_this_recogniser_is_absent() -> None:
    encoder = WhisperStepsEncoder()
    unasked = Utterance("u", None, 0, NS_PER_S, audio=voices.speech(1.0))
    some = [unasked, heard(numbers(0)), heard(numbers(7), "whisper-tiny.en"), heard(numbers(7))]
    assert [row is None for row in encoder.encode(some)] == [True] * 3 + [False]


def test_it_waits_for_the_words() -> None:
    assert hears_recogniser(create("audio/whisper-steps@1"))


class Listening(WhisperStepsEncoder):
    """Has each sound heard first."""

    def __init__(self, recogniser: Transcriber) -> None:
        self.recogniser = recogniser

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        told = [
            one if one.audio is None else replace(one, hearing=self.recogniser.listen(one.audio)) for one in utterances
        ]
        return super().encode(told, past_turns)


@pytest.mark.real_weights
def test_with_a_real_recogniser_it_keeps_the_contract() -> None:
    recogniser = Transcriber(needs.weights(RECOGNISER))
    encoder = Listening(recogniser)
    encoder_contract.check(encoder)
    lengths = {0.0: 0, 0.07: 0, 0.5: 6, 7.0: 87, 60.0: MOST}
    for seconds, steps in lengths.items():
        sound = np.tile(voices.speech(10.0), 6)[: int(seconds * 16_000)]
        (row,) = encoder.encode([encoder_contract.utterance(sound=sound, seconds=seconds)])
        assert (row is None) is (steps == 0), seconds
        if row is not None:
            assert int(take_apart(row[None], MOST)[1].sum()) == steps
            assert row.isfinite().all()
            assert row.abs().max() < torch.finfo(torch.float16).max, "training keeps it in half precision"
    recogniser.close()
