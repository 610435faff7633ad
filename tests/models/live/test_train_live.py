import copy
import itertools
from dataclasses import replace

import pytest
import torch

from mer_agent.errors import DataError
from mer_agent.models.ar_iigcn import Say
from mer_agent.models.batch import Batch
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.ensemble import Beside, Ensemble
from mer_agent.models.live import live_figures, train_live
from mer_agent.models.live.live_data import FACE, GE2E, LOWER, PROSODY, TEXT, VOICE, Mix, Pool, joined
from mer_agent.models.live.live_data import filled as alone
from mer_agent.models.live.train_live import RECIPE, LiveData, train

SIZES = {TEXT: 12, LOWER: 12, GE2E: 6, VOICE: 6, PROSODY: 8, FACE: 6}
SMALL = {**RECIPE.shape, "dimension": 16, "hidden": 16, "dropout": 0.1, "input_dropout": 0.0, "layers": 1}
QUICK = replace(RECIPE, epochs=10, shape=SMALL, learning_rate=1e-2)


def part(names: tuple[str, ...], many: int, seed: int, *, affect: bool = False) -> Batch:
    """Utterances whose features tell their label."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(MELD_LABELS), (many,), generator=random)
    meaning = {name: torch.randn(7, SIZES[name], generator=torch.Generator().manual_seed(len(name))) for name in SIZES}
    values = {name: meaning[name][labels] + 0.5 * torch.randn(many, SIZES[name], generator=random) for name in names}
    batch = alone(values, {name: torch.ones(many, dtype=torch.bool) for name in names}, labels, SIZES)
    ratings = 3.0 + (labels[:, None] - 3).expand(-1, 3) / 2 if affect else None
    return replace(batch, dialogue=torch.arange(many) // 6, affect=ratings)


@pytest.fixture(scope="module")
def data() -> LiveData:
    talks = joined([part((TEXT, LOWER, PROSODY), 360, 0), part((TEXT, LOWER, GE2E, PROSODY), 120, 1, affect=True)])
    voices, faces = part((GE2E, VOICE, PROSODY), 140, 2), part((FACE,), 140, 3)
    voices, faces = (replace(batch, dialogue=torch.arange(140)) for batch in (voices, faces))
    pool = Pool(
        talks,
        {name: (talks.features[name] + 0.1, talks.present[name]) for name in (TEXT, LOWER)},
        torch.arange(80) >= 60,
        voices,
        {
            name: (
                torch.stack([voices.features[name] + mark / 80 for mark in range(6)]).view(2, 3, 140, -1),
                voices.present[name].expand(2, 3, -1),
            )
            for name in (GE2E, VOICE, PROSODY)
        },
        (0.1 * talks.features[GE2E], 0.1 * voices.features[VOICE]),
        faces,
        {name: (talks.features[name][talks.labels == 0][:8],) for name in (TEXT, LOWER)},
    )
    valid = {name: part((TEXT, LOWER, PROSODY), 120, seed) for seed, name in enumerate(("meld", "misheard"), 4)}
    valid |= {"iemocap": part((TEXT, LOWER, GE2E, PROSODY), 60, 6, affect=True)}
    valid |= {"voices": part((GE2E, VOICE, PROSODY), 60, 7), "faces": part((FACE,), 60, 8)}
    test = {name: batch for name, batch in valid.items() if name != "voices"}
    return LiveData(pool, valid, test)


@pytest.fixture(scope="module")
def model(data):
    return train(data, QUICK, Mix(talks=8), 0)


def test_it_learns_from_each_modality(data, model):
    for name, batch in data.valid.items():
        assert live_figures.brief(live_figures.told(model, batch))["weighted_f1"] > 50, name


def test_the_same_seed_gives_the_same_weights(data):
    once, twice = (train(data, replace(QUICK, epochs=1), Mix(talks=8), 0).state_dict() for _ in range(2))
    for key, value in once.items():
        assert torch.equal(value, twice[key]), key


def test_it_is_causal_and_tells_valence(data, model):
    batch = data.valid["meld"]
    changed = replace(batch, features={**batch.features, TEXT: batch.features[TEXT].clone()})
    changed.features[TEXT][3:6] += 1.0  # of the first dialogue, which has six utterances
    assert torch.equal(model(batch).logits[:3], model(changed).logits[:3])
    assert not torch.equal(model(batch).logits[3], model(changed).logits[3])
    judgement = model.stream().append("u", 0, {TEXT: batch.features[TEXT][0]})
    assert judgement.affect is not None
    assert all(-1 <= value <= 1 for value in judgement.affect)


def test_each_subset_has_a_temperature_of_its_own(data, model, monkeypatch):
    def loss() -> float:
        probabilities, labels = live_figures.told(own, data.valid["faces"], ["visual"])
        return float(torch.nn.functional.nll_loss(probabilities.log(), labels))

    own = copy.deepcopy(model)
    own.temperatures.fill_(1.0)
    before = loss()
    monkeypatch.setattr(train_live, "FEWEST", 50)
    train_live.calibrate(own, data.valid)
    assert loss() < before
    assert own.temperatures[7] == 1  # nothing here has words, voice and face
    text = {TEXT: data.valid["meld"].features[TEXT][0]}
    whole = live_figures.told(own, data.valid["meld"].without([LOWER, PROSODY]))[0][0]
    assert torch.allclose(own.stream().append("u", 0, text).probabilities, whole, atol=1e-5)


def test_it_learns_from_unknown_corpora_how_far_to_trust_a_voice_alone(data, model, monkeypatch):
    def calibrated(doubted: str, **parts: Batch) -> Ensemble:
        whole = Ensemble.of([model, model], doubted=doubted)
        train_live.calibrate(whole, {**data.valid, **parts})
        return whole

    monkeypatch.setattr(train_live, "FEWEST", 50)
    voices = data.valid["voices"]
    strange = replace(voices, labels=voices.labels.roll(1))  # of these, features tell nothing
    plain, doubtful = calibrated(""), calibrated(VOICE, unknown=strange)
    assert torch.equal(plain.temperatures, doubtful.temperatures)
    assert doubtful.doubt > 2
    assert calibrated(VOICE, unknown=voices).doubt < doubtful.doubt
    said = [live_figures.told(one, voices)[0].amax(-1).mean() for one in (doubtful, plain)]
    assert said[0] < said[1]
    assert torch.equal(*(live_figures.told(one, data.valid["iemocap"])[0] for one in (plain, doubtful)))


def test_the_card_has_every_figure(data, model):
    found = live_figures.of(model, data.valid, data.test)
    assert set(found["meld_test_subsets"]) == {"text", "audio", "text+audio"}
    assert found["affect_ccc"]["test"]["valence"] > 0.3
    curve = found["abstain"]["meld_test_risk_by_coverage"]
    assert curve[0][1] == 1.0
    assert all(one[1] >= two[1] for one, two in itertools.pairwise(curve))
    assert set(found["meld_test_per_class"]) == set(MELD_LABELS)


def test_what_is_shipped_is_all_seeds_together(data, tmp_path, monkeypatch):
    from mer_agent.models import checkpoint

    monkeypatch.setattr(train_live, "load", lambda *args: data)
    monkeypatch.setattr(train_live, "RECIPE", replace(QUICK, epochs=1))
    judge = Beside(Say(TEXT, (GE2E,), 0.4), torch.randn(7, SIZES[TEXT]).half().float(), torch.zeros(7))
    voice = Beside(Say(VOICE, (TEXT,), 0.4), torch.randn(7, SIZES[VOICE]).half().float(), torch.zeros(7))
    monkeypatch.setattr(train_live, "judge_of_words", lambda talks, recipe: judge)
    monkeypatch.setattr(train_live, "judge_of_voices", lambda: voice)
    figures = train_live.train_all(tmp_path, tmp_path / "out", tmp_path, [0, 1], lambda line: None)
    loaded, card = checkpoint.load_live(tmp_path / "out" / "live.json")
    assert card.labels == MELD_LABELS
    assert (card.shape["members"], card.training["seeds"]) == (2, [0, 1])
    assert torch.equal(loaded.beside[0].weight, judge.weight)
    assert torch.equal(loaded.beside[1].weight, voice.weight)
    assert card.figures["meld_seeds"] == figures["meld_seeds"]
    again = live_figures.brief(live_figures.told(loaded, data.valid["meld"]))
    assert again == card.figures["valid"]["meld"]
    assert (tmp_path / "out" / "live-risk.png").stat().st_size > 1000


def test_a_loss_that_is_no_number_is_told(data):
    with pytest.raises(DataError, match="no longer a number"):
        train(data, replace(QUICK, epochs=1, affect_weight=float("nan")), Mix(talks=8), 0)
