"""Voice to a sequence: what the recogniser's encoder hears, step by step (`audio/whisper-steps@1`).

Whisper hears the sound on its way to the words, so its states cost nothing more. A step is the mean of those of its
encoder's last layer over 80 ms, as long as a patch of `audio/mel@1`, 512 wide; at most 8 s are heard, the padding
around the speech among them (`types.Hearing`). Nothing is made where another recogniser was at work, or none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mer_agent.encoders.sequences import STEPS, lay_out
from mer_agent.streams.types import Modality, Turn, Utterance

RECOGNISER = "whisper-base"
"""Whose hearing is read; another one's is another language."""
WIDTH = 512


class WhisperStepsEncoder:
    """Gives [100 * 512] of what whisper-base heard of an utterance; None where it wasn't asked, or for less than 80 ms.

    It needs no weights of its own and no device.
    """

    feature = "audio/whisper-steps@1"
    modality: Modality = "audio"
    dimension = STEPS["audio/whisper-steps@1"] * WIDTH
    hears_recogniser = True

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives float32 on the CPU for each utterance. `past_turns` is not read."""
        return [self._row(utterance) for utterance in utterances]

    def _row(self, utterance: Utterance) -> Tensor | None:
        hearing = utterance.hearing
        if hearing is None or hearing.weights != RECOGNISER or not len(hearing.steps):
            return None
        return lay_out(torch.from_numpy(hearing.steps), STEPS[self.feature])
