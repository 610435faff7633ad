"""`mer-agent train-encoder` from the command line: each of the encoders has a trainer that is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import tiny_mpnet

from mer_agent import cli
from mer_agent.commands.encoders import Trainable
from mer_agent.encoders import weights


@pytest.mark.parametrize("name", Trainable)
def test_an_encoder_without_data_says_which_are_missing(
    name: Trainable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    base = tiny_mpnet.make(tmp_path / "mpnet")
    monkeypatch.setattr(weights, "path", lambda wanted: base)
    folder = tmp_path / "made"
    monkeypatch.setattr(
        sys, "argv", ["mer-agent", "train-encoder", name, "--data-dir", str(tmp_path), "--folder", str(folder)]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    weights.set_directory(None)
    told = capfd.readouterr().err
    assert ended.value.code not in (0, None)
    assert "a bug" not in told
    assert str(tmp_path) in told
