"""The voice encoder learns what can be learned, and its figures say what they claim."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mer_agent.encoders import shipped
from mer_agent.encoders.voice import SUMMARY
from mer_agent.encoders.voice_emotion import HEARING, VoiceShape
from mer_agent.errors import DataError
from mer_agent.models.data import speech_data
from mer_agent.models.data.speech_data import FOLDS, LABELS, MISSING, Clip
from mer_agent.models.perception import speech_bank, train_voice
from mer_agent.models.perception.speech_bank import Example
from mer_agent.models.perception.train_voice import VoiceRecipe, figures_of, fit, predict, train_encoder

RECIPE = VoiceRecipe(epochs=6, batch=8, most_frames=24, shape=VoiceShape(channels=8, units=8, summary=16, dropout=0.0))


def example(label: str, corpus: str, fold: int, number: int) -> Example:
    """A summary that tells the label, a log-mel that tells nothing."""
    random = torch.Generator().manual_seed(number)
    k = LABELS.index(label)
    summaries = 0.3 * torch.randn(speech_bank.KINDS, SUMMARY, generator=random)
    summaries[:, k * 100 : (k + 1) * 100] += 3
    mels = tuple(torch.randn(20, 64, generator=random).half() for _ in range(speech_bank.KINDS))
    hearings = torch.randn(speech_bank.KINDS, HEARING, generator=random)
    clip = Clip(Path(f"{number}.wav"), corpus, f"{corpus}-{fold}", k, fold)
    return Example(clip, mels, summaries, hearings, ({},) * (speech_bank.KINDS))


@pytest.fixture
def examples() -> list[Example]:
    wanted = [
        (label, corpus, fold)
        for fold in range(FOLDS)
        for corpus in MISSING
        for label in LABELS
        if label not in MISSING[corpus]
    ]
    return [example(*one, number) for number, one in enumerate(wanted)]


def test_learns_what_the_summaries_tell(examples: list[Example]) -> None:
    network, loss = fit(examples, RECIPE, 0)
    labels = torch.tensor([one.clip.label for one in examples])
    assert loss < 2.0
    assert (predict(network, examples).argmax(1) == labels).float().mean() > 0.9


def test_the_same_seed_gives_the_same_network(examples: list[Example]) -> None:
    recipe = VoiceRecipe(epochs=1, batch=16, most_frames=24, shape=RECIPE.shape)
    first, again = (fit(examples, recipe, 1)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_figures_judge_a_clip_among_the_labels_of_its_corpus() -> None:
    found = {}
    for name in (*(f"fold-{fold}" for fold in range(FOLDS)), "from-ravdess", "from-emodb"):
        corpora, labels = [], []
        for corpus in ("ravdess", "emodb"):
            own = [k for k, label in enumerate(LABELS) if label not in MISSING[corpus]]
            labels += own
            corpora += [corpus] * len(own)
        logits = torch.eye(len(LABELS))[labels]
        logits[:, LABELS.index("boredom")] += 10  # RAVDESS has none, so it can't be taken for it
        judged = {"clean": logits, "distorted": -logits, "wordless": logits, "brief": logits}
        found[name] = {"logits": judged, "labels": torch.tensor(labels), "corpora": corpora}
    figures = figures_of(found)
    assert figures["ravdess_distorted_uar"] == 0.0
    assert figures["ravdess_uar"] == 100.0
    assert figures["emodb_uar"] == pytest.approx(100 / 7, abs=0.1)
    assert figures["ravdess_to_emodb_uar"] == 100.0  # over the six labels that both have


def test_a_run_that_has_ended_is_not_made_again(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = VoiceRecipe(epochs=1, batch=32, most_frames=24, shape=RECIPE.shape)
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: recipe)
    monkeypatch.setattr(speech_data, "load", lambda folder: [])
    monkeypatch.setattr(speech_bank, "load", lambda clips, folder, say: examples)
    said: list[str] = []
    first = train_encoder(tmp_path, tmp_path, resume=True, say=said.append)
    assert len(said) == FOLDS + 3
    assert train_encoder(tmp_path, tmp_path, resume=True, say=said.append) == first
    assert len(said) == FOLDS + 3
    state, card = shipped.load("voice", tmp_path)
    assert card.figures == first
    assert card.recipe["labels"] == list(LABELS)
    assert sum(value.numel() for value in state.values()) == card.record["parameters"]
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: RECIPE)
    with pytest.raises(DataError, match="another recipe"):
        train_encoder(tmp_path, tmp_path, resume=True, say=said.append)


def test_runs_made_elsewhere_stand_beside_the_shipped_network(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another processor, another number of threads: the shipped network's own run can't be made again to the bit."""
    recipe = VoiceRecipe(epochs=1, batch=32, most_frames=24, shape=RECIPE.shape)
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: recipe)
    monkeypatch.setattr(speech_data, "load", lambda folder: [])
    monkeypatch.setattr(speech_bank, "load", lambda clips, folder, say: examples)
    train_encoder(tmp_path / "shipped", tmp_path / "shipped", resume=True, say=lambda line: None)
    made = shipped.load("voice", tmp_path / "shipped")
    monkeypatch.setattr(shipped, "load", lambda name: made)
    said: list[str] = []
    _, networks = train_voice.runs_beside_shipped(tmp_path, tmp_path / "here", ("fold-1",), said.append)
    assert set(networks) == {"all", "fold-1"}
    assert len(said) == 1, "nothing else is made"
    assert all(torch.equal(value, made[0][key]) for key, value in networks["all"].state_dict().items())
    assert not torch.equal(networks["fold-1"].head.weight, networks["all"].head.weight)
    monkeypatch.setattr(train_voice, "VoiceRecipe", lambda: RECIPE)
    with pytest.raises(DataError, match="another recipe"):
        train_voice.runs_beside_shipped(tmp_path, tmp_path / "here", ("fold-1",), said.append)
