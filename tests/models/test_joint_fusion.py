"""The joint-vector model: what it reads, that it streams as it trains, and that its literal reading holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mer_agent.errors import CheckpointError, ConfigError
from mer_agent.models import checkpoint, joint_fusion
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.joint_fusion import FUSIONS, JointFusion
from mer_agent.models.training.learner import Learner
from mer_agent.models.training.recipe import Recipe

SPECS = (
    FeatureSpec("text/t@1", "text", 9 * 6, steps=9),
    FeatureSpec("audio/m@1", "audio", 12 * 5, steps=12),
    FeatureSpec("audio/p@1", "audio", 3, mean=(1.0, 0.0, 2.0), deviation=(1.0, 2.0, 1.0)),
)
CLASSES = 4
SMALL = {"dimension": 8, "heads": 2, "hidden": 12, "window": 3}


def build(specs=SPECS, **sizes):
    torch.manual_seed(0)
    return JointFusion(specs, CLASSES, **{**SMALL, **sizes}).eval()


def batch(lengths=(7, 1, 12)):
    random = torch.Generator().manual_seed(3)
    count = sum(lengths)
    features = {spec.id: torch.randn(count, spec.dimension, generator=random) for spec in SPECS}
    for spec in SPECS[:2]:
        used = torch.randint(1, spec.steps + 1, (count, 1), generator=random) * (spec.dimension // spec.steps)
        features[spec.id][torch.arange(spec.dimension) >= used] = 0.0
    return Batch(
        features,
        {spec.id: torch.rand(count, generator=random) < 0.7 for spec in SPECS},
        torch.randint(-1, 3, (count,), generator=random),
        torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        torch.randint(0, CLASSES, (count,), generator=random),
    )


def test_a_model_without_graph_is_the_equations_on_each_utterance_alone():
    model, some = build(context=0), batch((4,))
    some = replace(some, present={key: torch.ones(4, dtype=torch.bool) for key in some.present})
    found = model(some).logits
    for i in range(4):
        tokens, patches = (some.features[s.id][i].unflatten(0, (s.steps, -1)) for s in SPECS[:2])
        tokens, patches = tokens[tokens.any(-1)], patches[patches.any(-1)]
        text, audio = model.sides["text"], model.sides["audio"]
        tm = torch.cat([text.cls[None], text.project[0](text.normalise[0](tokens)) + text.places[0]])
        prosody = audio.project[1](audio.normalise[1](some.features["audio/p@1"][i]))[None] + audio.places[1]
        mt = torch.cat([audio.cls[None], audio.project[0](patches) + audio.places[0][: len(patches)], prosody])
        for layer in model.extractor:
            tm = layer(tm[None])[0]
        for block in model.blocks:
            v_hat = block.visual(torch.cat([mt, block.vector])[None])[0, len(mt) :]
            v_hat_back = block.language(torch.cat([tm, block.vector_back])[None])[0, len(tm) :]
            new_mt = block.language(torch.cat([tm, block.to_language(v_hat)])[None])[0, : len(tm)]
            new_tm = block.visual(torch.cat([mt, block.to_visual(v_hat_back)])[None])[0, : len(mt)]
            mt, tm = new_mt, new_tm
        logits = (model.heads[0](tm[0]) + model.heads[1](mt[0])) / 2
        torch.testing.assert_close(found[i], logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("specs", [SPECS, SPECS[:1], SPECS[1:]], ids=["both", "text", "audio"])
def test_streaming_equals_the_whole_dialogue(context, specs, moments):
    model, some = build(specs, context=context, moments=moments), batch()
    with torch.no_grad():
        whole = model(some).logits.softmax(-1)
    for dialogue in range(3):
        stream = model.stream()
        for i in (some.dialogue == dialogue).nonzero().flatten().tolist():
            features = {spec.id: some.features[spec.id][i] for spec in specs if some.present[spec.id][i]}
            speaker = int(some.speakers[i])
            told = (str(i), None if speaker < 0 else speaker, features)
            seen = stream.preview(*told[1:])
            judged = stream.append(*told)
            torch.testing.assert_close(judged.probabilities, whole[i], atol=1e-5, rtol=0)
            torch.testing.assert_close(seen.probabilities, whole[i], atol=1e-5, rtol=0)
            assert set(judged.used) == {s.modality for s in specs if s.id in features}


@pytest.mark.parametrize("specs", [SPECS, SPECS[:1], SPECS[1:]], ids=["both", "text", "audio"])
def test_groups_filled_up_in_training_give_what_is_given_afterwards(specs, monkeypatch):
    monkeypatch.setattr(joint_fusion, "TOGETHER", 8)
    model, some = build(specs, dropout=0.0, input_dropout=0.0), batch((7, 1, 13))
    found = model.train().nodes(some.features, some.present)
    torch.testing.assert_close(found, model.eval().nodes(some.features, some.present), atol=0.1, rtol=0)  # bfloat16


@pytest.mark.parametrize("sizes", [{"moments": True}, *({"fusion": fusion} for fusion in FUSIONS)])
def test_what_is_absent_is_never_read(sizes):
    model, some = build(**sizes), batch()
    poisoned = {key: rows.masked_fill(~some.present[key][:, None], torch.nan) for key, rows in some.features.items()}
    whole = model(some).logits
    torch.testing.assert_close(model(replace(some, features=poisoned)).logits, whole, atol=1e-5, rtol=0)
    nothing = replace(some, present={key: torch.zeros_like(value) for key, value in some.present.items()})
    assert model(nothing).logits.isfinite().all()


def test_the_future_is_not_felt_unless_asked_for():
    some = batch((8,))
    later = {key: rows.clone() for key, rows in some.features.items()}
    present = {key: torch.ones_like(value) for key, value in some.present.items()}
    some = replace(some, present=present)
    for rows in later.values():
        rows[5:] = rows[5:].flip(0)
    for causal in (True, False):
        model = build(causal=causal)
        same = torch.allclose(model(some).logits[:5], model(replace(some, features=later)).logits[:5], atol=1e-6)
        assert same is causal


@pytest.mark.parametrize(
    "sizes", [{}, {"fusion": "attention"}, {"vectors": 0}, {"tied": False}, {"blocks": 3}, {"moments": True}]
)
def test_it_learns_by_its_own_loss_and_by_the_other_models(sizes):
    torch.manual_seed(0)
    model, some = build(dropout=0.0, input_dropout=0.0, **sizes), batch()
    recipe = Recipe(model="joint-fusion", learning_rate=1e-2, icl=0.1, w1=0.05, w2=0.05, epochs=1)
    learner = Learner(model, recipe, 0, SPECS, some, CLASSES)
    model.train()
    losses = [learner.learn(some) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


def test_ratings_are_learned_beside_the_labels_and_change_nothing_that_is_said():
    plain, model, some = build(), build(rated=True), batch()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "affect" not in key})
    assert torch.equal(plain(some).logits, model(some).logits)
    assert model(some).affect is None
    some = replace(some, affect=torch.randint(1, 6, (len(some), 3)).float())
    recipe = Recipe(model="joint-fusion", learning_rate=0.02, affect_weight=1.0, modal_weight=0.0, label_smoothing=0.0)
    learner = Learner(model.train(), recipe, 0, SPECS, some, CLASSES)

    def error() -> float:
        torch.manual_seed(0)
        return float((model(some).affect - (some.affect - 3)).square().mean().detach())

    before = error()
    for _ in range(40):
        learner.learn(some)
    assert error() < 0.7 * before


def test_a_checkpoint_comes_back_and_runs_live(tmp_path):
    model, some = build(), batch()
    path = checkpoint.save(
        tmp_path,
        model,
        name="small",
        model_name="joint-fusion",
        specs=SPECS,
        shape=SMALL,
        label_set="four",
        labels=("a", "b", "c", "d"),
        data="none",
        terms="none",
        figures={},
        training={},
    )
    again, card = checkpoint.load_live(path)
    assert card.features == SPECS
    torch.testing.assert_close(again(some).logits, model(some).logits)
    both_ways = build(causal=False)
    with pytest.raises(ValueError, match="future"):
        both_ways.stream()
    stream = again.stream()
    with pytest.raises(CheckpointError, match="text/t@1 has the shape"):
        stream.append("u", 0, {"text/t@1": torch.zeros(5)})


def test_faces_and_unknown_fusions_are_refused():
    with pytest.raises(ConfigError, match="words and sound"):
        build((FeatureSpec("face/f@1", "visual", 5),))
    with pytest.raises(ConfigError, match="'tensor': take one of joint"):
        build(fusion="tensor")
