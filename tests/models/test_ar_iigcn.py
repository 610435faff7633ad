"""AR-IIGCN alone: what a later utterance is to an earlier one, which is nothing at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import Batch, FeatureSpec

SPECS = (
    FeatureSpec("text/t@1", "text", 5),
    FeatureSpec("audio/a@1", "audio", 4),
    FeatureSpec("audio/p@1", "audio", 2),
    FeatureSpec("visual/v@1", "visual", 3),
)
CLASSES = 3


def model(**shape: object) -> ARIIGCN:
    torch.manual_seed(0)
    sizes = {"dimension": 8, "hidden": 8, "window": 3, "heads": 2, "rates": True} | shape
    return ARIIGCN(SPECS, CLASSES, Shape(**sizes)).eval()  # type: ignore[arg-type]


def dialogue(length: int, seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        {spec.id: torch.randn(length, spec.dimension, generator=random) for spec in SPECS},
        {spec.id: torch.rand(length, generator=random) < 0.8 for spec in SPECS},
        torch.randint(-1, 3, (length,), generator=random),
        torch.zeros(length, dtype=torch.int64),
        torch.zeros(length, dtype=torch.int64),
    )


@pytest.mark.parametrize("share", [False, True])
def test_gradients_to_the_future_are_exactly_zero(share: bool) -> None:
    batch, causal = dialogue(9), model(share=share)
    rows = {key: value.clone().requires_grad_() for key, value in batch.features.items()}
    output = causal(replace(batch, features=rows))
    told = torch.cat([output.logits, causal.rate(output.states)], 1)
    for at in range(len(batch)):
        gradients = torch.autograd.grad(
            (told[at] * torch.randn(told.shape[1])).sum(), list(rows.values()), retain_graph=True
        )
        assert any(gradient[: at + 1].any() for gradient in gradients)
        assert not any(gradient[at + 1 :].any() for gradient in gradients)


def test_with_a_future_they_are_not() -> None:
    batch, both_ways = dialogue(9), model(future=3)
    rows = {key: value.clone().requires_grad_() for key, value in batch.features.items()}
    both_ways(replace(batch, features=rows)).logits[4].square().sum().backward()
    assert any(value.grad is not None and value.grad[5:].any() for value in rows.values())


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 100), st.integers(0, 100))
def test_another_future_changes_nothing(known: int, more: int, seed: int, other: int) -> None:
    """Features, speakers, absence and length: all that gradients don't see."""
    causal = model()

    def after(seed: int, length: int) -> torch.Tensor:
        past, future = dialogue(known), dialogue(max(1, length), seed)
        whole = Batch(
            {key: torch.cat([past.features[key], future.features[key]]) for key in past.features},
            {key: torch.cat([past.present[key], future.present[key]]) for key in past.present},
            torch.cat([past.speakers, future.speakers]),
            torch.zeros(known + max(1, length), dtype=torch.int64),
            torch.zeros(known + max(1, length), dtype=torch.int64),
        )
        with torch.no_grad():
            logits: torch.Tensor = causal(whole).logits[:known]
        return logits

    torch.testing.assert_close(after(seed, more), after(other, 12 - more), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=12)
@given(st.integers(2, 12), st.data())
def test_what_was_judged_live_stays_whatever_comes(length: int, data: st.DataObject) -> None:
    """To the bit: a judgement is given before the next utterance exists."""
    causal = model()
    at = data.draw(st.integers(1, length - 1))
    said = []
    for seed in data.draw(st.tuples(st.integers(0, 9), st.integers(10, 19))):
        stream, first, second = causal.stream(), dialogue(length), dialogue(length, seed)
        judged = []
        for number in range(length):
            source = first if number < at else second
            features = {key: source.features[key][number] for key in source.features if source.present[key][number]}
            speaker = int(source.speakers[number])
            judged.append(stream.append(str(number), None if speaker < 0 else speaker, features).probabilities)
        said.append(judged[:at])
    assert all(torch.equal(one, other) for one, other in zip(*said, strict=True))
