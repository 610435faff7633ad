"""Pictures are drawn from records, are the same every time, and stay small."""

from __future__ import annotations

import torch
from support import made_records

from mer_agent.models.bench import pictures, report
from mer_agent.models.bench.plan import Plan, Row

PLANS = {
    "peers": Plan("Bars", (Row("ours"), Row("floor", "gru")), baseline="floor"),
    "margin": Plan("Sweep", tuple(Row(f"b = {b}", changes={"epochs": k + 1}) for k, b in enumerate((0.5, 0.1)))),
    "encoders": Plan("No picture", (Row("ours"), Row("floor", "gru"))),
}


def measured():
    rows = [row for plan in PLANS.values() for row in plan.rows]
    recipes = {row.name: row.recipe for row in rows}
    return report.gather([made_records.record(recipe, seed) for recipe in recipes.values() for seed in range(2)], PLANS)


def test_each_plan_gets_its_picture(tmp_path):
    drawn = pictures.draw(measured(), tmp_path)
    assert set(drawn) == {"peers", "peers-confusion", "margin"}
    assert drawn == pictures.names(measured())
    first = {name: (tmp_path / file).read_bytes() for name, file in drawn.items()}
    assert all(b"<svg" in content and len(content) < 60_000 for content in first.values())
    pictures.draw(measured(), tmp_path)
    assert {name: (tmp_path / file).read_bytes() for name, file in drawn.items()} == first
    bars = first["peers"].decode()
    assert "ours" in bars
    assert "floor" in bars


def test_a_sweep_runs_from_the_least_to_the_most(tmp_path):
    text = (tmp_path / pictures.draw(measured(), tmp_path)["margin"]).read_text()
    assert text.index("b = 0.1") < text.index("b = 0.5")


def test_the_learned_space_is_drawn(tmp_path):
    torch.manual_seed(0)
    labels = [0, 1, 2] * 20
    rows = torch.randn(60, 5) + 9 * torch.nn.functional.one_hot(torch.tensor(labels), 5)
    path = tmp_path / pictures.space(rows.numpy(), labels, ("sad", "glad", "angry"), tmp_path, "space")
    text = path.read_text()
    assert "<svg" in text
    assert "angry" in text
    assert len(text) < 100_000


def test_joint_fusion_is_drawn_on_the_emotions_of_its_paper_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(pictures.FOUR, "iemocap", ("glad", "sad"))
    plan = Plan("Joint", (Row("text", "joint-fusion", modalities=("text",)), Row("both", "joint-fusion")))
    runs = [made_records.record(row.recipe, 0) for row in plan.rows]
    drawn = pictures.draw(report.gather(runs, {"joint": plan}), tmp_path)
    assert set(drawn) == {"joint-confusion-iemocap"}
    text = (tmp_path / drawn["joint-confusion-iemocap"]).read_text()
    assert text.count(">glad<") == 2  # as a row and as a column
    assert text.count(">another<") == 1
    assert "angry" not in text
