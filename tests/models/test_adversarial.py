"""The adversarial stage: who learns from which loss, what is masked, and that it learns at all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mer_agent.models.adversarial import Adversary

D = 6


def spaces_of(n=8, modalities=3, seed=0):
    return torch.randn(n, modalities, D, generator=torch.Generator().manual_seed(seed))


def all_present(n=8, modalities=3):
    return torch.ones(n, modalities, dtype=torch.bool)


def adversary(modalities=3, **options):
    torch.manual_seed(1)
    return Adversary(modalities, D, 10, **options)


def reached(module):
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


@pytest.mark.parametrize("sources", ["joint", "each"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_the_discriminators_step_reaches_the_discriminators_only(modalities, sources):
    stage = adversary(modalities, sources=sources)
    spaces = spaces_of(modalities=modalities).requires_grad_()
    stage.discriminator_loss(spaces, all_present(modalities=modalities)).backward()
    assert all(reached(stage.discriminators))
    assert not any(reached(stage.generators))
    assert spaces.grad is None


@pytest.mark.parametrize("form", ["non-saturating", "literal"])
@pytest.mark.parametrize("sources", ["joint", "each"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_the_generators_step_reaches_generators_and_sources_only(modalities, sources, form):
    stage = adversary(modalities, sources=sources, form=form)
    mlps = nn.ModuleList(nn.Linear(4, D) for _ in range(modalities))
    inputs = torch.randn(8, modalities, 4)
    spaces = torch.stack([mlp(inputs[:, m]) for m, mlp in enumerate(mlps)], 1)
    stage.generator_loss(spaces, all_present(modalities=modalities)).backward()
    assert all(any(reached(mlp)) for mlp in mlps)
    assert all(any(reached(part)) for part in stage.generators.produce)
    assert all(parameter.grad is None for parameter in stage.discriminators.parameters())
    assert all(parameter.requires_grad for parameter in stage.discriminators.parameters())


def test_a_generator_reads_every_modality_but_its_own():
    stage, spaces = adversary(), spaces_of().requires_grad_()
    for target in range(3):
        fake, rows = stage.generators(target, spaces, all_present())
        assert rows.tolist() == list(range(8))
        (gradient,) = torch.autograd.grad(fake.square().sum() + fake.sum(), spaces)
        assert [bool(gradient[:, m].any()) for m in range(3)] == [m != target for m in range(3)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("sources", ["joint", "each"])
def test_the_losses_are_those_of_the_formulas(sources):
    spaces, present = spaces_of(), all_present()
    present[0, 0] = present[1, 1] = present[1, 2] = present[2, 0] = present[2, 1] = False
    real_and_doubt, saturating, non_saturating = [], [], []
    stage = adversary(sources=sources)
    for m in range(3):
        others = [n for n in range(3) if n != m]
        groups = [others] if sources == "joint" else [[n] for n in others]
        judge = stage.discriminators[m]
        reals = [sigmoid(judge(spaces[i, m]).item()) for i in range(8) if present[i, m]]
        doubt, fooled, missed = [], [], []
        for group in groups:
            fakes = []
            for i in range(8):
                there = [n for n in group if present[i, n]]
                if there:
                    parts = [stage.generators.project[m][others.index(n)](spaces[i, n]) for n in there]
                    fake = stage.generators.produce[m](torch.stack(parts).mean(0))
                    fakes.append(sigmoid(judge(fake).item()))
            doubt.append(sum(-math.log(1 - f) for f in fakes) / len(fakes))
            missed.append(sum(math.log(1 - f) for f in fakes) / len(fakes))
            fooled.append(sum(-math.log(f) for f in fakes) / len(fakes))
        real_and_doubt.append(sum(-math.log(r) for r in reals) / len(reals) + sum(doubt) / len(doubt))
        saturating.append(sum(missed) / len(missed))
        non_saturating.append(sum(fooled) / len(fooled))
    assert stage.discriminator_loss(spaces, present).item() == pytest.approx(sum(real_and_doubt) / 3, rel=1e-4)
    assert stage.generator_loss(spaces, present).item() == pytest.approx(sum(non_saturating) / 3, rel=1e-4)
    literal = adversary(sources=sources, form="literal")
    assert literal.generator_loss(spaces, present).item() == pytest.approx(sum(saturating) / 3, rel=1e-4)


@pytest.mark.parametrize("sources", ["joint", "each"])
def test_what_is_missing_is_never_read(sources):
    stage, present = adversary(sources=sources, paired=1.0), all_present()
    present[::2, 0] = False
    present[3] = False
    spaces = spaces_of()
    poisoned = spaces.clone()
    poisoned[~present] = float("nan")
    poisoned.requires_grad_()
    assert stage.discriminator_loss(poisoned, present) == stage.discriminator_loss(spaces, present)
    loss = stage.generator_loss(poisoned, present)
    assert loss == stage.generator_loss(spaces, present)
    loss.backward()
    assert poisoned.grad.isfinite().all()
    assert not poisoned.grad[~present].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stage.parameters())


@pytest.mark.parametrize("kept", [None, 1])
def test_a_batch_without_anything_to_compare_teaches_nothing(kept):
    stage, present = adversary(), torch.zeros(8, 3, dtype=torch.bool)
    if kept is not None:
        present[:, kept] = True  # one modality alone: its real vectors have no generated ones to be told from
    spaces = spaces_of().requires_grad_()
    loss = stage.discriminator_loss(spaces, present)
    loss.backward()
    assert loss == 0
    assert not any(reached(stage.discriminators))
    other = stage.generator_loss(spaces, present)
    other.backward()
    assert other.isfinite()


def test_imputing_fills_what_is_missing_and_nothing_else():
    stage, present, spaces = adversary(), all_present(), spaces_of()
    present[0, 0] = present[1, 1] = present[1, 2] = False
    present[2] = False
    filled = stage.impute(spaces, present)
    untouched = present.clone()
    untouched[2] = True  # nothing to generate from
    assert torch.equal(filled[untouched], spaces[untouched])
    assert not torch.isclose(filled[~untouched], spaces[~untouched]).all(-1).any()
    generated, rows = stage.generators(0, spaces, present)
    assert torch.equal(filled[0, 0], generated[rows.tolist().index(0)])


def test_imputing_one_utterance_is_imputing_it_among_others():
    stage, present, spaces = adversary(2), all_present(modalities=2), spaces_of(modalities=2)
    present[::3, 1] = False
    whole = stage.impute(spaces, present)
    for i in range(8):
        torch.testing.assert_close(stage.impute(spaces[i : i + 1], present[i : i + 1])[0], whole[i])


def test_one_modality_and_unknown_options_are_refused():
    with pytest.raises(ValueError, match="two modalities"):
        Adversary(1, D)
    with pytest.raises(ValueError, match="no adversarial form"):
        Adversary(2, D, form="wasserstein")


def corpus(n):
    """Modality 1 is a rotation of modality 0: what is missing can be known."""
    generator = torch.Generator().manual_seed(3)
    first = nn.functional.layer_norm(torch.randn(n, D, generator=generator), (D,))
    return torch.stack([first, first.roll(1, -1)], 1)


@pytest.mark.parametrize("form", ["non-saturating", "literal"])
def test_a_discriminator_alone_tells_and_a_generator_in_turn_misleads(form):
    stage, spaces, present = adversary(2, form=form), corpus(64) + 1.0, all_present(64, 2)
    judges = torch.optim.Adam(stage.discriminators.parameters(), lr=1e-2)
    makers = torch.optim.Adam(stage.generators.parameters(), lr=1e-2)
    for _ in range(100):
        judges.zero_grad()
        told = stage.discriminator_loss(spaces, present)
        told.backward()
        judges.step()
    assert told < 0.5  # 2 log 2 = 1.39 is not knowing
    for _ in range(100):
        makers.zero_grad()
        stage.generator_loss(spaces, present).backward()
        makers.step()
    assert stage.discriminator_loss(spaces, present) > 2 * told


def test_turns_with_pairs_impute_better_than_the_mean():
    stage, present = adversary(2, paired=1.0), all_present(200, 2)
    spaces = corpus(300)
    seen, unseen = spaces[:200], spaces[200:]
    judges = torch.optim.Adam(stage.discriminators.parameters(), lr=1e-3)
    makers = torch.optim.Adam(stage.generators.parameters(), lr=1e-2)
    for _ in range(250):
        judges.zero_grad()
        stage.discriminator_loss(seen, present).backward()
        judges.step()
        makers.zero_grad()
        stage.generator_loss(seen, present).backward()
        makers.step()
    covered = torch.tensor([[True, False]]).expand(100, 2)
    error = (stage.impute(unseen, covered)[:, 1] - unseen[:, 1]).square().mean()
    assert error < 0.3 * (unseen[:, 1] - seen[:, 1].mean(0)).square().mean()
