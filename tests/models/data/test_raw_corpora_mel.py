"""The raw corpora with sequences: words token by token and the mel-spectrogram of each clip, to a trained model."""

from __future__ import annotations

import torch
from support import tiny_mpnet
from support.media_files import write_sound
from support.voices import speech

from mer_agent.encoders.mel import MelEncoder
from mer_agent.encoders.sequences import take_apart
from mer_agent.encoders.tokens import TokenEncoder
from mer_agent.models.data.converted import load_converted, write_table
from mer_agent.models.data.raw_corpora import read_iemocap_release
from mer_agent.models.training.recipe import Recipe
from mer_agent.models.training.train import train

FEATURES = ("text/mpnet-tokens@1", "audio/mel@1")
NAMES = {"Session1": ["Ses01F_impro01", "Ses01F_impro02", "Ses01M_impro01"], "Session5": ["Ses05M_script01_1"]}
LINES = (("F000", "ang", "i am here", 1.0), ("M000", "hap", "yes well what a day", 0.4), ("F001", "sad", "no", 0.7))


def release(root):
    for session, names in NAMES.items():
        dialog = root / session / "dialog"
        for name in names:
            clips = root / session / "sentences" / "wav" / name
            for folder in (dialog / "EmoEvaluation", dialog / "transcriptions", clips):
                folder.mkdir(parents=True, exist_ok=True)
            rated = [f"[{i}.0 - {i}.9]\t{name}_{who}\t{code}\t[2, 3, 4]" for i, (who, code, _, _) in enumerate(LINES)]
            said = [f"{name}_{who} [00{i}.0-00{i}.9]: {text}" for i, (who, _, text, _) in enumerate(LINES)]
            (dialog / "EmoEvaluation" / f"{name}.txt").write_text("\n".join(rated) + "\n")
            (dialog / "transcriptions" / f"{name}.txt").write_text("\n".join(said) + "\n")
            for k, (who, _, _, seconds) in enumerate(LINES):
                write_sound(clips / f"{name}_{who}.wav", speech(seconds, seed=k)[None], codec="pcm_s16le")
    return root


def test_iemocap_release_with_tokens_and_mel(tmp_path):
    encoders = {e.feature: e for e in (TokenEncoder("cpu", tiny_mpnet.make(tmp_path / "mpnet")), MelEncoder())}
    table = read_iemocap_release(
        release(tmp_path / "raw"), FEATURES, encode=lambda feature, some, past: encoders[feature].encode(some, past)
    )
    write_table(table, tmp_path / "own")
    corpus = load_converted(tmp_path / "own", FEATURES)
    mel = take_apart(corpus.batch.features["audio/mel@1"], 100)[1].sum(1)
    assert len(mel.unique()) == len(LINES)  # one length for each of the clips
    assert torch.equal(corpus.batch.features["audio/mel@1"], table.values["audio/mel@1"])
    shape = {"dimension": 8, "heads": 2, "hidden": 8, "context": 1}
    run = train(Recipe("joint-fusion", FEATURES, shape=shape, epochs=1, icl=0.1), corpus, 0)
    assert run.record["test"]["n"] == len(LINES)
