"""The parts around the graph."""

from __future__ import annotations

import pytest
import torch

from mer_agent.models.batch import FeatureSpec
from mer_agent.models.layers import Dropout, MatchingAttention, Moments, Normalise, SeparateSpace, Standardise

NAN = float("nan")


def test_undefined_and_ignored_numbers_are_the_mean():
    spec = FeatureSpec("a/p@1", "audio", 3, (1.0, 2.0, 3.0), (2.0, 1.0, 1.0), names=("x", "y", "z"), ignored=("z",))
    rows = torch.tensor([[3.0, NAN, 9.0], [1.0, 3.0, NAN], [1e9, 2.0, 0.0]])
    assert Normalise(spec)(rows).tolist() == [[1, 0, 0], [0, 1, 0], [5, 0, 0]]


def test_without_statistics_only_nan_changes():
    assert Normalise(FeatureSpec("a/p@1", "audio", 2))(torch.tensor([0.5, NAN])).tolist() == [0.5, 0]


def test_an_absent_feature_is_never_read():
    torch.manual_seed(0)
    specs = [FeatureSpec("a/x@1", "audio", 3), FeatureSpec("a/y@1", "audio", 2)]
    space = SeparateSpace(specs, 4, dropout=0, input_dropout=0)
    present = {"a/x@1": torch.tensor([True, False]), "a/y@1": torch.tensor([True, True])}
    features = {"a/x@1": torch.randn(2, 3), "a/y@1": torch.randn(2, 2)}
    first = space(features, present)
    changed = features["a/x@1"].clone()
    changed[1] = 100
    assert torch.equal(space(features | {"a/x@1": changed}, present), first)
    zeros = space(features | {"a/x@1": torch.zeros(2, 3)}, {k: torch.ones(2, dtype=torch.bool) for k in present})
    assert not torch.allclose(zeros[1], first[1])  # absent is something else than zeros


def test_matching_attention_by_hand():
    torch.manual_seed(0)
    fusion = MatchingAttention(4)
    states = torch.randn(5, 3, 4)
    rows = []
    for state in states:
        parts = []
        for m in range(3):
            raw = torch.stack([(fusion.match.weight @ state[m]) @ state[n] / 2 for n in range(3)])
            parts.append(state[m] + sum(w * state[n] for n, w in enumerate(raw.softmax(0))))
        rows.append(torch.cat(parts))
    assert torch.allclose(fusion(states), torch.stack(rows), atol=1e-6)


def test_dropout_drops_its_share_scales_the_rest_and_does_nothing_after_training():
    torch.manual_seed(0)
    dropout, ones = Dropout(0.3), torch.ones(1000, 101, dtype=torch.bfloat16)
    found = dropout(ones)
    assert found.dtype == torch.bfloat16
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert found.float().mean().item() == pytest.approx(1, abs=0.01)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(256 / 179, dtype=torch.bfloat16).item()}
    assert dropout.eval()(ones) is ones


def test_steps_are_scaled_by_those_that_training_has_shown_and_no_others():
    torch.manual_seed(0)
    scale, steps = Standardise(3), torch.randn(4, 6, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 8.0, 1.0])
    there = torch.rand(4, 6) < 0.7
    for some, known in zip(steps.split(2), there.split(2), strict=True):
        scale.train()(some.masked_fill(~known[..., None], 1e9), known)
    found = scale.eval()(steps, there)[there]
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    assert torch.equal(scale(steps, there)[there], found), "what is judged changes nothing"


def test_moments_are_mean_and_deviation_of_what_is_there():
    torch.manual_seed(0)
    moments, steps = Moments(3, 5, 0.0), torch.randn(1, 6, 3)
    there = torch.tensor([[True, True, True, False, False, False]])
    known = steps[0, :3]
    expected = moments.project(torch.cat([known.mean(0), known.std(0, correction=0)]))
    torch.testing.assert_close(moments(steps, there)[0, 0], expected, atol=1e-4, rtol=0)
    assert moments(steps, torch.zeros_like(there)).isfinite().all()
