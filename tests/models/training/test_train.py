"""A tiny run that learns, that can be repeated, and that goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support import tiny_iemocap

from mer_agent.errors import ConfigError, DataError
from mer_agent.models import checkpoint
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.training.evaluate import draw_confusion, judge
from mer_agent.models.training.learner import loss_of
from mer_agent.models.training.recipe import Recipe, drop_features, feature_specs
from mer_agent.models.training.runs import keep, summarise
from mer_agent.models.training.train import flushed_denormals, train

TINY = Recipe(
    features=tiny_iemocap.FEATURES,
    descriptors=tiny_iemocap.DESCRIPTORS,
    shape={"dimension": 16, "hidden": 16, "layers": 1, "heads": 2, "dropout": 0.1, "input_dropout": 0.0},
    epochs=25,
    batch_dialogues=2,
    learning_rate=1e-2,
    average=0.5,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_iemocap.corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return train(TINY, data, 0, folder=folder), folder


def test_it_learns_and_says_so(finished):
    run, folder = finished
    assert run.record["test"]["weighted_f1"] > 70  # chance is 17
    assert run.record["epochs"][0]["loss"] > run.record["epochs"][-1]["loss"]
    saved = json.loads((folder / "ar-iigcn-0.json").read_text())
    assert saved["protocol"] == "clean"
    assert len(saved["epochs"]) == TINY.epochs
    assert len(saved["predictions"]["test"]["called"]) == 30
    assert not list(folder.glob("*.pt"))


def test_the_kept_epoch_is_the_best_on_validation(finished):
    record = finished[0].record
    best = max(epoch["valid"]["weighted_f1"] for epoch in record["epochs"])
    assert record["valid"]["weighted_f1"] == pytest.approx(best)


def test_the_same_seed_gives_the_same_weights(data, finished):
    again = train(TINY, data, 0).model.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in finished[0].model.state_dict().items())
    other = train(replace(TINY, epochs=1), data, 1).model.state_dict()
    assert not torch.equal(other["fusion.match.weight"], again["fusion.match.weight"])


def test_a_stopped_run_goes_on(data, finished, tmp_path):
    class Stop(Exception):  # noqa: N818  # not an error
        pass

    def stop(epoch, loss, score):
        if epoch == 4:
            raise Stop

    with pytest.raises(Stop):
        train(TINY, data, 0, folder=tmp_path, progress=stop)
    seen = []
    run = train(TINY, data, 0, folder=tmp_path, progress=lambda epoch, loss, score: seen.append(epoch))
    assert seen == list(range(5, TINY.epochs))
    expected = finished[0].model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in run.model.state_dict().items())


def test_an_ensemble_is_made_of_runs_with_seeds_of_their_own(data, tmp_path):
    alone = replace(TINY, epochs=3)
    together = replace(alone, shape={**TINY.shape, "members": 2})

    class Stop(Exception):  # noqa: N818  # not an error
        pass

    def stop(epoch, loss, score):
        seen.append(epoch)
        if len(seen) == 4:  # the first member has ended, the second has begun
            raise Stop

    seen = []
    with pytest.raises(Stop):
        train(together, data, 1, folder=tmp_path, progress=stop)
    again = []
    run = train(together, data, 1, folder=tmp_path, progress=lambda epoch, loss, score: again.append(epoch))
    assert again == [1, 2]
    assert not list(tmp_path.glob("*.pt"))
    for member, seed in zip(run.model.members, (2, 3), strict=True):
        expected = train(alone, data, seed).model.state_dict()
        own = member.state_dict()
        assert all(torch.equal(own[key], value) for key, value in expected.items() if key != "temperature")
    assert run.record["epochs"][0]["test"]["weighted_f1"] == pytest.approx(run.record["test"]["weighted_f1"])
    model, card = checkpoint.load(keep(run, tmp_path, "two"))
    assert judge(model, card, data)["weighted_f1"] == pytest.approx(run.record["test"]["weighted_f1"])
    with pytest.raises(ConfigError, match="gru has no ensemble"):
        train(replace(together, model="gru"), data, 0)


def test_another_recipe_does_not_go_on_from_it(data, tmp_path):
    def stop(*at):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, data, 0, folder=tmp_path, progress=stop)
    with pytest.raises(DataError, match="another recipe"):
        train(replace(TINY, epochs=3), data, 0, folder=tmp_path)


def test_the_floor_learns_too(data):
    recipe = replace(TINY, model="gru", shape={"units": 16, "dropout": 0.1}, modal_weight=0)
    run = train(recipe, data, 0)
    assert run.record["test"]["weighted_f1"] > 60


def test_features_are_dropped_as_asked(data):
    specs = feature_specs(data.part("train"), TINY)
    generator = torch.Generator().manual_seed(0)
    batch = data.part("train")
    whole = drop_features(batch, specs, replace(TINY, drop_modality=0, drop_utterance=0), generator)
    assert all(torch.equal(whole.present[s.id], batch.present[s.id]) for s in specs)
    some = drop_features(batch, specs, replace(TINY, drop_modality=1, drop_utterance=0), generator)
    for dialogue in batch.dialogue.unique():
        rows = batch.dialogue == dialogue
        text = some.present["text/mpnet@1"][rows]
        audio = torch.stack([some.present["audio/ge2e@1"][rows], some.present["audio/prosody@1"][rows]])
        assert bool(text.all()) != bool(audio.all())  # one of the two modalities went, as a whole
        assert bool(text.any()) != bool(audio.any())


def test_statistics_come_from_the_training_split(data):
    specs = feature_specs(data.part("train"), TINY)
    prosody = data.part("train").features["audio/prosody@1"]
    assert specs[2].mean[1] == pytest.approx(float(prosody[:, 1].mean()), rel=1e-4)
    assert specs[2].names == tiny_iemocap.DESCRIPTORS
    assert all(abs(value) < 1e6 for value in specs[2].mean)  # NaNs left out


def test_a_run_becomes_a_checkpoint_that_scores_the_same(data, finished, tmp_path):
    run = finished[0]
    path = keep(run, tmp_path, "tiny", {"five_seeds": summarise([run.record, run.record])})
    model, card = checkpoint.load(path)
    result = judge(model, card, data)
    assert result["weighted_f1"] == pytest.approx(run.record["test"]["weighted_f1"])
    assert result["ece"] == pytest.approx(run.record["test"]["ece"], abs=1e-3)
    assert card.figures["five_seeds"]["test"]["weighted_f1_deviation"] == 0
    assert card.training["seed"] == 0
    assert set(result["subsets"]) == {"text", "audio", "text+audio"}
    assert result["subsets"]["text+audio"] == result["weighted_f1"]
    assert {kind: figure["n"] for kind, figure in result["kinds"].items()} == {"improvised": 20, "scripted": 10}
    assert sum(map(sum, result["confusion"])) == result["n"] == 30
    with pytest.raises(DataError, match="visual"):
        judge(model, card, data, modalities=["visual"])
    json.dumps(result)


def test_the_confusion_is_drawn(data, finished, tmp_path):
    pytest.importorskip("matplotlib")
    model, card = checkpoint.load(keep(finished[0], tmp_path, "tiny"))
    draw_confusion(judge(model, card, data), tmp_path / "pictures" / "confusion.png")
    assert (tmp_path / "pictures" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_ratings_help_only_where_there_are_any(data):
    batch = data.part("train")
    ratings = torch.full((len(batch), 3), float("nan"))
    ratings[0] = torch.tensor([3.0, 4.0, 5.0])
    batch = replace(batch, affect=ratings)
    output = Output(torch.zeros(len(batch), 6), affect=torch.ones(len(batch), 3))
    without = loss_of(output, batch, TINY)
    with_them = loss_of(output, batch, replace(TINY, affect_weight=0.5))
    assert float(with_them - without) == pytest.approx(0.5 * (1 + 0 + 1) / 3)


def test_a_loss_that_explodes_is_told(data):
    with pytest.raises(DataError, match="learning rate"):
        train(replace(TINY, learning_rate=float("inf"), epochs=2), data, 0)


def test_tiny_numbers_are_zeros_while_it_trains_and_not_after():
    tiny = torch.full((64,), 1e-39)
    with flushed_denormals():
        assert (tiny * 1).eq(0).all()
        with flushed_denormals():
            assert (tiny * 1).eq(0).all()
        assert (tiny * 1).eq(0).all()
    assert (tiny * 1).gt(0).all()
