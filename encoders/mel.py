"""Sound to patches of a mel-spectrogram, for models that look at the picture of a voice.

`audio/mel@1`: the log-mel of `voice_emotion.log_mel` (25 ms windows every 10 ms, its mean taken away, so that gain
says nothing), in 80 bands, cut into patches of 80 ms and all bands. At most 8 s are looked at; a rest shorter than a
patch is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mer_agent.encoders.sequences import STEPS, lay_out
from mer_agent.encoders.voice_emotion import log_mel
from mer_agent.streams.types import Modality, Turn, Utterance

BANDS = 80
PATCH_FRAMES = 8


class MelEncoder:
    """Gives [100 * 640] of the speech in an utterance; None where nothing can be heard."""

    feature = "audio/mel@1"
    modality: Modality = "audio"
    dimension = STEPS["audio/mel@1"] * PATCH_FRAMES * BANDS

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives float32 on the CPU for each utterance. `past_turns` is not read."""
        return [None if (speech := utterance.speech) is None else self.patches(speech) for utterance in utterances]

    def patches(self, sound: NDArray[np.float32]) -> Tensor | None:
        """Gives the row of a sound, float32 [n], 16 kHz; None for silence and what is shorter than 65 ms."""
        mel = log_mel(sound, BANDS)
        if mel is None:
            return None
        mel = functional.pad(mel, (0, 0, 0, max(0, PATCH_FRAMES - len(mel))))
        whole = len(mel) // PATCH_FRAMES
        return lay_out(mel[: whole * PATCH_FRAMES].reshape(whole, -1), STEPS[self.feature])
