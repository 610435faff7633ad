"""Words to vectors: sentence embeddings of a frozen transformer.

`text/mpnet@1` and `text/minilm@1` follow sentence-transformers: tokenise with the model's own tokeniser, cut at
`TOKEN_BUDGET` tokens, run the model, average the last hidden states over the real tokens, scale to unit length.
`text/mpnet-layers@1` does the same with the hidden states after layers 4, 8 and 12, side by side. The last layer was
trained to tell *what* is meant; the ones before it still know more of *how* it is put, which is what emotion is after,
and they cost nothing more. Everything is read from one local folder; nothing asks a model hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mer_agent.encoders import weights
from mer_agent.encoders.place import Place
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Modality, Turn, Utterance

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKEN_BUDGET = 128
"""Tokens of an utterance that are read, the two special ones included: some 30 s of speech."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    feature: str
    weights: str
    layers: tuple[int, ...]
    """After which layers the hidden states are read."""
    dimension: int
    """Of all those layers together."""


_RECIPES = {
    "mpnet": _Recipe("text/mpnet@1", "mpnet", (12,), 768),
    "mpnet-layers": _Recipe("text/mpnet-layers@1", "mpnet", (4, 8, 12), 3 * 768),
    "minilm": _Recipe("text/minilm@1", "minilm", (6,), 384),
    "roberta-base": _Recipe("text/roberta-base@1", "roberta-base", (12,), 768),
    "roberta-large": _Recipe("text/roberta-large@1", "roberta-large", (24,), 1024),
}
HUB_ONLY = {"roberta-base": "FacebookAI/roberta-base", "roberta-large": "FacebookAI/roberta-large"}
"""Encoders that papers compare with and that no registry carries -> where the model hub has them."""


class TextEncoder:
    """Gives the sentence embedding of what was said, of unit length for each layer; None where nothing was.

    Args:
        name: `mpnet` (768-d), `mpnet-layers` (2304-d, as fast), `minilm` (384-d, six times faster), or for comparisons
            `roberta-base` (768-d) and `roberta-large` (1024-d), whose files the user puts into the weights' folder.
        device: `auto` (a GPU if there is one), a torch device, or a `Place`.
        folder: where the weights lie; the catalogue's own folder if not given.

    Raises:
        WeightsError: the weights are unknown, not pulled yet or unreadable.
    """

    modality: Modality = "text"
    languages = ("en",)

    def __init__(self, name: str = "mpnet", device: str | Place = "auto", folder: Path | None = None) -> None:
        if name not in _RECIPES:
            raise WeightsError(f"no text encoder is called {name!r}: take one of {', '.join(_RECIPES)}")
        recipe = _RECIPES[name]
        self.feature = recipe.feature
        self.dimension = recipe.dimension
        self._layers = recipe.layers
        folder = _folder(recipe) if folder is None else folder
        self._place = Place.of(device)
        self._model, self._tokenizer, self._pad = load_model(folder, self._place.device, self._place.dtype)

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [dimension] float32 on the CPU for each utterance, None where it has no words.

        `past_turns` is not read: this recipe looks at the utterance alone.
        """
        return self.encode_texts([utterance.text for utterance in utterances])

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> list[Tensor | None]:
        """Gives the embedding of each text, None for an empty one. The texts run as one batch."""
        spoken = [i for i, text in enumerate(texts) if text.strip()]
        embeddings: list[Tensor | None] = [None] * len(texts)
        if not spoken:
            return embeddings
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch([texts[i].strip() for i in spoken])]
        longest = max(map(len, tokens))
        ids = torch.full((len(tokens), longest), self._pad)  # [batch, tokens]
        mask = torch.zeros(len(tokens), longest)
        for row, sequence in enumerate(tokens):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        mask = self._place.put(mask)
        hidden = self._model(
            input_ids=self._place.put(ids), attention_mask=mask, output_hidden_states=True
        ).hidden_states  # of the embedding layer and each layer after it, [batch, tokens, width]
        pooled = [(hidden[k].float() * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True) for k in self._layers]
        unit = torch.cat([torch.nn.functional.normalize(part, dim=-1) for part in pooled], -1).cpu()
        for i, embedding in zip(spoken, unit, strict=True):
            embeddings[i] = embedding.clone()  # or each would keep the whole batch alive
        return embeddings


def _folder(recipe: _Recipe) -> Path:
    """Gives where a recipe's weights lie: in the catalogue, or where the user put what only the hub has."""
    hub = HUB_ONLY.get(recipe.weights)
    if hub is None:
        return weights.path(recipe.weights)
    folder = weights.cache_dir() / recipe.weights
    if not (folder / "tokenizer.json").is_file():
        raise WeightsError(f"{recipe.feature} needs {folder}; with the hub: hf download {hub} --local-dir {folder}")
    return folder


def load_model(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Any, Tokenizer, int]:
    """Reads model and tokeniser from `folder`; gives them with the id of the padding token."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # loading takes a second; its bar would fall into the agent's own output
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, config=config, local_files_only=True, dtype=torch.float32)
    except Exception as error:  # each layer below has its own exceptions; none should reach the user as a traceback
        raise WeightsError(
            f"the text model in {folder} can't be read ({error}); run: mer-agent weights pull"
        ) from error
    tokenizer.enable_truncation(TOKEN_BUDGET)  # the files of some models bring shorter limits of their own
    tokenizer.no_padding()
    return model.eval().to(device, dtype), tokenizer, int(config.pad_token_id)
