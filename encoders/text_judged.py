"""Words to what the adapted encoder's own judges make of them, in the light of what was said before.

`text/mpnet-judged@1` is sixteen numbers from the linear judges that learned together with the adapters of
`text/mpnet-emotion@1`: the logarithms of the probabilities of IEMOCAP's six emotions and of MELD's seven, and valence,
activation and dominance from -2 to 2. Adapters that were trained apart put what they know into 768 numbers in ways of
their own, but what their judges say means the same. So a model that learned from dialogues each read by the one adapter
that never saw it is at home with what the mean of the adapters says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mer_agent.encoders import shipped
from mer_agent.encoders.place import Place
from mer_agent.encoders.text_emotion import NAMES, WRITTEN, TextEmotionEncoder, parts, shared
from mer_agent.streams.types import Modality, Turn, Utterance


class Judges:
    """The judges of the shipped adapters: the mean of all, or of the one `without` a part of the training dialogues.

    Raises:
        WeightsError: the adapters are missing or unreadable, or none was trained without that part.
    """

    def __init__(self, without: int | None = None, trained: Path = shipped.FOLDER) -> None:
        own = parts(shipped.load(NAMES[WRITTEN], trained)[0], without)
        mean = {name: torch.stack([one[name].float() for one in own]).mean(0) for name in own[0]}
        names = sorted(name.removesuffix(".weight") for name in mean if name.endswith(".weight"))
        layers = {name: (mean[f"{name}.weight"], mean[f"{name}.bias"]) for name in names}
        self._affect = layers.pop("affect")
        self._emotions = list(layers.values())
        self.dimension = sum(len(bias) for _, bias in (*self._emotions, self._affect))

    def __call__(self, states: Tensor) -> Tensor:
        """Gives [N, dimension] float32 of `text/mpnet-emotion@1` [N, width]."""
        said = [functional.linear(states, *judge).log_softmax(-1) for judge in self._emotions]
        return torch.cat([*said, functional.linear(states, *self._affect)], -1)


class JudgedTextEncoder:
    """Gives the 16-d judgement of what was said, in the light of what was said before; None where no word is known.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        adapted: the encoder whose states are judged; the one that is shared if not given.
        trained: the folder of the adapters and their judges; the package's own if not given.

    Raises:
        WeightsError: the weights have not been pulled or are unreadable.
    """

    feature = "text/mpnet-judged@1"
    modality: Modality = "text"

    def __init__(
        self,
        device: str | Place = "auto",
        adapted: TextEmotionEncoder | None = None,
        trained: Path = shipped.FOLDER,
    ) -> None:
        self._adapted = shared(device, WRITTEN) if adapted is None else adapted
        self._judge = Judges(trained=trained)
        self.dimension = self._judge.dimension

    @torch.inference_mode()
    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [16] float32 on the CPU for each utterance, None where it has no known word.

        `past_turns` holds the turns before each utterance, oldest first; without any, the utterance is read alone.
        """
        rows = self._adapted.encode(utterances, past_turns)
        return [None if row is None else self._judge(row.unsqueeze(0))[0].clone() for row in rows]

    def forget(self) -> None:
        """Forgets the turns that were read."""
        self._adapted.forget()
