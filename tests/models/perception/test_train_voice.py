"""The voice encoder learns what can be learned, and its figures say what they claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mer_agent.encoders import shipped
from mer_agent.encoders.voice_emotion import VoiceShape
from mer_agent.encoders.whisper_layers import MEANS
from mer_agent.errors import DataError
from mer_agent.models.data import speech_data
from mer_agent.models.data.speech_data import CORPORA, FOLDS, FURTHER, LABELS, MISSING, Clip
from mer_agent.models.perception import speech_bank, train_voice
from mer_agent.models.perception.speech_bank import Example
from mer_agent.models.perception.train_voice import VoiceRecipe, figures_of, fit, predict, train_encoder

RECIPE = VoiceRecipe(epochs=8, batch=8, shape=VoiceShape(units=16, dropout=0.0))


def example(label: str, corpus: str, fold: int, number: int) -> Example:
    """A clip of which some numbers tell the label."""
    random = torch.Generator().manual_seed(number)
    k = LABELS.index(label)
    heard = 0.3 * torch.randn(speech_bank.KINDS, MEANS, generator=random)
    heard[:, k * 100 : (k + 1) * 100] += 3
    clip = Clip(Path(f"{number}.wav"), corpus, f"{corpus}-{fold}", k, fold)
    return Example(clip, heard, ({},) * (speech_bank.KINDS))


@pytest.fixture
def examples() -> list[Example]:
    wanted = [
        (label, corpus, fold)
        for fold in range(FOLDS)
        for corpus in CORPORA
        for label in LABELS
        if label not in MISSING[corpus]
    ]
    return [example(*one, number) for number, one in enumerate(wanted)]


def test_learns_what_is_heard(examples: list[Example]) -> None:
    network, loss = fit(examples, RECIPE, 0)
    labels = torch.tensor([one.clip.label for one in examples])
    assert loss < 2.0
    assert (predict(network, examples).argmax(1) == labels).float().mean() > 0.9


def test_the_same_seed_gives_the_same_network(examples: list[Example]) -> None:
    recipe = VoiceRecipe(epochs=1, batch=16, shape=RECIPE.shape)
    first, again = (fit(examples, recipe, 1)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_copy_of_which_nothing_is_heard_is_read_as_the_clean_one(examples: list[Example]) -> None:
    network, _ = fit(examples, RECIPE, 0)
    deaf = [replace(one, heard=one.heard.clone()) for one in examples]
    for one in deaf:
        one.heard[speech_bank.BRIEF] = float("nan")
    assert torch.equal(predict(network, deaf, speech_bank.BRIEF), predict(network, examples))


def test_figures_judge_a_clip_among_the_labels_of_its_corpus() -> None:
    found = {}
    for name in (*(f"fold-{fold}" for fold in range(FOLDS)), *(f"without-{corpus}" for corpus in CORPORA)):
        corpora, labels = [], []
        for corpus in CORPORA:
            own = [k for k, label in enumerate(LABELS) if label not in MISSING[corpus]]
            labels += own
            corpora += [corpus] * len(own)
        logits = torch.eye(len(LABELS))[labels]
        logits[:, LABELS.index("boredom")] += 10  # RAVDESS has none, so it can't be taken for it
        taught = [corpus for corpus in CORPORA if name != f"without-{corpus}"]
        found[name] = {
            "logits": {"clean": logits, "distorted": -logits, "brief": logits},
            "labels": torch.tensor(labels),
            "corpora": corpora,
            "taught": taught,
        }
    figures = figures_of(found)
    assert figures["ravdess_distorted_uar"] == 0.0
    assert figures["ravdess_uar"] == 100.0
    assert figures["emodb_uar"] == pytest.approx(100 / 7, abs=0.1)
    assert figures["emodb_unknown_uar"] == 100.0  # over the six labels that RAVDESS has, too


def test_a_run_that_has_ended_is_not_made_again(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = VoiceRecipe(epochs=1, batch=32, shape=RECIPE.shape)
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: recipe)
    monkeypatch.setattr(speech_data, "load", lambda folder, corpora: [])
    monkeypatch.setattr(speech_bank, "load", lambda clips, folder, say: examples)
    said: list[str] = []
    first = train_encoder(tmp_path, tmp_path, resume=True, say=said.append)
    runs = [line for line in said if "epoch" in line]
    assert len(runs) == FOLDS + len(CORPORA) + 1
    assert [corpus for corpus in FURTHER if any(corpus in line for line in said)] == [*FURTHER], (
        "what is missing is told"
    )
    assert train_encoder(tmp_path, tmp_path, resume=True, say=said.append) == first
    assert len([line for line in said if "epoch" in line]) == len(runs)
    state, card = shipped.load("voice", tmp_path)
    assert card.figures == first
    assert card.recipe["labels"] == list(LABELS)
    assert sum(value.numel() for value in state.values()) == card.record["parameters"]
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: RECIPE)
    with pytest.raises(DataError, match="another recipe"):
        train_encoder(tmp_path, tmp_path, resume=True, say=said.append)


def test_a_run_of_other_corpora_is_not_taken_for_one_of_these(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = VoiceRecipe(epochs=1, batch=32, shape=RECIPE.shape)
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: recipe)
    monkeypatch.setattr(train_voice, "examples_of", lambda *asked: examples)
    train_encoder(tmp_path, tmp_path, resume=True, say=lambda line: None)
    more = [replace(one, clip=replace(one.clip, corpus="nemo")) for one in examples]
    monkeypatch.setattr(train_voice, "examples_of", lambda *asked: examples + more)
    with pytest.raises(DataError, match="of other corpora"):
        train_encoder(tmp_path, tmp_path, resume=True, say=lambda line: None)


def test_runs_made_elsewhere_stand_beside_the_shipped_network(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another processor, another number of threads: the shipped network's own run can't be made again to the bit."""
    recipe = VoiceRecipe(epochs=1, batch=32, shape=RECIPE.shape)
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: recipe)
    monkeypatch.setattr(speech_data, "load", lambda folder, corpora: [])
    monkeypatch.setattr(speech_bank, "load", lambda clips, folder, say: examples)
    train_encoder(tmp_path / "shipped", tmp_path / "shipped", resume=True, say=lambda line: None)
    made = shipped.load("voice", tmp_path / "shipped")
    monkeypatch.setattr(shipped, "load", lambda name: made)
    said: list[str] = []
    _, networks = train_voice.runs_beside_shipped(tmp_path, tmp_path / "here", ("fold-1",), said.append)
    assert set(networks) == {"all", "fold-1"}
    assert len([line for line in said if "epoch" in line]) == 1, "nothing else is made"
    assert all(torch.equal(value, made[0][key]) for key, value in networks["all"].state_dict().items())
    assert not torch.equal(networks["fold-1"].head.weight, networks["all"].head.weight)
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: RECIPE)
    with pytest.raises(DataError, match="another recipe"):
        train_voice.runs_beside_shipped(tmp_path, tmp_path / "here", ("fold-1",), said.append)
