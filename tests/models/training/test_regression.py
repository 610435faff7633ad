from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import f1_score

from mer_agent.errors import CheckpointError
from mer_agent.models import checkpoint
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.live import live_parts, train_live
from mer_agent.models.training import verdicts
from mer_agent.models.training.regression import check, compare, weighted_f1

SPECS = [FeatureSpec("text/x@1", "text", 4)]


def model(seed: int) -> ARIIGCN:
    torch.manual_seed(seed)
    return ARIIGCN(SPECS, 3, Shape(dimension=8, hidden=8)).eval()


def part(labels: torch.Tensor) -> Batch:
    torch.manual_seed(1)
    n = len(labels)
    there = torch.ones(n, dtype=torch.bool)
    nobody = torch.zeros(n, dtype=torch.int64)
    return Batch({"text/x@1": torch.randn(n, 4)}, {"text/x@1": there}, nobody, torch.arange(n), labels)


def test_weighted_f1_of_each_sample_is_scikit_learns():
    torch.manual_seed(0)
    labels, predicted = torch.randint(3, (2, 50)), torch.randint(3, (2, 50))
    found = weighted_f1(labels * 3 + predicted, 3)
    for row in range(2):
        assert abs(float(found[row]) - 100 * f1_score(labels[row], predicted[row], average="weighted")) < 1e-9


def test_a_model_is_no_worse_than_itself():
    batch = part(torch.randint(3, (200,)))
    said = verdicts.of(model(0), {"a": batch})
    (found,) = compare(said, said, 3)
    assert found.candidate == found.shipped
    assert found.low == found.high == 0
    assert not found.worse


def test_a_much_worse_model_is_found_out_and_the_shipped_one_is_not():
    shipped = model(0)
    batch = part(torch.zeros(300, dtype=torch.int64))
    labels = shipped(batch).logits.argmax(-1)  # so that the shipped one is always right
    batch = Batch(batch.features, batch.present, batch.speakers, batch.dialogue, labels)
    right, wrong = (verdicts.of(model(seed), {"a": batch}) for seed in (0, 3))
    (worse,) = compare(wrong, right, 3)
    (better,) = compare(right, wrong, 3)
    assert worse.worse
    assert not better.worse
    assert better.low > 0


def test_other_utterances_are_not_compared():
    said = {"a": torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8)}
    for other in ({}, {"a": said["a"][:1]}, {"a": said["a"].flip(0)}):
        assert compare(said, other, 3) == []


def cards(monkeypatch: pytest.MonkeyPatch, **features: str) -> None:
    """Checkpoints by name, each of one feature."""

    def load(name: str):
        specs = [FeatureSpec(features[name], "text", 4)]
        return model(len(name)), SimpleNamespace(name=name, labels=("a", "b", "c"), features=specs, sha256=name)

    monkeypatch.setattr(checkpoint, "load_live", load)
    monkeypatch.setattr(train_live, "RECIPE", SimpleNamespace(features=("text/x@1",)))


def test_a_model_of_features_that_nobody_makes_any_more_is_no_candidate(monkeypatch: pytest.MonkeyPatch):
    cards(monkeypatch, old="text/x@0", live="text/x@1")
    with pytest.raises(CheckpointError, match=r"old reads text/x@0.*--end-to-end"):
        check("old", "live", Path(), Path(), print)


def test_a_shipped_one_of_other_features_is_held_to_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    cards(monkeypatch, new="text/x@1", live="text/x@0")
    monkeypatch.setattr(checkpoint, "locate", lambda name: tmp_path / f"{name}.json")
    parts = {"a": part(torch.randint(3, (60,)))}
    monkeypatch.setattr(live_parts, "load", lambda *_: SimpleNamespace(valid=parts))
    with pytest.raises(CheckpointError, match="live-verdicts"):
        check("new", "live", Path(), Path(), print)
    once = verdicts.of(model(9), {"b": part(torch.randint(3, (20,)))})
    verdicts.write(tmp_path / "live.json", "live", once)
    with pytest.raises(CheckpointError, match="nothing to compare"):
        check("new", "live", Path(), Path(), print)
    once |= verdicts.of(model(9), parts)
    verdicts.write(tmp_path / "live.json", "live", once)
    said: list[str] = []
    (found,) = check("new", "live", Path(), Path(), said.append)
    assert found == compare(verdicts.of(model(3), parts), once, 3)[0]
    assert said == ["not compared, since live was judged on other utterances there: b"]
