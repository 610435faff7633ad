"""UR-FUNNY's pickles: both versions, context that nobody judges, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from support import ur_funny_files as files

from mer_agent.errors import DataError
from mer_agent.models import checkpoint
from mer_agent.models.batch import NO_LABEL
from mer_agent.models.data.convert import convert
from mer_agent.models.data.converted import load_converted
from mer_agent.models.data.ur_funny import UR_FUNNY_LABELS, read_ur_funny
from mer_agent.models.training.evaluate import judge
from mer_agent.models.training.runs import keep, recipe_for
from mer_agent.models.training.train import train


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_are_converted_and_loaded(tmp_path, version):
    content = files.content(version)
    convert(files.write(tmp_path / "in", content), tmp_path / "out", "ur-funny")
    corpus = load_converted(tmp_path / "out")
    assert corpus.labels == UR_FUNNY_LABELS
    assert corpus.split == ("train", "train", "train", "valid", "test", "test")
    batch = corpus.batch
    assert {name: rows.shape[1] for name, rows in batch.features.items()} == {
        "text/ur-funny@1": 300,
        "audio/ur-funny@1": 81,
        "face/ur-funny@1": 371 if version == 2 else 75,
    }
    first = batch.dialogue == 0
    assert batch.labels[first].tolist() == [NO_LABEL] * 3 + [1]  # stretch 11 has three sentences of context
    assert set(batch.speakers.tolist()) == {0}
    words = np.asarray(content["word_embedding_list.pkl"])
    assert np.allclose(batch.features["text/ur-funny@1"][3], words[:3].mean(0), atol=1e-6)
    audio = content["covarep_features_sdk.pkl"][11]["context_features"][1]
    assert np.allclose(batch.features["audio/ur-funny@1"][1], np.mean(audio, 0), atol=1e-6)
    table = read_ur_funny(tmp_path / "in")
    assert table.lines[3].text == ("and 11 laughed" if version == 2 else "")


def test_context_is_seen_but_not_judged(tmp_path):
    convert(files.write(tmp_path / "in", files.content()), tmp_path / "out", "ur-funny")
    corpus = load_converted(tmp_path / "out")
    recipe = replace(recipe_for("c-mfn", "ur-funny"), features=tuple(corpus.batch.features), epochs=2, descriptors=())
    run = train(recipe, corpus, 0, folder=tmp_path / "runs")
    assert run.record["test"]["n"] == 2
    model, card = checkpoint.load(keep(run, tmp_path, "funny"))
    result = judge(model, card, corpus)
    assert result["n"] == 2
    assert result["weighted_f1"] == pytest.approx(run.record["test"]["weighted_f1"])


def test_silence_is_left_out_of_the_mean(tmp_path):
    content = files.content()
    stretch = content["covarep_features_sdk.pkl"][11]
    stretch["punchline_features"][0][5] = float("-inf")
    stretch["context_features"][0] = [[float("nan")] * 81] * 2
    table = read_ur_funny(files.write(tmp_path, content))
    assert table.present["audio/ur-funny@1"][:4].tolist() == [False, True, True, True]
    expected = np.mean([stretch["punchline_features"][k][5] for k in (1, 2)])
    assert float(table.values["audio/ur-funny@1"][3, 5]) == pytest.approx(expected, abs=1e-6)


def test_a_malicious_one_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'was-run'}",)

    content = files.content()
    content["language_sdk.pkl"][11]["punchline_sentence"] = Evil()
    with pytest.raises(DataError, match="was not run"):
        read_ur_funny(files.write(tmp_path / "in", content))
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.pop("humor_label_sdk.pkl"), "humor_label_sdk.pkl"),
        (lambda c: c.update({"data_folds.pkl": [1, 2]}), "should hold a dict"),
        (lambda c: c["humor_label_sdk.pkl"].pop(21), "layout ur-funny: KeyError"),
        (lambda c: c["humor_label_sdk.pkl"].update({21: 2}), "the label 2"),
        (lambda c: c.update({"data_folds.pkl": {**files.FOLDS, "dev": []}}), "no dialogue of the split 'valid'"),
        (lambda c: c["language_sdk.pkl"][12]["context_sentences"].append("more"), "3 sentences"),
        (lambda c: c["language_sdk.pkl"][12]["punchline_embedding_indexes"].append(99), "layout ur-funny"),
        (lambda c: c["covarep_features_sdk.pkl"][12]["context_features"].pop(), "sentences"),
        (lambda c: c["openface_features_sdk.pkl"][12].update(punchline_features=[[1.0]]), "numbers a word"),
    ],
)
def test_another_layout_is_told(tmp_path, spoil, message):
    content = files.content()
    spoil(content)
    with pytest.raises(DataError, match=message):
        read_ur_funny(files.write(tmp_path, content))
