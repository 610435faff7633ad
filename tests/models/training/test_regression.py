from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import f1_score

from mer_agent.errors import CheckpointError
from mer_agent.models import checkpoint
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import Batch, FeatureSpec
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
    (found,) = compare(model(0), model(0), {"a": batch})
    assert found.candidate == found.shipped
    assert found.low == found.high == 0
    assert not found.worse


def test_a_much_worse_model_is_found_out_and_the_shipped_one_is_not():
    shipped = model(0)
    batch = part(torch.zeros(300, dtype=torch.int64))
    labels = shipped(batch).logits.argmax(-1)  # so that the shipped one is always right
    batch = Batch(batch.features, batch.present, batch.speakers, batch.dialogue, labels)
    (worse,) = compare(model(3), shipped, {"a": batch})
    (better,) = compare(shipped, model(3), {"a": batch})
    assert worse.worse
    assert not better.worse
    assert better.low > 0


def test_a_model_of_features_that_nobody_makes_any_more_is_not_compared(monkeypatch: pytest.MonkeyPatch):
    card = SimpleNamespace(name="old", labels=("a", "b"), features=SPECS)
    monkeypatch.setattr(checkpoint, "load_live", lambda name: (model(0), card))
    with pytest.raises(CheckpointError, match=r"old.st reads text/x@1.*--end-to-end"):
        check("old.st", "live", Path(), Path(), print)
