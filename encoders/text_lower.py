"""Words to the state of the sentence encoder's lower layers, which the adapted encoder computes all the same.

`text/mpnet-lower@1` is the mean state of the utterance's tokens after the eight layers that nothing was taught to,
scaled to unit length: the middle part of `text/mpnet-layers@1`. The last layers were trained to tell *what* is meant;
these still know more of *how* it is put. They are those of `text/mpnet-emotion@2`, whose encoder remembers them: where
both features are wanted, this one costs a mean.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mer_agent.encoders.place import Place
from mer_agent.encoders.text_emotion import TextEmotionEncoder, shared
from mer_agent.streams.types import Modality, Transcript, Turn, Utterance


class LowerTextEncoder:
    """Gives the 768-d state of what was said, read by itself; None where no word is known.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        adapted: the encoder whose lower layers are read; the one that is shared if not given.

    Raises:
        WeightsError: the weights have not been pulled or are unreadable.
    """

    feature = "text/mpnet-lower@1"
    modality: Modality = "text"
    languages = ("en",)

    def __init__(self, device: str | Place = "auto", adapted: TextEmotionEncoder | None = None) -> None:
        self._adapted = shared(device) if adapted is None else adapted
        self.dimension = self._adapted.dimension

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [768] float32 on the CPU for each utterance; `past_turns` is not read."""
        return self._adapted.lower(utterances)

    def forget(self) -> None:
        """Forgets the turns that were read."""
        self._adapted.forget()

    def encode_texts(self, texts: Sequence[str]) -> list[Tensor | None]:
        """Gives the vector of each text, None for one without a known word."""
        return self.encode([Utterance("", None, 0, 1, transcript=Transcript(text)) for text in texts])
