import json

import pytest
import torch
from support import tiny_iemocap, tiny_meld, tiny_mpnet

from mer_agent.encoders import shipped, weights
from mer_agent.encoders.text_emotion import HEARD, TextEmotionEncoder
from mer_agent.models.perception import train_text
from mer_agent.models.perception.text_run import TextRecipe
from mer_agent.streams.types import Transcript, Utterance


@pytest.fixture
def data(tmp_path, monkeypatch):
    base = tmp_path / "mpnet"
    tiny_mpnet.make(base)
    monkeypatch.setattr(weights, "path", lambda name: base)
    monkeypatch.setattr(
        train_text,
        "RECIPE",
        TextRecipe(rank=4, epochs=3, batch_tokens=256, learning_rate=5e-3, judge_rate=2e-2, misheard=0.4),
    )
    tiny_iemocap.write(tmp_path)
    tiny_meld.write(tmp_path)
    return tmp_path


def test_it_trains_judges_and_ships_and_goes_on_where_it_was_stopped(data):
    folder = data / "runs"
    lines = []
    figures = train_text.train_encoder(data, folder, resume=False, say=lines.append)
    assert {"iemocap test, weighted F1", "meld valid, weighted F1"} <= set(figures)
    card = shipped.read_card("text", folder)
    assert card.feature == HEARD
    assert {run["without"] for run in card.record["runs"]} == {0, 1, 2}
    assert card.figures["iemocap test"]["n"] == 30
    assert "licensed for research" in card.terms
    made = (folder / "text.safetensors").read_bytes()

    for path in folder.glob("text-2-*.state.pt"):
        path.unlink()  # as if it had been stopped in the last run
    lines.clear()
    again = train_text.train_encoder(data, folder, resume=True, say=lines.append)
    assert not any("text-0-" in line or "text-1-" in line for line in lines)
    assert any("text-2-" in line for line in lines)
    assert again == figures
    assert (folder / "text.safetensors").read_bytes() == made


def test_what_is_shipped_is_an_encoder(data):
    folder = data / "runs"
    train_text.train_encoder(data, folder, resume=False, say=lambda line: None)
    utterance = Utterance("u", 0, 0, 1, transcript=Transcript("so glad that you came"))
    rows = [TextEmotionEncoder("cpu", trained=folder, without=part).encode([utterance])[0] for part in (None, 0, 1, 2)]
    assert all(row.shape == (tiny_mpnet.WIDTH,) and row.isfinite().all() for row in rows)
    assert len({tuple(row.tolist()) for row in rows}) == 4
    assert torch.load(next(folder.glob("*.state.pt")), weights_only=True)["epochs"]
    assert json.loads((folder / "text.json").read_text())["figures"]["protocol"] == "clean"
