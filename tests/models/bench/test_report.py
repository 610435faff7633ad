"""The page is what the records give; figures name what they are of; the two protocols never stand together."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import made_records

from mer_agent.errors import InputError
from mer_agent.models.bench import imputation, pictures, report
from mer_agent.models.bench.accuracy import read_all
from mer_agent.models.bench.figures import by_kind
from mer_agent.models.bench.plan import Plan, Row

DOCS = Path(__file__).parents[3] / "docs"

PLANS = {
    "peers": Plan("Made up", (Row("ours"), Row("floor", "gru"), Row("nobody", "ctnet")), baseline="floor", seeds=3),
    "meld": Plan("Nothing here", (Row("ours", data="meld"),)),
}


@pytest.fixture(scope="module")
def measured():
    ours, floor = (PLANS["peers"].rows[k].recipe for k in (0, 1))
    runs = [made_records.record(ours, seed, skill=0.9) for seed in (2, 0, 1)]
    runs += [made_records.record(floor, seed, skill=0.3) for seed in range(3)]
    return report.gather(runs, PLANS)


def test_runs_are_found_by_their_recipe(measured):
    (only,) = measured
    assert [run["seed"] for run in only.runs["ours"]] == [0, 1, 2]
    assert [row.name for row, _ in only.found] == ["ours", "floor"]
    assert only.runs["nobody"] == []


def test_each_figure_says_what_it_is_of(measured):
    found = report.figures(measured)
    needed = {"model", "data", "modalities", "causal", "protocol", "seeds", "mean", "deviation", "measure"}
    assert all(needed <= set(figure) for figure in found)
    assert {figure["protocol"] for figure in found} == {"clean", "paper"}
    key = {"row": "ours", "protocol": "clean", "measure": "weighted_f1"}
    (ours,) = (figure for figure in found if key.items() <= figure.items())
    assert ours["modalities"] == ["audio", "text"]
    assert ours["causal"] is True
    assert ours["seeds"] == [0, 1, 2]
    runs = measured[0].runs["ours"]
    assert ours["mean"] == pytest.approx(sum(run["test"]["weighted_f1"] for run in runs) / 3, abs=0.01)
    assert ours["against"]["baseline"] == "floor"
    assert ours["against"]["difference"] > 0


def test_folds_of_acted_speech_are_summed_up_for_each_corpus():
    rows = (Row(f"fold {k}, mel", "joint-fusion", f"acted-{k}", modalities=("audio",)) for k in range(2))
    plan = Plan("Folds", tuple(rows))
    runs = [made_records.record(row.recipe, 0, data=row.data, kinds=("ravdess", "emodb")) for row in plan.rows]
    page = report.markdown(report.gather(runs, {"joint-speech": plan}), {})
    each = [[by_kind(run)[corpus] for run in runs] for corpus in ("ravdess", "emodb")]
    means = [f"{sum(scores) / 2:.2f} ±" for scores in each]
    (line,) = (line for line in page.splitlines() if line.startswith("| mel | 2 |"))
    assert all(mean in line for mean in means)


def test_the_two_protocols_stand_apart(measured):
    page = report.markdown(measured, {"peers": "p.svg", "peers-confusion": "q.svg"})
    clean, paper = page.split("### Protocol paper")
    for figure in report.figures(measured):
        if figure["measure"] == "weighted_f1" and figure["row"] == "ours":
            here, there = (clean, paper) if figure["protocol"] == "clean" else (paper, clean)
            told = f"{figure['mean']:.2f} ± {figure['deviation']:.2f}"
            assert told in here
            assert told not in there
    assert "| nobody | 0 | | not measured |" in clean
    assert "*baseline*" in clean
    assert "![Made up](p.svg)" in clean
    assert "q.svg" in clean


def test_a_page_is_rewritten_between_its_marks_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    new = f"{report.BEGIN}\n\nnew\n\n{report.END}\n"
    report.rewrite(page, new)
    assert page.read_text() == f"before\n\n{new}\nafter\n"
    report.rewrite(page, new)
    assert page.read_text() == f"before\n\n{new}\nafter\n"
    with pytest.raises(InputError, match="has no line"):
        report.insert("no marks", new)
    with pytest.raises(InputError, match="No such file"):
        report.rewrite(tmp_path / "none.md", new)


def test_the_published_page_is_what_the_committed_records_give():
    measured = report.gather(read_all(DOCS / "results" / "records"))
    imputed = imputation.read_all(DOCS / "results" / "imputation")
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    drawn = pictures.names(measured)
    assert report.insert(page, report.markdown(measured, drawn, imputed)) == page, (
        "docs/results.md is not what its records give: run mer-agent bench report --page docs/results.md"
    )
    for picture in drawn.values():
        assert (DOCS / picture).is_file(), f"{picture} was not drawn"


def test_rows_are_compared_over_the_seeds_that_both_have(measured):
    whole = measured[0]
    row = whole.plan.rows[0]
    fewer = report.Measured(whole.name, whole.plan, {**whole.runs, row.name: whole.runs[row.name][:2]})
    against = report._against(fewer, row)
    assert against["seeds"] == [0, 1]
    level = report.Measured(whole.name, whole.plan, {**fewer.runs, "floor": whole.runs["floor"][:2]})
    assert against == report._against(level, row)
    assert against != report._against(whole, row)
