"""Voice to a sequence: what the speaker encoder's second layer hears, step by step (`audio/ge2e-steps@1`).

Of all layers of GE2E the second tells most of emotion (docs/cards/voice.md). A step is the mean of its states over 80
ms of speech, as long as a patch of `audio/mel@1`; silences are cut first, as for `audio/ge2e@1`. At most 8 s of speech
are heard; a rest shorter than a step is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mer_agent.encoders.place import Place
from mer_agent.encoders.sequences import STEPS, lay_out
from mer_agent.encoders.voice import DIMENSION, shared
from mer_agent.streams.types import Modality, Turn, Utterance

STEP_FRAMES = 8


class VoiceStepsEncoder:
    """Gives [100 * 256] of the speech in an utterance; None where there is too little.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.

    Raises:
        WeightsError: the weights `ge2e` are not pulled yet or unreadable.
    """

    feature = "audio/ge2e-steps@1"
    modality: Modality = "audio"
    dimension = STEPS["audio/ge2e-steps@1"] * DIMENSION

    def __init__(self, device: str | Place = "auto") -> None:
        self._voice = shared(device)

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives float32 on the CPU for each utterance. `past_turns` is not read."""
        return [None if utterance.audio is None else self.patches(utterance.audio) for utterance in utterances]

    def patches(self, sound: NDArray[np.float32]) -> Tensor | None:
        """Gives the row of a sound, float32 [n], 16 kHz; None where it has too little speech."""
        most = STEPS[self.feature]
        states = self._voice.states(sound, most * STEP_FRAMES)
        if states is None:
            return None
        whole = len(states) // STEP_FRAMES
        return lay_out(states[: whole * STEP_FRAMES].view(whole, STEP_FRAMES, -1).mean(1), most)
