"""Words to a sequence of token states, for models that read an utterance word by word.

`text/mpnet-tokens@1` holds the states after the last layer of all-mpnet-base-v2 (12 layers, 768-d, of RoBERTa's kind
and size), one for each token, the two special ones among them. Longer utterances are cut: see `sequences.STEPS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mer_agent.encoders import weights
from mer_agent.encoders.place import Place
from mer_agent.encoders.sequences import STEPS, lay_out
from mer_agent.encoders.text import load_model
from mer_agent.streams.types import Modality, Turn, Utterance


class TokenEncoder:
    """Gives [48 * 768] for what was said, None where nothing was.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        folder: where the weights lie; the catalogue's own folder if not given.

    Raises:
        WeightsError: the weights are not pulled yet or unreadable.
    """

    feature = "text/mpnet-tokens@1"
    modality: Modality = "text"

    def __init__(self, device: str | Place = "auto", folder: Path | None = None) -> None:
        self._place = Place.of(device)
        folder = weights.path("mpnet") if folder is None else folder
        self._model, self._tokenizer, self._pad = load_model(folder, self._place.device, self._place.dtype)
        self._steps = STEPS[self.feature]
        self._tokenizer.enable_truncation(self._steps)
        self.dimension = self._steps * int(self._model.config.hidden_size)

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [dimension] float32 on the CPU for each utterance, None where it has no words.

        `past_turns` is not read: this recipe looks at the utterance alone.
        """
        return self.encode_texts([utterance.text for utterance in utterances])

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> list[Tensor | None]:
        """Gives the token states of each text, None for an empty one. The texts run as one batch."""
        found: list[Tensor | None] = [None] * len(texts)
        spoken = [i for i, text in enumerate(texts) if text.strip()]
        if not spoken:
            return found
        tokens = [torch.tensor(e.ids) for e in self._tokenizer.encode_batch([texts[i].strip() for i in spoken])]
        ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=self._pad)
        lengths = torch.tensor([len(row) for row in tokens])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        states = self._model(input_ids=self._place.put(ids), attention_mask=self._place.put(mask.long()))
        rows = states.last_hidden_state.float().cpu()
        for i, row, length in zip(spoken, rows, lengths.tolist(), strict=True):
            found[i] = lay_out(row[:length], self._steps).clone()
        return found
