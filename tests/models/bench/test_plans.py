"""Every row of every plan is a recipe that can be trained, and what it says of itself is so."""

from __future__ import annotations

import pytest
import torch

from mer_agent.errors import InputError
from mer_agent.models.batch import FeatureSpec
from mer_agent.models.bench import plans
from mer_agent.models.bench.accuracy import digest
from mer_agent.models.checkpoint import parameter_count
from mer_agent.models.registry import ALWAYS_CAUSAL, MODELS
from mer_agent.models.training.learner import Contrast
from mer_agent.models.training.recipe import MODALITY_OF
from mer_agent.models.training.runs import FEATURES

EVERY_ROW = [pytest.param(row, id=f"{name}/{row.name}") for name, plan in plans.PLANS.items() for row in plan.rows]


@pytest.mark.parametrize("row", EVERY_ROW)
def test_a_row_builds_its_model(row):
    recipe = row.recipe
    specs = [FeatureSpec(name, MODALITY_OF[name.partition("/")[0]], 8) for name in recipe.features]
    MODELS[recipe.model](specs, 6, recipe.shape)
    Contrast(recipe.w1, recipe.w2, **recipe.contrast)
    if row.model == "ar-iigcn":
        assert bool(recipe.shape["future"]) == row.bidirectional
    elif row.model not in ALWAYS_CAUSAL:
        assert recipe.shape["causal"] != row.bidirectional


@pytest.mark.parametrize("name", plans.PLANS)
def test_the_rows_of_a_plan_differ(name):
    plan = plans.PLANS[name]
    assert len({row.name for row in plan.rows}) == len(plan.rows)
    assert len({(digest(row.recipe), row.data) for row in plan.rows}) == len(plan.rows)
    assert plan.baseline is None or plan.row(plan.baseline)


def test_all_models_of_a_table_read_the_same():
    for row in plans.PLANS["peers"].rows:
        if row.model == "text-cnn":
            assert set(row.recipe.features) == {"text/words@1", "audio/ge2e@1", "audio/prosody@1"}
        else:
            assert row.recipe.features == FEATURES["iemocap"]
        assert row.recipe.ignored == ("intensity_db_mean",)


def test_the_grown_models_have_the_papers_number_of_parameters():
    sizes = {"text/mpnet@1": 768, "audio/ge2e@1": 256, "audio/prosody@1": 8}
    specs = [FeatureSpec(name, MODALITY_OF[name.partition("/")[0]], size) for name, size in sizes.items()]
    for row in plans.PLANS["parameters"].rows:
        if "grown" in row.name:
            shape = {**row.recipe.shape, "causal": False}
            with torch.device("meta"):
                model = MODELS[row.model](specs, 6, shape)
            assert parameter_count(model) == pytest.approx(14.68e6, rel=0.01)


def test_fewer_modalities_are_fewer_features():
    row = plans.PLANS["modalities"].row("audio")
    assert row.recipe.features == ("audio/ge2e@1", "audio/prosody@1")
    text = plans.PLANS["modalities"].row("text").recipe
    assert text.features == ("text/mpnet-layers@1",)
    assert text.descriptors == ()


def test_crossing_gives_every_combination():
    plan = plans.crossed(("ar-iigcn", "gru"), ("iemocap", "meld"), ((), ("text",)), (False, True))
    assert len(plan.rows) == 2 * 2 * 2 + 2 * 2  # the GRU never looks ahead
    assert len({row.name for row in plan.rows}) == len(plan.rows)


@pytest.mark.parametrize(
    ("told", "found"), [("all", ()), ("audio+text", ("text", "audio")), ("visual", ("visual",))], ids=str
)
def test_modalities_are_read_from_one_word(told, found):
    assert plans.subset(told) == found


def test_what_is_unknown_is_named():
    with pytest.raises(InputError, match="smell"):
        plans.subset("text+smell")
    with pytest.raises(InputError, match="bert: it is one of ar-iigcn"):
        plans.crossed(("bert",), ("iemocap",), ((),), (False,))
    with pytest.raises(InputError, match="gru only ever looks back"):
        plans.crossed(("gru",), ("iemocap",), ((),), (True,))
