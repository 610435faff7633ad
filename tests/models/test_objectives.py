"""The contrastive losses against slow, literal versions, a library's, and what must hold for any batch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss

from mer_agent.models.batch import NO_LABEL, Batch, FeatureSpec, presence
from mer_agent.models.objectives import READINGS, Contrast, class_means, iccl, icl, imcl, sccl, scl, total

NAN = float("nan")


def example(seed=0, n=7, modalities=3, d=4, classes=3):
    """States, labels and presence with missing modalities and an utterance without label."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(n, modalities, d, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    labels[n // 2] = NO_LABEL
    present = torch.rand(n, modalities, generator=generator) < 0.8
    return states, labels, present


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def literal(states, labels, present, is_positive, is_negative, *, margin, temperature, regulariser):
    """The formulas of `contrast_pairs` with a loop for every sum; a node is (utterance, modality)."""
    n, modalities, _ = states.shape
    nodes = [(i, m) for i in range(n) for m in range(modalities) if present[i, m] and labels[i] != NO_LABEL]
    ratio, raised, lowered = [], [], []
    for i in nodes:

        def s(j, i=i):
            return cosine(states[i].tolist(), states[j].tolist()) / temperature

        def relation(j, i=i):
            return bool(labels[i[0]] == labels[j[0]]), i[1] == j[1]

        positives = [s(j) - margin / temperature for j in nodes if j != i and is_positive(*relation(j))]
        negatives = [s(j) for j in nodes if j != i and is_negative(*relation(j))]
        if positives:
            against = sum(math.exp(x) for x in negatives)
            ratio.append(sum(-math.log(math.exp(p) / (math.exp(p) + against)) for p in positives) / len(positives))
            raised.append(sum(-math.log(1 / (1 + math.exp(-p))) for p in positives) / len(positives))
        if negatives:
            lowered.append(sum(-math.log(1 - 1 / (1 + math.exp(-x))) for x in negatives) / len(negatives))

    def mean(values):
        return sum(values) / len(values) if values else 0.0

    return mean(ratio) + regulariser * (mean(raised) + mean(lowered))


PAIRS = {
    "introduction": (lambda c, m: c and not m, lambda c, m: not c and m),
    "definition": (lambda c, m: c and m, lambda c, m: not c and not m),
    "closing": (lambda c, m: c and m, lambda c, m: c and not m),
}


@pytest.mark.parametrize("regulariser", [0.0, 0.7])
@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_iccl_is_what_its_formula_says(seed, modalities, regulariser):
    batch = example(seed, modalities=modalities)
    expected = literal(
        *batch, lambda c, m: c and m, lambda c, m: not c and m, margin=0.0, temperature=0.3, regulariser=regulariser
    )
    assert iccl(*batch, temperature=0.3, regulariser=regulariser).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.4])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("seed", range(4))
def test_imcl_is_what_its_formula_says(seed, reading, margin):
    batch = example(seed)
    chosen = {"margin": margin, "temperature": 0.3, "regulariser": 0.5}
    assert imcl(*batch, reading=reading, **chosen).item() == pytest.approx(
        literal(*batch, *PAIRS[reading], **chosen), rel=1e-9
    )


def test_an_unknown_reading_is_refused():
    with pytest.raises(ValueError, match="introduction, definition, closing"):
        imcl(*example(), reading="opening")


@pytest.mark.parametrize("reading", READINGS)
def test_gradients(reading):
    states, labels, present = example(1, n=5, d=3)
    states.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: iccl(x, labels, present), states)
    assert torch.autograd.gradcheck(lambda x: imcl(x, labels, present, reading=reading), states)


def test_gradients_of_the_comparison_losses():
    states, labels, _ = example(2, n=6, d=3)
    vectors = states[:, 0].clone().requires_grad_()
    prototypes = torch.randn(3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: scl(x, labels), vectors)
    assert torch.autograd.gradcheck(lambda x: sccl(x, labels, prototypes), vectors)


@pytest.mark.parametrize("seed", range(5))
def test_scl_is_that_of_pytorch_metric_learning(seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(12, 5, generator=generator)
    labels = torch.randint(4, (12,), generator=generator)
    theirs = SupConLoss(temperature=0.2)(vectors, labels)
    assert scl(vectors, labels, temperature=0.2).item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("unit", [True, False])
def test_icl_is_equation_7(unit):
    torch.manual_seed(4)
    vectors, labels = torch.randn(7, 5, dtype=torch.float64), torch.tensor([0, 1, 0, NO_LABEL, 1, 1, 2])
    rows = torch.nn.functional.normalize(vectors, dim=1) if unit else vectors
    known = [i for i in range(7) if labels[i] != NO_LABEL]
    terms = []
    for i in known:
        positives = [p for p in known if p != i and labels[p] == labels[i]]
        if not positives:
            continue  # the only one of its class
        everyone = sum(torch.exp(rows[i] @ rows[j] / 0.3) for j in known if j != i)
        terms.append(-sum(torch.log(torch.exp(rows[i] @ rows[p] / 0.3) / everyone) for p in positives) / len(positives))
    expected = (sum(terms) / len(terms)).item()
    assert icl(vectors, labels, temperature=0.3, unit=unit).item() == pytest.approx(expected, rel=1e-9)


def test_scl_by_hand():
    states, labels, _ = example(3, n=8)
    vectors = states[:, 0]
    rows = []
    kept = [i for i in range(8) if labels[i] != NO_LABEL]
    for i in kept:
        s = {j: cosine(vectors[i].tolist(), vectors[j].tolist()) / 0.2 for j in kept if j != i}
        positives = [j for j in s if labels[j] == labels[i]]
        if positives:
            everyone = sum(math.exp(x) for x in s.values())
            rows.append(sum(-math.log(math.exp(s[p]) / everyone) for p in positives) / len(positives))
    assert scl(vectors, labels, temperature=0.2).item() == pytest.approx(sum(rows) / len(rows), rel=1e-9)


def test_sccl_by_hand():
    affect = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 2], [9, 9, 9], [5, 5, 5]], dtype=torch.float64)
    labels = torch.tensor([1, 1, 3, NO_LABEL, 2])  # nobody rated class 2, class 0 has no member here
    prototypes = torch.tensor([[1.0, 1, 1], [1, 1, 0.5], [NAN, NAN, NAN], [0, -1, 1]], dtype=torch.float64)
    rows = []
    for centre, own in (([0.5, 0.5, 0], 1), ([0, 0, 2], 3)):
        s = {j: cosine(centre, prototypes[j].tolist()) / 0.5 for j in (0, 1, 3)}
        rows.append(-math.log(math.exp(s[own]) / sum(math.exp(x) for x in s.values())))
    assert sccl(affect, labels, prototypes, temperature=0.5).item() == pytest.approx(sum(rows) / 2, rel=1e-9)


def test_class_means_leave_out_who_was_not_rated():
    affect = torch.tensor([[1.0, 2, 3], [3, 4, 5], [NAN, NAN, NAN], [7, 7, 7]])
    means = class_means(affect, torch.tensor([0, 0, 1, NO_LABEL]), 2)
    assert means[0].tolist() == [2, 3, 4]
    assert means[1].isnan().all()


batches = st.builds(
    example,
    seed=st.integers(0, 10_000),
    n=st.integers(1, 9),
    modalities=st.integers(1, 3),
    d=st.integers(1, 5),
    classes=st.integers(1, 4),
)


def every_loss(states, labels, present):
    yield iccl(states, labels, present)
    for reading in READINGS:
        yield imcl(states, labels, present, reading=reading)
    yield scl(states.flatten(1), labels)
    yield sccl(states[:, 0, :1].repeat(1, 3), labels, torch.eye(4, 3, dtype=states.dtype) + 0.1)


@settings(deadline=None, max_examples=60)
@given(batches)
def test_losses_and_gradients_are_numbers_that_are_not_negative(batch):
    states, labels, present = batch
    states.requires_grad_()
    for loss in every_loss(states, labels, present):
        assert loss.isfinite()
        assert loss >= 0
        (gradient,) = torch.autograd.grad(loss, states, allow_unused=False)
        assert gradient.isfinite().all()


@settings(deadline=None, max_examples=40)
@given(batches, st.randoms(use_true_random=False))
def test_order_of_utterances_names_of_classes_and_lengths_do_not_matter(batch, random):
    states, labels, present = batch
    order = list(range(len(labels)))
    random.shuffle(order)
    renamed = torch.where(labels == NO_LABEL, labels, 3 - labels)
    lengths = torch.rand(states.shape[:2], dtype=states.dtype).unsqueeze(-1) + 0.5
    for loss in (iccl, imcl):
        before = loss(states, labels, present)
        torch.testing.assert_close(loss(states[order], labels[order], present[order]), before)
        torch.testing.assert_close(loss(states, renamed, present), before)
        torch.testing.assert_close(loss(states * lengths, labels, present), before)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e4])
def test_extreme_vectors_in_single_precision(scale):
    states, labels, present = example(5)
    states = (states.float() * scale).requires_grad_()
    for loss in (iccl(states, labels, present, temperature=0.01), imcl(states, labels, present, temperature=0.01)):
        assert loss.isfinite()
        assert torch.autograd.grad(loss, states)[0].isfinite().all()


def test_what_is_absent_or_unlabelled_is_never_read():
    states, labels, present = example(6, n=9)
    assert not present.all()
    poisoned = states.clone()
    poisoned[~present] = NAN
    poisoned[labels == NO_LABEL] = NAN
    poisoned.requires_grad_()
    for loss in (iccl, imcl):
        value = loss(poisoned, labels, present)
        assert value == loss(states, labels, present)
        assert torch.autograd.grad(value, poisoned)[0].isfinite().all()


@pytest.mark.parametrize("labels", [[NO_LABEL] * 4, [0, 1, 2, 3]])
def test_a_batch_without_pairs_teaches_nothing(labels):
    states = torch.randn(4, 1, 3, requires_grad=True)
    loss = imcl(states, torch.tensor(labels), torch.ones(4, 1, dtype=torch.bool), reading="closing")
    loss.backward()
    assert loss == 0
    assert not states.grad.any()


def test_a_single_class_is_drawn_together():
    states, _, _ = example(7)
    states.requires_grad_()
    labels, present = torch.zeros(7, dtype=torch.int64), torch.ones(7, 3, dtype=torch.bool)
    for loss in (iccl, imcl):
        assert torch.autograd.grad(loss(states, labels, present), states)[0].abs().sum() > 0  # by the regulariser
        assert loss(states, labels, present, regulariser=0.0) == 0  # the ratio is 1 without negatives: eq. 12's reason


def clusters(*, by_class, by_modality):
    """Unit vectors that tell the class, the modality, both or neither."""
    labels = torch.tensor([0, 0, 1, 1])
    states = torch.zeros(4, 2, 5, dtype=torch.float64)
    states[..., 4] = 1
    for i in range(4):
        for m in range(2):
            states[i, m, labels[i]] += 3 * by_class
            states[i, m, 2 + m] += 3 * by_modality
    return states, labels, torch.ones(4, 2, dtype=torch.bool)


def test_each_reading_prefers_what_it_says():
    shared, mixed = clusters(by_class=True, by_modality=False), clusters(by_class=False, by_modality=True)
    both = clusters(by_class=True, by_modality=True)
    assert iccl(*shared) < iccl(*mixed)
    assert imcl(*shared) < imcl(*both)  # modalities drawn together
    assert imcl(*both, reading="closing") < imcl(*shared, reading="closing")  # and pushed apart
    assert imcl(*shared, reading="definition") < imcl(
        *clusters(by_class=False, by_modality=False), reading="definition"
    )


def test_a_margin_asks_for_more():
    batch = example(8)
    values = [imcl(*batch, margin=margin).item() for margin in (0.0, 0.1, 0.5, 1.0)]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_total_weighs_and_switches_off():
    batch = example(9)
    emotion = torch.tensor(1.5, dtype=torch.float64)
    contrast = Contrast(w1=0.2, w2=0.3, temperature=0.4, regulariser=0.6, margin=0.2, reading="definition")
    first = iccl(*batch, temperature=0.4, regulariser=0.6)
    second = imcl(*batch, reading="definition", margin=0.2, temperature=0.4, regulariser=0.6)
    assert total(emotion, *batch, contrast) == pytest.approx((emotion + 0.2 * first + 0.3 * second).item())
    assert total(emotion, *batch, replace(contrast, w2=0.0)) == pytest.approx((emotion + 0.2 * first).item())
    assert total(emotion, *batch, replace(contrast, w1=0.0)) == pytest.approx((emotion + 0.3 * second).item())
    assert total(emotion, *batch, Contrast()) is emotion


def test_descent_separates_the_classes_across_modalities():
    torch.manual_seed(0)
    states = torch.randn(12, 2, 6, requires_grad=True)
    labels, present = torch.arange(12) % 3, torch.ones(12, 2, dtype=torch.bool)
    optimiser = torch.optim.Adam([states], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        total(torch.zeros(()), states, labels, present, Contrast(w1=1.0, w2=1.0)).backward()
        optimiser.step()
    unit = torch.nn.functional.normalize(states.detach().flatten(0, 1), dim=-1)
    nearest = (unit @ unit.T - 2 * torch.eye(24)).argmax(1)
    of = labels.repeat_interleave(2)
    assert (of[nearest] == of).all()


def test_presence_is_by_modality_in_the_models_order():
    specs = [
        FeatureSpec("audio/a@1", "audio", 1),
        FeatureSpec("text/t@1", "text", 1),
        FeatureSpec("audio/b@1", "audio", 1),
    ]
    flags = {"audio/a@1": [True, False, False], "audio/b@1": [False, True, False], "text/t@1": [False, True, False]}
    ones = torch.zeros(3, dtype=torch.int64)
    batch = Batch({}, {key: torch.tensor(value) for key, value in flags.items()}, ones, ones, ones)
    assert presence(batch.present, specs).tolist() == [[False, True], [True, True], [False, False]]
