"""The text encoder with its real weights."""

from __future__ import annotations

import pytest
import torch
from support import needs

from mer_agent.encoders.base import Encoder
from mer_agent.encoders.text import TextEncoder
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Transcript, Turn, Utterance

TEXTS = [
    "Okay.",
    "I can't believe that you would do this to me, after everything that we have been through!",
    "Yeah, fine.",
]


def said(text: str | None) -> Utterance:
    return Utterance("u", 0, 0, 1, transcript=None if text is None else Transcript(text))


def test_an_unknown_encoder_is_told():
    with pytest.raises(WeightsError, match="mpnet, mpnet-layers, minilm"):
        TextEncoder("bert")


def test_what_only_the_hub_has_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("mer_agent.encoders.weights.cache_dir", lambda: tmp_path)
    with pytest.raises(WeightsError, match="hf download FacebookAI/roberta-large --local-dir"):
        TextEncoder("roberta-large")


def test_a_roberta_that_the_user_put_there_is_read(tmp_path, monkeypatch):
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import RobertaConfig, RobertaModel

    monkeypatch.setattr("mer_agent.encoders.weights.cache_dir", lambda: tmp_path)
    words = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "well": 2, "no": 3}, unk_token="<s>"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "roberta-base"
    config = RobertaConfig(
        vocab_size=4, hidden_size=8, num_hidden_layers=12, num_attention_heads=1, intermediate_size=8, pad_token_id=1
    )
    config.save_pretrained(folder)
    save_file(RobertaModel(config).state_dict(), folder / "model.safetensors", {"format": "pt"})
    words.save(str(folder / "tokenizer.json"))
    encoder = TextEncoder("roberta-base", "cpu")
    assert encoder.feature == "text/roberta-base@1"
    one, none = encoder.encode_texts(["well well no", " "])
    assert none is None
    assert float(one.norm()) == pytest.approx(1, abs=1e-5)


def test_a_broken_folder_is_told(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="can't be read"):
        TextEncoder("minilm", "cpu", tmp_path)


@pytest.fixture(scope="module", params=["minilm", "mpnet", "mpnet-layers"])
def encoder(request):
    return TextEncoder(request.param, "cpu", needs.weights(request.param.removesuffix("-layers")))


@pytest.mark.real_weights
def test_batch_equals_single(encoder):
    assert isinstance(encoder, Encoder)
    together = encoder.encode([said(text) for text in TEXTS])
    for text, row in zip(TEXTS, together, strict=True):
        (alone,) = encoder.encode([said(text)], [[Turn(1, "something before")]])
        assert row.shape == (encoder.dimension,)
        assert row.dtype == torch.float32
        assert float(row.norm()) == pytest.approx(len(encoder._layers) ** 0.5, abs=1e-5)
        assert torch.allclose(row, alone, atol=1e-5)


@pytest.mark.real_weights
def test_no_words_is_no_vector(encoder):
    first, second, third = encoder.encode([said(None), said("  "), said("Hello.")])
    assert first is None
    assert second is None
    assert third is not None
    assert encoder.encode([]) == []


@pytest.mark.real_weights
def test_meaning_is_near_meaning(encoder):
    glad, happy, table = encoder.encode_texts(
        ["I am so glad!", "This makes me very happy.", "The table is made of oak."]
    )
    assert float(glad @ happy) > float(glad @ table) + 0.1 * len(encoder._layers)


@pytest.mark.real_weights
def test_a_speech_is_cut_at_the_budget(encoder):
    once, twice = encoder.encode_texts(["word " * 300, "word " * 600])
    assert torch.allclose(once, twice, atol=1e-6)


@pytest.mark.real_weights
def test_the_recipe_has_not_changed():
    """What the checkpoint was trained on: some of the numbers that the features had then."""
    encoder = TextEncoder("mpnet", "cpu", needs.weights("mpnet"))
    (row,) = encoder.encode_texts(["Excuse me."])
    assert row[[0, 1, 767]].tolist() == pytest.approx([0.016634, -0.006423, -0.007443], abs=2e-5)


@pytest.mark.real_weights
def test_the_layers_end_in_the_sentence_embedding():
    folder = needs.weights("mpnet")
    (whole,) = TextEncoder("mpnet-layers", "cpu", folder).encode_texts(TEXTS[:1])
    (last,) = TextEncoder("mpnet", "cpu", folder).encode_texts(TEXTS[:1])
    assert torch.allclose(whole[-768:], last, atol=1e-6)
    assert not torch.allclose(whole[:768], last, atol=1e-2)
