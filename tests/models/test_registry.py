from dataclasses import replace
from pathlib import Path

import pytest
from support import tiny_iemocap

from mer_agent.errors import InputError
from mer_agent.models import checkpoint
from mer_agent.models.data.corpora import load
from mer_agent.models.registry import MODELS, direction
from mer_agent.models.training.evaluate import judge
from mer_agent.models.training.runs import RECIPES, keep
from mer_agent.models.training.train import train


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_has_a_recipe_and_trains_on_a_corpus(name: str, tmp_path: Path) -> None:
    tiny_iemocap.write(tmp_path)
    recipe = RECIPES[name]
    recipe = replace(
        recipe,
        features=tiny_iemocap.FEATURES,
        shape={**recipe.shape, **direction(name, bidirectional=False)},
        epochs=1,
    )
    corpus = load(
        "iemocap",
        tmp_path,
        recipe.features,
        encode_texts=tiny_iemocap.encode_texts,
        descriptors=recipe.descriptors,
    )
    run = train(recipe, corpus, seed=0)
    assert run.record["recipe"]["model"] == name
    assert 0 <= run.record["test"]["weighted_f1"] <= 100
    model, card = checkpoint.load(keep(run, tmp_path, "kept"))
    assert card.model == name
    assert judge(model, card, corpus)["weighted_f1"] == pytest.approx(run.record["test"]["weighted_f1"])


def test_a_model_that_only_looks_back_can_not_look_ahead() -> None:
    assert direction("gru", bidirectional=False) == {}
    with pytest.raises(InputError, match="gru looks back only"):
        direction("gru", bidirectional=True)
    assert direction("ar-iigcn", bidirectional=True)["future"] > 0
    assert direction("dialogue-rnn", bidirectional=True) == {"causal": False}
