"""What a checkpoint once said is kept whole, and is told from another one's."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mer_agent.errors import CheckpointError
from mer_agent.models import checkpoint
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import NO_LABEL, Batch, FeatureSpec
from mer_agent.models.training import verdicts
from mer_agent.models.training.metrics import scores

SAID = {"a": torch.tensor([[0, 1], [6, 6]], dtype=torch.uint8), "b": torch.zeros(1, 2, dtype=torch.uint8)}


def test_are_labels_and_predictions_of_what_has_a_label() -> None:
    torch.manual_seed(0)
    model = ARIIGCN([FeatureSpec("text/x@1", "text", 4)], 3, Shape(dimension=8, hidden=8)).eval()
    labels = torch.tensor([0, NO_LABEL, 2, 1])
    there, nobody = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.int64)
    batch = Batch({"text/x@1": torch.randn(4, 4)}, {"text/x@1": there}, nobody, torch.arange(4), labels)
    said = verdicts.of(model, {"a": batch})["a"]
    assert said[:, 0].tolist() == [0, 2, 1]
    assert torch.equal(said[:, 1].long(), model(batch).logits.argmax(-1)[[0, 2, 3]])


def test_are_read_as_they_were_written(tmp_path: Path) -> None:
    card = tmp_path / "live.json"
    assert verdicts.write(card, "f00", SAID) == verdicts.path_beside(tmp_path / "live.safetensors")
    found = verdicts.read(card, "f00")
    assert found.keys() == SAID.keys()
    assert all(torch.equal(found[name], SAID[name]) for name in SAID)


def test_of_another_checkpoint_or_damaged_are_refused(tmp_path: Path) -> None:
    card = tmp_path / "live.json"
    with pytest.raises(CheckpointError, match=r"live-verdicts.safetensors is missing"):
        verdicts.read(card, "f00")
    path = verdicts.write(card, "f00", SAID)
    with pytest.raises(CheckpointError, match="another checkpoint"):
        verdicts.read(card, "f01")
    save_file({"a": torch.zeros(3)}, path, {"sha256": "f00"})
    with pytest.raises(CheckpointError, match="no verdicts"):
        verdicts.read(card, "f00")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        verdicts.read(card, "f00")


def test_those_of_the_shipped_model_say_what_its_card_says() -> None:
    card = checkpoint.read_card(checkpoint.locate("live"))
    shipped = verdicts.read(checkpoint.locate("live"), card.sha256)
    assert shipped.keys() == card.figures["valid"].keys()
    for name, figures in card.figures["valid"].items():
        labels, said = shipped[name].long().unbind(1)
        found = scores(torch.nn.functional.one_hot(said, len(card.labels)).float(), labels, card.labels)
        assert found["n"] == figures["n"]
        assert round(found["weighted_f1"], 2) == figures["weighted_f1"], name
