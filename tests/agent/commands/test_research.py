"""Converting, training and evaluating from the command line: what a user types, and each way in which data are bad."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import numpy as np
import pytest
from support import published_files as files
from support import tiny_iemocap, ur_funny_files

from mer_agent import cli
from mer_agent.encoders import weights
from mer_agent.models.training import runs


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs the command line in this process; gives its exit code, its output and its last line of error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["mer-agent", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, (err.strip().splitlines() or [""])[-1]

    yield call
    weights.set_directory(None)


def refused(result, *parts):
    code, _, line = result
    assert code == 2, line
    assert line.startswith("mer-agent: ")
    for part in parts:
        assert part in line


def test_published_features_are_converted_and_trained_on(run, tmp_path):
    source = files.write(tmp_path, "iemocap-raw")
    code, out, err = run("convert", source, tmp_path / "mine", "--layout", "iemocap-raw")
    assert code == 0, err
    assert "3 dialogues, 9 utterances" in out
    folder = tmp_path / "runs"
    train = ("train", "--data-dir", tmp_path, "--data", "mine", "--model", "text-cnn", "--seed", 0, "--folder", folder)
    code, _, err = run(*train)
    assert code == 0, err
    checkpoint = folder / "text-cnn-0.checkpoint.json"
    assert json.loads(checkpoint.read_text())["model"] == "text-cnn"
    code, out, err = run("evaluate", checkpoint, "--data-dir", tmp_path, "--data", "mine")
    assert code == 0, err
    assert "weighted_f1" in out


def test_ur_funny_is_converted(run, tmp_path):
    source = ur_funny_files.write(tmp_path / "in", ur_funny_files.content())
    code, out, err = run("convert", source, tmp_path / "out", "--layout", "ur-funny")
    assert code == 0, err
    assert "face/ur-funny@1" in out


def evil(fields, marker):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    fields[6]["Ses01F_impro01"][0] = Evil()


def without_a_label(fields, _):
    fields[2]["Ses01F_impro01"].pop()


def not_a_number(fields, _):
    fields[4]["Ses01F_impro01"][0][3] = np.nan


def without_training(fields, _):
    fields[7] = []


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (evil, ("was not run", "system")),
        (without_a_label, ("not of the layout iemocap-raw",)),
        (not_a_number, ("audio/iemocap-raw@1", "Ses01F_impro01_F000", "not finite")),
        (without_training, ("'train'",)),
    ],
)
def test_bad_pickles_are_refused_and_leave_nothing(run, tmp_path, spoil, parts):
    fields = files.content("iemocap-raw")
    spoil(fields, tmp_path / "was-run")
    source = files.write(tmp_path, "iemocap-raw", fields)
    refused(run("convert", source, tmp_path / "out", "--layout", "iemocap-raw"), *parts)
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "out").exists()


def test_a_corrupt_pickle_or_another_layout_is_refused(run, tmp_path):
    source = files.write(tmp_path, "iemocap-raw")
    refused(run("convert", source, tmp_path / "out", "--layout", "iemocap-mmgcn"), "another layout")
    refused(run("convert", source, tmp_path / "out", "--layout", "nothing"), "'nothing'", "iemocap-raw", "ur-funny")
    refused(run("convert", tmp_path / "none.pkl", tmp_path / "out", "--layout", "iemocap-raw"), "no such file")
    source.write_bytes(source.read_bytes()[:200])
    refused(run("convert", source, tmp_path / "out", "--layout", "iemocap-raw"), "was not run")


def edited(path: object, edit: Callable[[dict], None], only: int | None = None) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        if only in (None, number):
            edit(line)
    path.write_text("\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize(
    ("edit", "only", "part"),
    [
        (lambda line: line["utterances"][0].pop("label"), 0, "'label' is missing"),
        (lambda line: line["utterances"][0].update(label=""), 0, "has the label ''"),
        (lambda line: line.update(split="train"), None, "'valid'"),
        (lambda line: line["utterances"][0].update(end=float("nan")), 0, "start and end"),
    ],
)
def test_bad_dialogues_are_told_before_training(run, tmp_path, edit, only, part):
    edited(tiny_iemocap.write(tmp_path) / "dialogues.jsonl", edit, only)
    refused(run("train", "--data-dir", tmp_path, "--seed", 0, "--folder", tmp_path / "runs"), part)
    assert not (tmp_path / "runs").exists()


def test_features_that_are_not_numbers_are_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mer_agent.models.data.datasets._encoder", lambda feature: tiny_iemocap.encode_texts)
    monkeypatch.setattr("mer_agent.models.data.datasets.user_cache_path", lambda name: tmp_path)
    folder = tiny_iemocap.write(tmp_path)
    stored = dict(np.load(folder / "ge2e.npz"))
    stored["embedding"][0, 0] = np.nan
    np.savez(folder / "ge2e.npz", **stored)
    refused(run("train", "--data-dir", tmp_path, "--seed", 0, "--folder", tmp_path / "runs"), "256 finite numbers")


def test_an_unknown_model_names_the_known_ones(run):
    refused(run("train", "--model", "oracle"), "ar-iigcn", "c-mfn")
    refused(run("train", "--model", "gru", "--bidirectional"), "looks back only")


@pytest.mark.parametrize("data", ["iemocap", "meld", "mosi"])
def test_every_model_has_a_recipe_for_every_data_set(data):
    for model in runs.RECIPES:
        recipe = runs.recipe_for(model, data)
        assert recipe.model == model
        assert bool(recipe.descriptors) == ("audio/prosody@1" in recipe.features)
        modalities = {feature.partition("/")[0] for feature in recipe.features}
        assert len(modalities) == (3 if data == "mosi" and model != "joint-fusion" else 2)


def test_end_to_end_says_what_it_lacks(run, tmp_path):
    refused(run("evaluate", "live", "--end-to-end", tmp_path), "holds no recording")
    refused(run("evaluate", "live", "--end-to-end", tmp_path / "missing.wav"), "missing.wav")
    refused(run("evaluate", "live", "--compose", 1, "--data-dir", tmp_path), "no sound in")
