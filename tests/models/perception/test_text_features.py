import pytest
import torch
from support import tiny_iemocap, tiny_meld

from mer_agent.encoders.text_emotion import HEARD, NAMES, WRITTEN
from mer_agent.errors import DataError
from mer_agent.models.data.corpora import load
from mer_agent.models.perception import text_features
from mer_agent.models.perception.text_features import Conversation, fold_of, in_context

JUDGED = "text/mpnet-judged@1"


class Echo:
    """An encoder whose vector says which adapter it has, who spoke, how long the words and how many turns before."""

    dimension = 4
    made: list[int | None] = []  # noqa: RUF012  # of all that were made in a test

    def __init__(self, device="auto", *, precision="float32", feature=HEARD, without=None):
        self.feature = feature
        self._without = -1 if without is None else without
        self.made.append(without)

    def encode_dialogue(self, said):
        return [
            torch.tensor([self._without, turn.speaker, len(turn.text), at]).float() if turn.text.strip() else None
            for at, turn in enumerate(said)
        ]


@pytest.fixture(autouse=True)
def echo(tmp_path, monkeypatch):
    Echo.made = []
    monkeypatch.setattr(text_features, "TextEmotionEncoder", Echo)
    monkeypatch.setattr(text_features, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(text_features.shipped, "read_card", lambda name: type("Card", (), {"sha256": name}))


def conversation(name, split="train", words=("yes", "", "no no")):
    return Conversation.of(name, split, zip("FMF", words, strict=False))


def test_a_training_dialogue_is_read_by_the_adapter_that_did_not_learn_from_it():
    names = [f"train_dia{at}" for at in range(12)]
    values, present = in_context([*map(conversation, names), conversation("test_dia0", "test")])
    assert values.shape == (39, 4)
    assert present.tolist() == [True, False, True] * 13
    assert values[::3, 0].tolist() == [*(fold_of(name, "train") for name in names), -1]
    assert sorted(Echo.made, key=str) == [0, 1, 2, None]
    assert values[2].tolist() == [fold_of(names[0], "train"), 0, 5, 2]
    assert not values[1].any()


def test_features_are_kept_for_the_same_words_in_the_same_splits():
    first = in_context([conversation("a")])
    assert len(Echo.made) == 1
    again = in_context([conversation("a")])
    assert len(Echo.made) == 1
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    in_context([conversation("a", "test")])
    in_context([conversation("a", words=("yes", "", "no"))])
    assert len(Echo.made) == 3
    in_context([conversation("a")], WRITTEN)
    assert len(Echo.made) == 4, "other adapters, other features"


def test_parts_are_of_like_size_and_of_the_training_split_alone():
    folds = [fold_of(f"train_dia{at}", "train") for at in range(900)]
    assert all(250 < folds.count(part) < 350 for part in range(3))
    assert fold_of("Ses01F_impro01", "valid") == fold_of("Ses05F_impro01", "test") == -1


@pytest.mark.parametrize("feature", NAMES)
@pytest.mark.parametrize(("name", "make"), [("iemocap", tiny_iemocap.write), ("meld", tiny_meld.write)])
def test_the_corpora_have_it(tmp_path, name, make, feature):
    make(tmp_path)
    corpus = load(name, tmp_path, [feature])
    training = corpus.part("train")
    assert (training.features[feature][:, 0] >= 0).all()
    assert (corpus.part("test").features[feature][:, 0] == -1).all()
    assert torch.equal(training.features[feature][:, 1].long(), training.speakers)


def test_a_training_dialogue_is_judged_by_the_judge_that_did_not_learn_from_it(monkeypatch):
    class Sign:
        dimension = 2

        def __init__(self, without):
            self._part = torch.tensor([-1.0 if without is None else without])

        def __call__(self, states):
            return torch.stack([self._part.expand(len(states)), states[:, 0]], -1)

    monkeypatch.setattr(text_features, "Judges", Sign)
    names = [f"train_dia{at}" for at in range(12)]
    values, present = in_context([*map(conversation, names), conversation("test_dia0", "test")], JUDGED)
    assert present.tolist() == [True, False, True] * 13
    assert torch.equal(values[:, 0], values[:, 1])
    assert values[::3, 0].tolist() == [*(fold_of(name, "train") for name in names), -1]
    assert not values[1].any()


def test_a_data_set_without_dialogues_is_told(tmp_path):
    from mer_agent.models.data.datasets import text_features as of_texts

    with pytest.raises(DataError, match="reads whole dialogues"):
        of_texts(HEARD, ["yes"], None)
