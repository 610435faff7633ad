"""Words as numbers: what a model that learns its own word vectors reads. It needs no weights.

`text/words@1` holds the first `LONGEST` words of an utterance as bucket numbers, 0 behind the last one. A word is a run
of letters, digits and apostrophes in lower case, or one mark of `.,!?`. Its bucket is 1 + crc32(word in UTF-8) modulo
`BUCKETS`: the hashing trick (Weinberger et al. 2009), so that there is no vocabulary to keep and no word unknown. Two
words in one bucket are one word to the model; of IEMOCAP's 3,240 words one in six shares its bucket.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from mer_agent.streams.types import Modality, Turn, Utterance

LONGEST = 64
BUCKETS = 16_384
_WORD = re.compile(r"[\w']+|[.,!?]")


class WordEncoder:
    """Gives the bucket numbers [LONGEST] of what was said, as float32; None where nothing was."""

    feature = "text/words@1"
    modality: Modality = "text"
    dimension = LONGEST

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives one vector for each utterance; `past_turns` is not read."""
        return self.encode_texts([utterance.text for utterance in utterances])

    def encode_texts(self, texts: Sequence[str]) -> list[Tensor | None]:
        """Gives one vector for each text."""
        rows: list[Tensor | None] = []
        for text in texts:
            words = _WORD.findall(text.lower())[:LONGEST]
            buckets = [1 + zlib.crc32(word.encode()) % BUCKETS for word in words]
            rows.append(torch.tensor(buckets + [0] * (LONGEST - len(buckets)), dtype=torch.float32) if words else None)
        return rows
