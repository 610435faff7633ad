"""Checkpoints: there and back, and everything that must be refused; then the one that is shipped."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
import torch

from mer_agent.errors import CheckpointError
from mer_agent.models import checkpoint
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import FeatureSpec
from mer_agent.models.registry import MODELS

SPECS = (
    FeatureSpec("text/mpnet@1", "text", 6, mean=(0.5,) * 6, deviation=(1.5,) * 6),
    FeatureSpec("audio/prosody@1", "audio", 2, names=("duration_s", "hnr_db_mean")),
)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = ARIIGCN(SPECS, 3, Shape(dimension=8, hidden=8, heads=2)).eval()
    model.temperature.fill_(1.7)
    path = checkpoint.save(
        tmp_path,
        model,
        name="mine",
        label_set="three",
        labels=("a", "b", "c"),
        data="made up",
        terms="none",
        figures={"weighted_f1": 1.0},
        training={"seed": 0},
    )
    return path, model


def test_there_and_back(saved):
    path, model = saved
    turn = {"text/mpnet@1": torch.randn(6), "audio/prosody@1": torch.tensor([1.0, float("nan")])}
    expected = model.stream().append("u", 0, turn).probabilities
    for name in (path, path.with_suffix(".safetensors"), str(path)):
        loaded, card = checkpoint.load(name)
        assert torch.equal(loaded.stream().append("u", 0, turn).probabilities, expected)
    assert card.features == SPECS
    assert (card.label_set, card.labels) == ("three", ("a", "b", "c"))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_unknown_names_are_told_with_the_known_ones():
    with pytest.raises(CheckpointError, match=r"'emocap'.*iemocap6"):
        checkpoint.load("emocap")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoint.load("nowhere/x.safetensors")


@pytest.mark.parametrize("cut", [0, 7, 500, -1])
def test_a_truncated_file_is_refused(saved, cut):
    weights = saved[0].with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="sha256"):
        checkpoint.load(saved[0])


def test_a_missing_file_is_refused(saved):
    saved[0].with_suffix(".safetensors").unlink()
    with pytest.raises(CheckpointError, match="can't read"):
        checkpoint.load(saved[0])


def rewrite(path, edit):
    card = json.loads(path.read_text())
    edit(card)
    path.write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("labels"), "malformed"),
        (lambda c: c.update(extra=1), "malformed"),
        (lambda c: c["features"][0].pop("dimension"), "malformed"),
        (lambda c: c["features"][0].update(modality="smell"), "malformed"),
        (lambda c: c.update(features=[]), "malformed"),
        (lambda c: c.update(format=99), "format 99"),
        (lambda c: c["shape"].update(dimension=16), "does not fit its card"),
        (lambda c: c["shape"].update(flavour=16), "does not fit its card"),
        (lambda c: c.update(labels=["a", "b"]), "does not fit its card"),
        (lambda c: c.update(model="oracle"), "'oracle'; this version knows ar-iigcn"),
        (lambda c: c.update(model="gru"), "does not fit its card"),
    ],
)
def test_a_bad_card_is_refused(saved, edit, message):
    rewrite(saved[0], edit)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(saved[0])
    saved[0].write_text("{")
    with pytest.raises(CheckpointError, match="malformed"):
        checkpoint.load(saved[0])


def test_features_of_another_recipe_are_refused_by_name(saved):
    path = saved[0]
    checkpoint.load(path, {"text/mpnet@1": 6, "audio/prosody@1": 2})
    checkpoint.load(path, {"audio/prosody@1": 2})  # what is not here is absent
    with pytest.raises(CheckpointError, match=r"not trained on text/mpnet@2: it takes text/mpnet@1"):
        checkpoint.load(path, {"text/mpnet@2": 6})
    with pytest.raises(CheckpointError, match=r"text/mpnet@1 of 6 numbers, not of 7"):
        checkpoint.load(path, {"text/mpnet@1": 7})
    with pytest.raises(CheckpointError, match="at least one"):
        checkpoint.load(path, {})
    card = checkpoint.read_card(path)
    card.check("audio/prosody@1", 2, ("duration_s", "hnr_db_mean"))
    with pytest.raises(CheckpointError, match="hnr_db_mean, duration_s"):
        card.check("audio/prosody@1", 2, ("hnr_db_mean", "duration_s"))


def kept(folder, name, shape):
    model = MODELS[name](SPECS, 3, shape).eval()
    return checkpoint.save(
        folder,
        model,
        name="other",
        model_name=name,
        specs=SPECS,
        shape=shape,
        label_set="three",
        labels=("a", "b", "c"),
        data="made up",
        terms="none",
        figures={},
        training={},
    )


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("gru", {"units": 4}, "whole dialogues"),
        ("dialogue-rnn", {"causal": True}, "whole dialogues"),
        ("ar-iigcn", {"dimension": 8, "hidden": 8, "heads": 2, "future": 10}, "future"),
    ],
)
def test_only_what_can_stream_runs_live(tmp_path, saved, name, shape, message):
    path = kept(tmp_path, name, shape)
    assert checkpoint.load(path)[1].modalities == ("text", "audio")
    with pytest.raises(CheckpointError, match=f"(?s){message}.*take a checkpoint of ar-iigcn"):
        checkpoint.load_live(path)
    assert checkpoint.load_live(saved[0])[1].name == "mine"


def test_the_shipped_one_judges_with_any_modalities():
    model, card = checkpoint.load("iemocap6")
    assert card.label_set == "iemocap6"
    assert len(card.labels) == 6
    weights = checkpoint.SHIPPED / "iemocap6.safetensors"
    assert weights.stat().st_size < 20e6
    generator = torch.Generator().manual_seed(0)
    for size in range(len(card.features) + 1):
        for some in combinations(card.features, size):
            stream = model.stream()
            for number in range(25):
                features = {s.id: torch.randn(s.dimension, generator=generator) for s in some}
                judged = stream.append(f"u{number}", [0, 1, None][number % 3], features)
            assert judged.probabilities.isfinite().all()
            assert float(judged.probabilities.sum()) == pytest.approx(1, abs=1e-5)


def test_the_shipped_card_tells_what_it_must():
    card = checkpoint.read_card(checkpoint.SHIPPED / "iemocap6.json")
    assert "research" in card.terms
    assert card.figures["protocol"] == "clean"
    five = card.figures["five_seeds"]
    assert len(five["seeds"]) == 5
    assert five["test"]["weighted_f1_mean"] > 67.4  # the floor: a plain past-only GRU
    for spec in card.features:
        assert spec.mean is not None
        assert len(spec.mean) == len(spec.deviation) == spec.dimension
        assert len(spec.names) in (0, spec.dimension)
