"""An ensemble is the mean of its members' probabilities: of whole dialogues, turn by turn, and from a file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mer_agent.models import checkpoint
from mer_agent.models.ar_iigcn import ARIIGCN, Say, Shape
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.ensemble import Beside, Ensemble

SPECS = (FeatureSpec("text/t@1", "text", 5), FeatureSpec("audio/a@1", "audio", 3))
SHAPE = Shape(dimension=8, hidden=8, heads=2, window=3, rates=True, tempered=True)
TURNS = 12


@pytest.fixture
def members() -> list[ARIIGCN]:
    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = ARIIGCN(SPECS, 4, SHAPE).eval().requires_grad_(False)
        for parameter in model.parameters():  # away from the tame initial values
            parameter += 0.3 * torch.randn_like(parameter)
        found.append(model)
    return found


@pytest.fixture
def talk() -> Batch:
    torch.manual_seed(9)
    present = {spec.id: torch.rand(TURNS) < 0.8 for spec in SPECS}
    features = {spec.id: torch.randn(TURNS, spec.dimension) for spec in SPECS}
    nobody = torch.zeros(TURNS, dtype=torch.int64)
    return Batch(features, present, torch.arange(TURNS) % 2, nobody, nobody)


def test_it_says_the_mean_of_what_its_members_say(members: list[ARIIGCN], talk: Batch) -> None:
    ensemble = Ensemble.of(members)
    said = ensemble(talk).logits.softmax(-1)
    each = torch.stack([member(talk).logits.softmax(-1) for member in members])
    assert torch.allclose(said, each.mean(0), atol=1e-6)
    rated = torch.stack([member.rate(member(talk).states) for member in members])
    assert torch.allclose(ensemble.rate(ensemble(talk).states), rated.mean(0), atol=1e-6)


def test_its_temperatures_count_and_those_of_its_members_do_not(members: list[ARIIGCN], talk: Batch) -> None:
    plain = Ensemble.of(members)(talk).logits
    for member in members:
        member.temperature.fill_(3.0)
        member.temperatures[3] = 0.5
    ensemble = Ensemble.of(members)
    assert torch.equal(ensemble(talk).logits, plain)
    ensemble.temperature.fill_(2.0)
    ensemble.temperatures[1] = 4.0  # words alone
    alone = talk.present["text/t@1"] & ~talk.present["audio/a@1"]
    assert alone.any()
    assert torch.allclose(ensemble(talk).logits[alone], plain[alone] / 8)
    assert torch.allclose(ensemble(talk).logits[~alone], plain[~alone] / 2)


@pytest.mark.parametrize("beside", [False, True])
def test_the_stream_equals_the_whole_dialogue(members: list[ARIIGCN], talk: Batch, beside: bool) -> None:
    ensemble = Ensemble.of(members, (beside_words(), beside_voice()) if beside else ())
    expected = ensemble(talk).logits.softmax(-1)
    stream = ensemble.stream()
    for i in range(TURNS):
        turn = {spec.id: talk.features[spec.id][i] for spec in SPECS if talk.present[spec.id][i]}
        if i == TURNS // 2:  # a saved conversation goes on
            saved, stream = stream.to_dict(), ensemble.stream()
            stream.load_dict(saved)
        judged = stream.append(f"u{i}", i % 2, turn)
        assert torch.allclose(judged.probabilities, expected[i], atol=1e-5)
        assert judged.affect is not None
    why = stream.why(0, {"text/t@1": torch.ones(5)})
    assert set(why.modalities) == {"text"}
    assert len(why.turns) == SHAPE.window


def beside_words() -> Beside:
    torch.manual_seed(4)
    say = Say("text/t@1", ("audio/a@1",), 0.3)
    return Beside(say, torch.randn(4, 5).half().float(), torch.randn(4).half().float())


def beside_voice() -> Beside:
    torch.manual_seed(5)
    say = Say("audio/a@1", ("text/t@1",), 0.6)
    return Beside(say, torch.randn(4, 3).half().float(), torch.randn(4).half().float())


def test_a_judge_of_words_has_its_say_where_there_is_no_voice(members: list[ARIIGCN], talk: Batch) -> None:
    judge = beside_words()
    plain = Ensemble.of(members)(talk).logits
    ensemble = Ensemble.of(members, (judge,))
    said = (talk.features["text/t@1"] @ judge.weight.T + judge.bias).log_softmax(-1)
    there = talk.present["text/t@1"] & ~talk.present["audio/a@1"]
    assert 0 < there.sum() < TURNS
    assert torch.allclose(ensemble(talk).logits[there], (0.7 * plain + 0.3 * said)[there], atol=1e-5)
    assert torch.equal(ensemble(talk).logits[~there], plain[~there])


def test_of_two_judges_each_has_its_say_where_it_is_asked(members: list[ARIIGCN], talk: Batch) -> None:
    words, voice = (Ensemble.of(members, (judge,))(talk).logits for judge in (beside_words(), beside_voice()))
    both = Ensemble.of(members, (beside_words(), beside_voice()))(talk).logits
    text, audio = talk.present["text/t@1"], talk.present["audio/a@1"]
    assert torch.equal(both[text & ~audio], words[text & ~audio])
    assert torch.equal(both[audio & ~text], voice[audio & ~text])
    assert torch.equal(both[text & audio], Ensemble.of(members)(talk).logits[text & audio])


def test_a_judge_of_voices_is_heard_as_far_as_the_words_say_nothing(members: list[ARIIGCN], talk: Batch) -> None:
    words, voice = beside_words(), beside_voice()
    voice = replace(voice, say=Say("audio/a@1", (), 0.6, yields_to="text/t@1", nothing=2))
    without, both = (Ensemble.of(members, each)(talk).logits for each in ((words,), (words, voice)))
    text, audio = talk.present["text/t@1"], talk.present["audio/a@1"]
    said = (talk.features["audio/a@1"] @ voice.weight.T + voice.bias).log_softmax(-1)
    nothing = (talk.features["text/t@1"] @ words.weight.T + words.bias).softmax(-1)[:, 2:3]
    share = 0.6 * torch.where(text.unsqueeze(-1), nothing, 1.0)
    assert torch.allclose(both[audio], ((1 - share) * without + share * said)[audio], atol=1e-5)
    assert torch.equal(both[~audio], without[~audio])
    with pytest.raises(ValueError, match="text/t@1 has no judge"):
        Ensemble.of(members, (voice,))


def test_it_doubts_a_feature_that_stands_alone(members: list[ARIIGCN], talk: Batch) -> None:
    plain = Ensemble.of(members)(talk).logits
    ensemble = Ensemble.of(members, doubted="audio/a@1")
    assert torch.equal(ensemble(talk).logits, plain), "until it was calibrated"
    ensemble.doubt.fill_(2.5)
    alone = talk.present["audio/a@1"] & ~talk.present["text/t@1"]
    assert alone.any()
    assert torch.allclose(ensemble(talk).logits[alone], plain[alone] / 2.5)
    assert torch.equal(ensemble(talk).logits[~alone], plain[~alone])


def test_there_and_back(members: list[ARIIGCN], talk: Batch, tmp_path) -> None:
    voice = replace(beside_voice(), say=Say("audio/a@1", (), 0.6, yields_to="text/t@1", nothing=2))
    ensemble = Ensemble.of([member.half().float() for member in members], (beside_words(), voice))
    facts = {"data": "", "terms": "", "figures": {}, "training": {}}
    path = checkpoint.save(tmp_path, ensemble, name="many", label_set="four", labels=tuple("abcd"), **facts)
    loaded, card = checkpoint.load_live(path)
    assert isinstance(loaded, Ensemble)
    assert card.shape["members"] == len(members)
    assert torch.equal(loaded(talk).logits, ensemble(talk).logits)
    kept = load_file(path.with_suffix(".safetensors"))
    assert kept["members.0.fusion.match.weight"].dtype == torch.float16, "what half precision holds is kept so"


def test_a_member_more_or_less_does_not_fit_the_card(members: list[ARIIGCN], tmp_path) -> None:
    stream = Ensemble.of(members).stream()
    stream.append("u", 0, {"text/t@1": torch.ones(5)})
    with pytest.raises(ValueError, match="another shape"):
        members[0].stream().load_dict(stream.to_dict())
