"""The bench of the text encoder: other recipes are trained as the shipped one was, and precisions are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import tiny_iemocap, tiny_meld, tiny_mpnet

from mer_agent.encoders import shipped, weights
from mer_agent.encoders.text import load_model
from mer_agent.encoders.text_emotion import WRITTEN
from mer_agent.encoders.turns import Words
from mer_agent.models.bench import text as bench_text
from mer_agent.models.bench.text import PRECISIONS, SHIPPED, VARIANTS, bench
from mer_agent.models.data import text_data
from mer_agent.models.perception import train_text
from mer_agent.models.perception.text_run import TextRecipe

RECIPE = TextRecipe(rank=2, epochs=1, batch_tokens=256)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny base, tiny corpora and an encoder that was trained on them."""
    base = tiny_mpnet.make(tmp_path / "mpnet")
    monkeypatch.setattr(weights, "path", lambda name: base)
    for module in (train_text, bench_text):
        monkeypatch.setattr(module, "RECIPE", RECIPE)
    small = {name: replace(one, recipe=replace(RECIPE, corpora=one.recipe.corpora)) for name, one in VARIANTS.items()}
    monkeypatch.setattr(bench_text, "VARIANTS", small)
    tiny_iemocap.write(tmp_path)
    tiny_meld.write(tmp_path)
    trained = tmp_path / "trained"
    train_text.train_encoder(tmp_path, trained, resume=False, say=lambda line: None)
    state, card = shipped.load("text", trained)
    card = replace(card, feature=WRITTEN)
    monkeypatch.setattr(shipped, "read_card", lambda name, folder=trained: card)
    monkeypatch.setattr(shipped, "load", lambda name, folder=trained: (state, card))
    return tmp_path


def test_variants_stand_beside_what_is_shipped_and_precisions_beside_float32(data: Path) -> None:
    lines: list[str] = []
    figures = bench(data, data / "runs", 2, lines.append)
    found = figures["variants"]
    assert set(found) == {SHIPPED, *VARIANTS}
    assert set(found[SHIPPED]) == {"iemocap", "meld"}
    assert set(found["IEMOCAP alone"]) == {"iemocap"}
    assert set(found["MELD alone, speakers named"]["meld"]) == {"valid", "test"}
    for by_corpus in found.values():
        for splits in by_corpus.values():
            assert all(len(of["each"]) == 2 and of["deviation"] >= 0 for of in splits.values())
    assert set(figures["precisions"]) == set(PRECISIONS)
    assert figures["precisions"]["float32"]["changed"] == 0
    assert all(of["ms"] > 0 for of in figures["precisions"].values())

    lines.clear()
    again = bench_text.variants(data, data / "runs", 2, lines.append)
    assert not lines  # what was trained is not trained again
    assert again == found


def test_names_stand_before_the_words_of_meld_alone(data: Path) -> None:
    words = Words(load_model(weights.path("mpnet"), torch.device("cpu"))[1])
    plain, named = text_data.load(data, words), text_data.load(data, words, named=True)
    for one, other in zip(plain, named, strict=True):
        for said, with_name in zip(one.said, other.said, strict=True):
            if one.corpus == "meld":
                assert with_name.text in (f"Ross: {said.text}", f"Rachel: {said.text}")
                assert len(with_name.tokens) > len(said.tokens)
            else:
                assert with_name == said
