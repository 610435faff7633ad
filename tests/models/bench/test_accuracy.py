"""A bench that can be stopped at any moment, never trains a run twice, and trains again what has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import tiny_iemocap

from mer_agent.errors import DataError
from mer_agent.models.bench import accuracy
from mer_agent.models.bench.accuracy import Task, bench, is_of, read_all, tasks
from mer_agent.models.bench.plan import Plan, Row
from mer_agent.models.data import datasets
from mer_agent.models.training import records
from mer_agent.models.training.recipe import Recipe

TINY = {
    "descriptors": tiny_iemocap.DESCRIPTORS,
    "ignored": (),
    "epochs": 3,
    "batch_dialogues": 4,
}
SIZES = {"dimension": 8, "hidden": 8, "layers": 1, "heads": 2}
MPNET = {"replace": {"text/mpnet-layers@1": "text/mpnet@1"}}
PLAN = Plan(
    "Two models",
    (
        Row("ours", changes={**TINY, **MPNET, "shape": SIZES}),
        Row("floor", "gru", changes={**TINY, **MPNET, "shape": {"units": 8}}),
    ),
    baseline="floor",
    seeds=2,
)


@pytest.fixture
def data(tmp_path, monkeypatch):
    tiny_iemocap.write(tmp_path / "data")
    monkeypatch.setattr(datasets, "_encoder", lambda feature: tiny_iemocap.encode_texts)
    monkeypatch.setattr(datasets, "user_cache_path", lambda name: tmp_path / "cache")
    accuracy._corpus.cache_clear()
    yield tmp_path / "data"
    accuracy._corpus.cache_clear()


def test_the_runs_of_all_rows_come_seed_by_seed_and_once():
    wanted = tasks([PLAN, PLAN])
    assert [(task.recipe.model, task.seed) for task in wanted] == [
        ("ar-iigcn", 0),
        ("gru", 0),
        ("ar-iigcn", 1),
        ("gru", 1),
    ]
    assert len(tasks([PLAN], seeds=1)) == 2
    assert len({task.name for task in wanted}) == 4


def test_every_run_leaves_its_record_and_is_not_repeated(data, tmp_path):
    folder = tmp_path / "records"
    seen = []
    first = list(bench(tasks([PLAN]), data, folder, progress=lambda task, epoch, score: seen.append(epoch)))
    assert seen == [0, 1, 2] * 4
    assert all(done.took_s is not None for done in first)
    assert sorted(record["seed"] for record in read_all(folder)) == [0, 0, 1, 1]
    assert [path.name for path in (folder / accuracy.UNFINISHED).iterdir()] == []
    again = list(bench(tasks([PLAN]), data, folder))
    assert all(done.took_s is None for done in again)
    assert [done.record for done in again] == [records.read(folder / f"{done.task.name}.json") for done in first]
    (forced,) = bench(tasks([PLAN])[:1], data, folder, again=True)
    assert forced.took_s is not None
    assert forced.record["predictions"] == first[0].record["predictions"]  # and it is the very same run


def test_a_stopped_run_goes_on(data, tmp_path):
    (task, *_), folder = tasks([PLAN]), tmp_path / "records"

    def stop(task, epoch, score):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(bench([task], data, folder, progress=stop))
    assert not list(folder.glob("*.json"))
    seen = []
    (done,) = bench([task], data, folder, progress=lambda task, epoch, score: seen.append(epoch))
    assert seen == [2]
    (whole,) = bench([task], data, tmp_path / "other")
    assert whole.record["predictions"] == done.record["predictions"]


def test_other_data_are_another_run(data, tmp_path):
    folder = tmp_path / "records"
    (task, *_) = tasks([PLAN])
    list(bench([task], data, folder))
    table = data / "iemocap" / "dialogues.jsonl"
    table.write_text(table.read_text().replace('"sad"', '"happy"', 1))
    accuracy._corpus.cache_clear()
    (done,) = bench([task], data, folder)
    assert done.took_s is not None


def test_a_damaged_record_is_said_and_not_trained_over(data, tmp_path):
    (task, *_) = tasks([PLAN])
    (tmp_path / f"{task.name}.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        list(bench([task], data, tmp_path))


def test_two_processes_give_what_one_does(data, tmp_path):
    """The words are in the cache by then, so the processes need no encoder."""
    audio = replace(PLAN.rows[1], modalities=("audio",))
    wanted = tasks([replace(PLAN, rows=(audio,))])
    alone = {done.task.name: done.record for done in bench(wanted, data, tmp_path / "alone")}
    together = {done.task.name: done.record for done in bench(wanted, data, tmp_path / "together", jobs=2)}
    assert set(alone) == set(together)
    for name, record in alone.items():
        assert together[name]["predictions"] == record["predictions"]


def test_a_record_older_than_a_field_had_its_default():
    recipe = Recipe(model="gru", epochs=3)
    task = Task(recipe, "iemocap", 0)
    record = {"recipe": {"model": "gru", "epochs": 3}}
    assert is_of(record, recipe)
    assert not is_of(record, replace(recipe, focal=2.0))
    assert not is_of({"recipe": {"model": "gru", "epochs": 3, "gone": 1}}, recipe)
    assert task.name.startswith("iemocap-gru-")


def test_a_folder_without_records_is_said(tmp_path):
    with pytest.raises(DataError, match="bench accuracy first"):
        read_all(tmp_path)
