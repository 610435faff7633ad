"""The measurement of imputing: what is in its record, and that generators really stand in."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support import tiny_iemocap

from mer_agent.errors import DataError
from mer_agent.models import checkpoint
from mer_agent.models.bench.imputation import STAGE, bench, figures, read_all, table
from mer_agent.models.training.recipe import Recipe
from mer_agent.models.training.runs import keep
from mer_agent.models.training.train import train

TINY = Recipe(
    features=tiny_iemocap.FEATURES,
    descriptors=tiny_iemocap.DESCRIPTORS,
    shape={"dimension": 8, "hidden": 8, "layers": 1, "heads": 2},
    epochs=3,
    batch_dialogues=4,
    learning_rate=1e-2,
    pick="last",
)
IMPUTING = replace(TINY, **{**STAGE, "shape": {**TINY.shape, "impute": True}})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_iemocap.corpus(tmp_path_factory.mktemp("data"))


def test_the_record_has_every_way_and_what_is_left(data):
    record = json.loads(json.dumps(bench(TINY, data, [0])))
    assert record["kind"] == "imputation"
    found = record["weighted_f1"]
    assert set(found) == {"left out", "after", "after, switched off", "throughout"}
    for way in found.values():
        assert set(way["test"]) == {"text", "audio", "text+audio"}
    # With everything there is nothing to impute; only features dropped at random in training could tell.
    assert found["after"]["valid"]["text+audio"] == found["after, switched off"]["valid"]["text+audio"]
    told = figures(record)
    assert len(told) == 4 * 2 * 3
    assert {"modalities": ["text"], "causal": True, "protocol": "clean", "seeds": [0]}.items() <= told[0].items()
    shown = table(record)
    for way in found.values():
        for left, value in way["test"].items():
            (line,) = (line for line in shown.splitlines() if line.startswith(f"| {left} |"))
            assert f"{way['valid'][left]['mean']:.2f}, {value['mean']:.2f}" in line


def test_records_are_read_back_and_others_refused(tmp_path):
    assert read_all(tmp_path / "none") == []
    (tmp_path / "a.json").write_text('{"kind": "imputation"}')
    assert read_all(tmp_path) == [{"kind": "imputation"}]
    (tmp_path / "b.json").write_text('{"kind": "other"}')
    with pytest.raises(DataError, match="another kind"):
        read_all(tmp_path)


def test_a_checkpoint_imputes_live_what_it_imputes_in_its_dialogue(data, tmp_path):
    run = train(IMPUTING, data, 0)
    model, card = checkpoint.load_live(keep(run, tmp_path, "imputes"))
    assert card.shape["impute"]
    assert card.shape["generators"]
    batch = data.part("test").dialogues(data.part("test").dialogue[:1])
    deaf = batch.without(["audio/ge2e@1", "audio/prosody@1"])
    expected = model(deaf).logits.softmax(-1)
    stream = model.stream()
    for i, row in enumerate(expected):
        words = {"text/mpnet@1": batch.features["text/mpnet@1"][i]}
        judged = stream.append(f"u{i}", int(batch.speakers[i]), words)
        torch.testing.assert_close(judged.probabilities, row, atol=1e-5, rtol=0)
    model.shape = replace(model.shape, impute=False)
    assert not torch.allclose(model(deaf).logits.softmax(-1), expected, atol=1e-3)
