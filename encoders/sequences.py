"""Features that are sequences: many small rows instead of one vector, for models that look inside an utterance.

A row of a sequence feature is `steps` x `width` numbers laid end to end, so that it travels as any other feature does.
A step of zeros alone is not there: it pads what is shorter. No real step can be so, since the states of words leave a
layer norm with a bias, and a patch of a spectrogram varies.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

STEPS = {"text/mpnet-tokens@1": 48, "audio/mel@1": 100, "audio/ge2e-steps@1": 100, "audio/whisper-steps@1": 100}
"""Feature id -> its most steps."""


def lay_out(steps: Tensor, most: int) -> Tensor:
    """Gives steps [n, width] as one row [most * width]; those past `most` are cut."""
    kept = steps[:most]
    return functional.pad(kept, (0, 0, 0, most - len(kept))).flatten()


def take_apart(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Gives rows [N, most * width] as steps [N, most, width], and which of them are there, bool [N, most]."""
    steps = rows.view(len(rows), most, rows.shape[1] // most)
    return steps, steps.any(-1)
