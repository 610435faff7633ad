"""A sentence encoder of MPNet's architecture that is small and knows nothing, with a tokeniser of a few words."""

from __future__ import annotations

from pathlib import Path

import torch

from mer_agent.encoders.turns import LOWER

SOME = "i am so glad that you came no yes well what a day is this the table oak . , ! ? 0 1 2 3 4"
LABELS = "happy sad neutral angry excited frustrated surprise fear sadness joy disgust anger"
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", *SOME.split(), *LABELS.split(), "[UNK]", "<mask>"]
WIDTH = 24
LAYERS = LOWER + 2


def make(folder: Path) -> Path:
    """Writes model and tokeniser into `folder`, as the catalogue keeps mpnet; gives the folder."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import MPNetConfig, MPNetModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=200,
    )
    MPNetModel(config).save_pretrained(folder)
    vocabulary = {token: at for at, token in enumerate(TOKENS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=TOKENS[-2]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
