"""What holds for every peer: shapes, missing modalities, dialogues apart, no look ahead when causal, learning."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from support import peers
from torch.nn import functional

EVERY = pytest.mark.parametrize("name", peers.PEERS)
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["both-ways", "causal"])


@EVERY
@CAUSAL
def test_it_judges_every_utterance(name, causal):
    batch = peers.batch()
    output = peers.build(name, causal=causal)(batch)
    assert output.logits.shape == (len(batch), peers.CLASSES)
    assert output.modal_logits is None
    assert len(output.logits.unique(dim=0)) > len(batch) // 2  # the utterances are told apart


@EVERY
@CAUSAL
def test_any_features_may_be_missing(name, causal):
    model, batch = peers.build(name, causal=causal), peers.batch()
    ids = [spec.id for spec in peers.SPECS]
    poisoned = {key: torch.full_like(rows, torch.nan) for key, rows in batch.features.items()}
    whole = model(batch).logits
    for count in range(1, len(ids) + 1):
        for gone in combinations(ids, count):
            features = {key: poisoned[key] if key in gone else rows for key, rows in batch.features.items()}
            logits = model(replace(batch.without(gone), features=features)).logits
            assert logits.isfinite().all()
            assert not torch.equal(logits, whole)


@EVERY
def test_a_model_of_one_modality_works(name):
    for modality in ("text", "audio", "visual"):
        specs = [spec for spec in peers.SPECS if spec.modality == modality]
        assert peers.build(name, specs=specs)(peers.batch()).logits.isfinite().all()


@EVERY
@CAUSAL
def test_dialogues_do_not_leak_into_each_other(name, causal):
    model, batch = peers.build(name, causal=causal), peers.batch((4, 9))
    together = model(batch).logits
    alone = [model(batch.dialogues(torch.tensor([dialogue]))).logits for dialogue in (7, 3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


@EVERY
def test_causal_means_no_gradient_from_the_future(name):
    model, batch = peers.build(name, causal=True), peers.batch((8,))
    for i in range(len(batch)):
        rows = {key: value.clone().requires_grad_() for key, value in batch.features.items()}
        logits = model(replace(batch, features=rows, present=batch.without(()).present)).logits
        logits[i].square().sum().backward()
        for key, value in rows.items():
            assert value.grad is None or not value.grad[i + 1 :].any(), f"{key} of a later utterance reached {i}"


@EVERY
def test_causal_means_that_what_comes_changes_nothing(name):
    """Gradients don't see speakers and absence; cutting the dialogue off does."""
    model, batch = peers.build(name, causal=True), peers.batch((8,))
    whole = model(batch).logits
    for i in range(1, len(batch)):
        cut = replace(
            batch,
            features={key: rows[:i] for key, rows in batch.features.items()},
            present={key: rows[:i] for key, rows in batch.present.items()},
            speakers=batch.speakers[:i],
            dialogue=batch.dialogue[:i],
            labels=batch.labels[:i],
        )
        torch.testing.assert_close(model(cut).logits, whole[:i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in peers.PEERS if name not in peers.ALONE | peers.PAST])
def test_both_ways_means_that_the_future_is_seen(name):
    model, batch = peers.build(name), peers.batch((8,))
    changed = {key: rows.clone() for key, rows in batch.features.items()}
    for rows in changed.values():
        rows[-1] += 1
    batch.present["text/t@1"][-1] = True
    assert (model(replace(batch, features=changed)).logits[-2] - model(batch).logits[-2]).abs().max() > 1e-7


@pytest.mark.parametrize("name", sorted(peers.ALONE))
def test_those_that_look_at_one_utterance_do(name):
    model, batch = peers.build(name), peers.batch((6,))
    apart = replace(batch, dialogue=torch.arange(len(batch)))
    torch.testing.assert_close(model(apart).logits, model(batch).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["dialogue-rnn", "dialogue-rnn-listener", "dialogue-gcn", "ctnet", "lr-gcn"])
def test_it_matters_who_speaks(name):
    model, batch = peers.build(name), peers.batch((8,))
    assert not torch.allclose(model(replace(batch, speakers=batch.speakers.roll(1))).logits, model(batch).logits)


@EVERY
@CAUSAL
def test_it_learns_and_every_parameter_takes_part(name, causal):
    """A label that is the sign of two numbers of different features, on utterances that are never seen alone."""
    model = peers.build(name, causal=causal).train()
    batch = peers.batch((6, 9, 3, 12), seed=1)
    for rows in batch.present.values():
        rows[::2] = True
    batch.present["text/t@1"][:-1] = batch.present["audio/a@1"][:] = True
    labels = (batch.features["text/t@1"][:, 0] > 0) * 2 + (batch.features["audio/a@1"][:, 0] > 0)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    touched = set()
    for _ in range(100):
        output = model(batch)
        loss = functional.cross_entropy(output.logits, labels)
        losses.append(loss.item())
        if losses[-1] < 0.2 * losses[0] and len(losses) > 20:
            break
        if output.modal_logits is not None:
            for modal in output.modal_logits.unbind(1):
                loss = loss + 0.1 * functional.cross_entropy(modal, labels)
        optimiser.zero_grad()
        loss.backward()
        touched |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        optimiser.step()
    assert losses[-1] < 0.3 * losses[0]
    assert touched == {key for key, _ in model.named_parameters()}


@EVERY
def test_temperature_divides_the_logits(name):
    model, batch = peers.build(name), peers.batch()
    before = model(batch).logits
    model.temperature.fill_(2.0)
    torch.testing.assert_close(model(batch).logits, before / 2)
    assert "temperature" in model.state_dict()
