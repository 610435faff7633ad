"""Trained weights are what their card says, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mer_agent.encoders import shipped
from mer_agent.errors import WeightsError

STATE = {"weight": torch.arange(6.0).reshape(2, 3)}
ABOUT = {"feature": "audio/tiny@1", "recipe": {"labels": ["a"]}, "data": "d", "terms": "t"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shipped.save(tmp_path, "tiny", STATE, figures={"uar": 50.0}, record={"seed": 0}, **ABOUT)
    return tmp_path


def test_gives_back_what_was_saved(folder: Path) -> None:
    state, card = shipped.load("tiny", folder)
    assert torch.equal(state["weight"], STATE["weight"])
    assert (card.feature, card.recipe, card.figures) == ("audio/tiny@1", {"labels": ["a"]}, {"uar": 50.0})
    assert shipped.known(folder) == ["tiny"]


def test_other_bytes_are_refused(folder: Path) -> None:
    path = folder / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="sha256"):
        shipped.load("tiny", folder)


def test_what_is_missing_is_named_with_the_way_to_get_it(folder: Path) -> None:
    with pytest.raises(WeightsError, match="mer-agent train-encoder other"):
        shipped.load("other", folder)
    (folder / "tiny.safetensors").unlink()
    with pytest.raises(WeightsError, match="install the package again"):
        shipped.load("tiny", folder)
    assert shipped.known(folder) == []


@pytest.mark.parametrize(
    ("change", "message"), [({"format": 9}, "format 9"), ({"more": 1}, "malformed"), ({"sha256": None}, "sha256")]
)
def test_a_card_of_another_kind_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "tiny.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=message):
        shipped.load("tiny", folder)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 1}'])
def test_a_broken_card_is_refused(folder: Path, content: str) -> None:
    (folder / "tiny.json").write_text(content)
    with pytest.raises(WeightsError, match="malformed"):
        shipped.load("tiny", folder)


@pytest.mark.parametrize("name", shipped.known())
def test_what_the_package_ships_is_small_and_whole(name: str) -> None:
    state, card = shipped.load(name)
    assert state
    assert card.name == name
    assert card.data
    assert card.terms
    assert card.figures
    assert card.record
    assert (shipped.FOLDER / f"{name}.safetensors").stat().st_size < 15e6
