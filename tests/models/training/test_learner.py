"""What a recipe may add to the loss: each part can be switched off, stopped and resumed, and teaches what it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import tiny_iemocap

from mer_agent.errors import ConfigError
from mer_agent.models.adversarial import Adversary
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import NO_LABEL, Batch, presence
from mer_agent.models.objectives import READINGS
from mer_agent.models.registry import MODELS
from mer_agent.models.training.learner import class_weights, loss_of
from mer_agent.models.training.recipe import Recipe, feature_specs
from mer_agent.models.training.train import train

SMALL = Recipe(
    features=tiny_iemocap.FEATURES,
    descriptors=tiny_iemocap.DESCRIPTORS,
    shape={"dimension": 8, "hidden": 8, "layers": 1, "heads": 2},
    epochs=4,
    batch_dialogues=4,
    learning_rate=1e-2,
)
EVERYTHING = replace(SMALL, w1=0.1, w2=0.1, w3=0.1, scl=0.1, adversary={"paired": 0.5}, balance=0.5, focal=1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    corpus = tiny_iemocap.corpus(tmp_path_factory.mktemp("data"))
    ratings = torch.randn(len(corpus.batch), 3, generator=torch.Generator().manual_seed(0)) + 3
    return replace(corpus, batch=replace(corpus.batch, affect=ratings))


def weights(run):
    return run.model.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_weight_of_zero_is_the_run_without(data):
    settings = {"contrast": {"margin": 0.3}, "adversary": {"form": "literal", "paired": 2.0}}
    assert same(weights(train(SMALL, data, 0)), weights(train(replace(SMALL, **settings), data, 0)))


@pytest.mark.parametrize(
    "part",
    [
        {"w1": 0.1},
        *({"w2": 0.1, "contrast": {"reading": reading}} for reading in READINGS),
        {"scl": 0.1},
        {"sccl": 0.1},
        {"balance": 1.0},
        {"focal": 2.0},
    ],
)
def test_each_part_changes_what_is_learned(data, part):
    recipe = replace(SMALL, epochs=1)
    assert not same(weights(train(recipe, data, 0)), weights(train(replace(recipe, **part), data, 0)))


def test_readings_are_not_alike(data):
    runs = [
        weights(train(replace(SMALL, epochs=1, w2=1.0, contrast={"reading": reading}), data, 0)) for reading in READINGS
    ]
    assert not any(same(one, other) for k, one in enumerate(runs) for other in runs[:k])


def test_the_adversarial_stage_teaches_generators_and_spaces(data):
    recipe = replace(SMALL, epochs=1)
    without = weights(train(replace(recipe, shape={**recipe.shape, "generators": True}), data, 0))
    for form in ("non-saturating", "literal"):
        taught = weights(train(replace(recipe, w3=1.0, adversary={"form": form}), data, 0))
        assert taught.keys() == without.keys()  # the discriminators stay behind
        assert not torch.equal(taught["generators.produce.0.2.weight"], without["generators.produce.0.2.weight"])
        assert not torch.equal(taught["spaces.0.mlp.3.weight"], without["spaces.0.mlp.3.weight"])


def test_a_generators_gradient_reaches_its_sources_alone(data):
    batch = data.part("train")
    specs = feature_specs(batch, SMALL)
    model = MODELS["ar-iigcn"](specs, 6, {**SMALL.shape, "generators": True})
    stage = Adversary(2, 8, generators=model.generators)
    output = model(batch)
    only_audio = presence(batch.present, specs)
    only_audio[:, 0] = False  # the words are missing, so audio is what text is generated from
    stage.generator_loss(output.spaces, only_audio).backward()
    assert not any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.spaces[0].parameters())
    assert model.spaces[1].mlp[3].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in stage.discriminators.parameters())


def test_a_stopped_run_with_everything_is_the_run_that_never_stopped(data, tmp_path):
    whole = weights(train(EVERYTHING, data, 0))

    def stop(epoch, loss, score):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(EVERYTHING, data, 0, folder=tmp_path, progress=stop)
    assert same(weights(train(EVERYTHING, data, 0, folder=tmp_path)), whole)


@pytest.mark.parametrize(
    ("model", "part", "message"),
    [
        ("gru", {"w1": 0.1}, "no vector for each modality"),
        ("gru", {"sccl": 0.1}, "valence"),
        ("gru", {"w3": 0.1}, "no generators"),
        ("ar-iigcn", {"w3": 0.1, "features": ("text/mpnet@1",), "descriptors": ()}, "two modalities"),
        ("ar-iigcn", {"w1": 0.1, "contrast": {"margn": 1}}, "margn"),
        ("ar-iigcn", {"w3": 0.1, "adversary": {"form": "saturating"}}, "saturating"),
    ],
)
def test_what_a_model_has_no_part_for_is_refused(data, model, part, message):
    shape = {} if model == "gru" else SMALL.shape
    with pytest.raises(ConfigError, match=message):
        train(replace(SMALL, model=model, shape=shape, **part), data, 0)


def test_prototypes_need_ratings(data):
    unrated = replace(data, batch=replace(data.batch, affect=None))
    with pytest.raises(ConfigError, match="no ratings"):
        train(replace(SMALL, sccl=0.1), unrated, 0)


def test_class_weights_even_out_frequencies():
    labels = torch.tensor([0] * 8 + [1] * 2 + [NO_LABEL])
    assert class_weights(labels, 3, 0.0).tolist() == [1, 1, 0]
    even = class_weights(labels, 3, 1.0)
    assert even[1] / even[0] == pytest.approx(4)
    assert (even[labels[:10]]).mean() == pytest.approx(1)


def test_the_focal_loss_forgets_what_is_known():
    zeros = torch.zeros(3, dtype=torch.int64)
    batch = Batch({}, {}, zeros, zeros, torch.tensor([0, 0, NO_LABEL]))
    output = Output(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]]))
    recipe = replace(SMALL, label_smoothing=0.0, focal=2.0)
    first, second = torch.tensor(0.5), torch.tensor([4.0, 0.0]).softmax(0)[0]
    expected = ((1 - first) ** 2 * -first.log() + (1 - second) ** 2 * -second.log()) / 2
    assert float(loss_of(output, batch, recipe)) == pytest.approx(float(expected))
