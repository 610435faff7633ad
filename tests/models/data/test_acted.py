"""Acted speech as a data set to fuse: on small recordings with the corpora's own names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import media_files, needs, voices

from mer_agent.encoders.mel import MelEncoder
from mer_agent.encoders.sequences import STEPS, take_apart
from mer_agent.encoders.whisper_steps import RECOGNISER, WhisperStepsEncoder
from mer_agent.errors import DataError
from mer_agent.models.data import speech_data
from mer_agent.models.data.corpora import load
from mer_agent.models.training.recipe import Recipe
from mer_agent.models.training.train import train

TOKENS = "text/mpnet-tokens@1"


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mer_agent.models.data.acted.user_cache_path", lambda name: tmp_path / "cache")
    names = [("ravdess", f"03-01-{e:02}-01-02-01-{actor:02}", e) for e in (3, 5) for actor in range(1, 11)]
    names += [("emodb", f"{speaker:02}b01{letter}a", speaker) for letter in "WT" for speaker in (3, *range(8, 17))]
    for corpus, name, seed in names:
        (tmp_path / "speech" / corpus).mkdir(parents=True, exist_ok=True)
        media_files.write_sound(tmp_path / "speech" / corpus / f"{name}.wav", voices.speech(0.5, seed=seed)[None])
    return tmp_path


def words(seen):
    def encode(texts):
        seen.extend(texts)
        return [torch.full((STEPS[TOKENS] * 3,), float(len(text))) for text in texts]

    return encode


def test_folds_split_by_speaker_and_bring_sound_and_sentence(data_dir: Path) -> None:
    seen: list[str] = []
    corpus = load("acted-1", data_dir, (TOKENS, "audio/mel@1"), encode_texts=words(seen))
    assert set(seen) == {"Dogs are sitting by the door.", "Was sind denn das für Tüten, die da unter dem Tisch stehen?"}
    speakers = {split: set(corpus.part(split).speakers.tolist()) for split in ("train", "valid", "test")}
    assert [len(some) for some in speakers.values()] == [12, 4, 4]
    assert len(set.union(*speakers.values())) == 20
    batch = corpus.batch
    assert batch.features["audio/mel@1"].shape == (40, MelEncoder.dimension)
    assert bool(batch.present["audio/mel@1"].all())
    again = load("acted-1", data_dir, ("audio/mel@1",))  # from the cache
    assert torch.equal(again.batch.features["audio/mel@1"], batch.features["audio/mel@1"])


@pytest.mark.real_weights
def test_the_recogniser_hears_clips_as_the_agent_cuts_them_once(data_dir: Path) -> None:
    needs.weights(RECOGNISER)
    feature = WhisperStepsEncoder.feature
    batch = load("acted-0", data_dir, (feature,)).batch
    assert batch.features[feature].shape == (40, WhisperStepsEncoder.dimension)
    assert bool(batch.present[feature].all())
    _, there = take_apart(batch.features[feature], STEPS[feature])
    clips = speech_data.load(data_dir / "speech")
    cut = [speech_data.as_cut(speech_data.sound(clip)).audio for clip in clips]
    assert there.sum(1).tolist() == [len(sound) // 1280 for sound in cut if sound is not None]
    for clip in clips:
        clip.path.write_bytes(b"x" * clip.path.stat().st_size)  # so the second time they come from the cache
    again = load("acted-0", data_dir, (feature,)).batch
    assert torch.equal(again.features[feature], batch.features[feature])


def test_joint_fusion_trains_on_it(data_dir: Path) -> None:
    corpus = load("acted-0", data_dir, (TOKENS, "audio/mel@1"), encode_texts=words([]))
    shape = {"dimension": 8, "heads": 2, "hidden": 8, "context": 0}
    recipe = Recipe("joint-fusion", (TOKENS, "audio/mel@1"), shape=shape, epochs=2, icl=0.1)
    run = train(recipe, corpus, 0)
    assert {spec.steps for spec in run.specs} == {48, 100}
    assert 0 <= run.record["test"]["weighted_f1"] <= 100


def test_what_is_not_there_is_refused_by_name(data_dir: Path) -> None:
    with pytest.raises(DataError, match="acted-0 to acted-4"):
        load("acted-5", data_dir, ("audio/mel@1",))
    with pytest.raises(DataError, match="no feature 'audio/ge2e@1'"):
        load("acted-0", data_dir, ("audio/ge2e@1",))
    media_files.write_sound(data_dir / "speech" / "ravdess" / "03-01-03-01-07-01-01.wav", voices.speech(0.5)[None])
    with pytest.raises(DataError, match="no sentence '07'"):
        load("acted-0", data_dir, (TOKENS,))
