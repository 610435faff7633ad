"""`mer-agent bench accuracy` and `bench report` from the command line: what they print, and what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import made_records, tiny_iemocap

from mer_agent import cli
from mer_agent.encoders import weights
from mer_agent.models.bench import accuracy
from mer_agent.models.bench.plans import BY_NAME_ONLY, PLANS, quick
from mer_agent.models.data import datasets
from mer_agent.models.training import records

Run = Callable[..., tuple[int, str, str]]

IMPUTED = {
    "kind": "imputation",
    "data": "iemocap",
    "model": "ar-iigcn",
    "protocol": "clean",
    "seeds": [0],
    "recipe": {"shape": {}},
    "weighted_f1": {
        "left out": {
            "valid": {"text": {"mean": 60.0, "deviation": None}},
            "test": {"text": {"mean": 61.5, "deviation": None}},
        }
    },
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mer-agent", "bench", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capfd.readouterr()

    yield call
    weights.set_directory(None)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    tiny_iemocap.write(tmp_path / "data")
    monkeypatch.setattr(datasets, "_encoder", lambda feature: tiny_iemocap.encode_texts)
    monkeypatch.setattr(datasets, "user_cache_path", lambda name: tmp_path / "cache")
    accuracy._corpus.cache_clear()
    yield tmp_path / "data"
    accuracy._corpus.cache_clear()


def test_the_plans_are_listed_without_training(run: Run) -> None:
    code, out, _ = run("accuracy", "--list")
    assert code == 0
    for name, plan in PLANS.items():
        assert (f"{name}: {plan.title}" in out) is (name not in BY_NAME_ONLY)
    assert run("accuracy", "roberta", "--list")[1].startswith("roberta: ")
    assert "dialogue-gcn" in out


def test_chosen_models_are_trained_and_reported(run: Run, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    chosen = ("--model", "fusion-add", "--modalities", "audio", "--seeds", 2, "--data-dir", data, "--folder", folder)
    code, out, err = run("accuracy", *chosen)
    assert code == 0, err
    assert "2/2 iemocap-fusion-add-" in out
    assert "validation" in out
    (first, _) = accuracy.read_all(folder)
    assert f"{first['test']['weighted_f1']:.2f}" not in out + err  # who trains doesn't see the test split
    code, out, _ = run("accuracy", *chosen)
    assert out.count("had a record") == 2


def test_the_report_is_printed_written_and_counted(run: Run, tmp_path: Path) -> None:
    for seed in range(2):
        for row in PLANS["peers"].rows[:2]:
            record = made_records.record(row.recipe, seed)
            records.write(tmp_path / "records" / f"{row.name}-{seed}.json", record)
    (tmp_path / "imputation").mkdir()
    (tmp_path / "imputation" / "iemocap.json").write_text(json.dumps(IMPUTED))
    code, out, err = run("report", "--folder", tmp_path / "records", "--json", tmp_path / "figures.json")
    assert code == 0, err
    assert "Models on IEMOCAP-6, looking back only" in out
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert {figure["plan"] for figure in figures} >= {"peers", "imputation"}
    assert "| text | 60.00, 61.50 |" in out
    assert {"model", "data", "modalities", "causal", "protocol", "seeds", "mean", "deviation"} <= set(figures[0])
    code, _, err = run("report", "--folder", tmp_path / "records", "--page", tmp_path / "none.md")
    assert code != 0
    assert "none.md" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("accuracy", "everything"), "no plan is called 'everything'"),
        (("accuracy", "--model", "bert"), "bert: it is one of"),
        (("accuracy", "--model", "gru", "--ways", "up"), "--ways up"),
        (("accuracy", "--modalities", "smell"), "--modalities smell"),
        (("report", "--folder", "/nowhere"), "holds no records"),
    ],
    ids=["plan", "model", "ways", "modalities", "folder"],
)
def test_what_cannot_be_done_is_said(run: Run, arguments: tuple[str, ...], says: str) -> None:
    code, _, err = run(*arguments)
    assert code != 0
    assert says in err
    assert "Traceback" not in err


def test_the_quick_bench_trains_every_model_shortly() -> None:
    assert {row.model for row in quick().rows} == {row.model for row in PLANS["peers"].rows}
    assert all(row.recipe.epochs <= 3 for row in quick().rows)


def test_training_is_timed_against_loops(run: Run, tmp_path: Path) -> None:
    code, out, err = run("training", "--dialogues", 2, "--rounds", 1, "--json", tmp_path / "speed.json")
    assert code == 0, err
    figures = json.loads((tmp_path / "speed.json").read_text())
    assert f"ratio {figures['ratio']:.1f} to the published loop" in out
    assert figures["dialogues"] == 2
