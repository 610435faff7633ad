"""Training on made-up faces: it learns, goes on where it stopped, and leaves what the encoder reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mer_agent.encoders import shipped
from mer_agent.encoders.densenet import DenseNet, DenseShape
from mer_agent.errors import DataError
from mer_agent.models.data import ferplus
from mer_agent.models.data.ferplus import EMOTIONS, Faces
from mer_agent.models.perception import train_face
from mer_agent.models.perception.judge_faces import logits_of
from mer_agent.models.perception.train_face import Cycle, FaceRecipe, train, train_encoder

RECIPE = FaceRecipe(
    epochs=4,
    batch=16,
    sides=((0, 24), (2, 16)),
    cycles=(Cycle(0, 0.5, 0.05),),
    average=0.5,
    shape=DenseShape(stem=4, layers=(1, 1), growth=(4, 4)),
)


def faces(many: int, seed: int) -> Faces:
    """Faces whose emotion is how high a bright bar is; the votes are split 8 to 2."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, len(EMOTIONS), (many,), generator=generator)
    images = torch.randint(0, 60, (many, 1, 48, 48), generator=generator)
    for image, k in zip(images, kind.tolist(), strict=True):
        image[0, 6 * k : 6 * k + 5] += 180
    votes = torch.full((many, len(EMOTIONS)), 0.2 / 7)
    votes[torch.arange(many), kind] = 0.8
    return Faces(images.to(torch.uint8), votes)


@pytest.fixture(scope="module")
def parts() -> dict[str, Faces]:
    return {"train": faces(64, 0), "valid": faces(32, 1), "test": faces(32, 2)}


def test_the_loss_falls_and_every_epoch_is_on_record(parts: dict[str, Faces]) -> None:
    heard: list[int] = []
    run = train(parts, RECIPE, progress=lambda epoch, loss, accuracy: heard.append(epoch))
    losses = [epoch["loss"] for epoch in run.record["epochs"]]
    assert heard == [0, 1, 2, 3]
    assert losses[-1] < losses[0]
    assert run.record["faces"] == {"train": 64, "valid": 32, "test": 32}
    assert run.record["test"]["n"] == 32
    assert sum(map(sum, run.record["test"]["confusion"])) == 32
    json.dumps(run.record)


def test_the_epoch_with_the_best_validation_is_kept(parts: dict[str, Faces]) -> None:
    run = train(parts, RECIPE)
    best = max(epoch["valid"]["accuracy"] for epoch in run.record["epochs"])
    assert run.record["valid"]["accuracy"] == pytest.approx(best, abs=3.2)  # half precision may move one face


def test_the_rate_rises_and_falls_in_each_cycle() -> None:
    recipe = replace(RECIPE, epochs=10, cycles=(Cycle(0, 2, 0.1), Cycle(6, 1, 0.04)))
    state = train_face._State(DenseNet(len(EMOTIONS), RECIPE.shape), recipe)
    rates = []
    for at in (0.0, 1.0, 2.0, 4.0, 5.999, 6.0, 7.0, 8.5, 9.999):
        state.set_rate(at)
        rates.append(state.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-4, 0.05, 0.1, 0.05, 1e-4, 4e-5, 0.04, 0.02, 4e-5], abs=1e-6)


def test_a_stopped_run_goes_on_to_the_same_weights(parts: dict[str, Faces], tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(epoch: int, loss: float, accuracy: float) -> None:
        if epoch == 1:
            raise Stopped

    with pytest.raises(Stopped):
        train(parts, RECIPE, folder=tmp_path, progress=stop)
    heard: list[int] = []
    resumed = train(parts, RECIPE, folder=tmp_path, progress=lambda epoch, loss, accuracy: heard.append(epoch))
    whole = train(parts, RECIPE)
    assert heard == [2, 3]
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key


def test_without_resume_it_begins_again(parts: dict[str, Faces], tmp_path: Path) -> None:
    train(parts, RECIPE, folder=tmp_path)
    heard: list[int] = []
    again = lambda epoch, loss, accuracy: heard.append(epoch)  # noqa: E731
    train(parts, RECIPE, folder=tmp_path, resume=False, progress=again)
    assert heard == [0, 1, 2, 3]


def test_a_state_of_another_recipe_is_refused(parts: dict[str, Faces], tmp_path: Path) -> None:
    train(parts, replace(RECIPE, epochs=1), folder=tmp_path)
    with pytest.raises(DataError, match="another recipe"):
        train(parts, RECIPE, folder=tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(parts: dict[str, Faces]) -> None:
    votes = parts["train"].votes.clone()
    votes[:] = torch.nan
    with pytest.raises(DataError, match="learning rate"):
        train({**parts, "train": Faces(parts["train"].images, votes)}, RECIPE)


def test_the_command_leaves_weights_and_card(
    parts: dict[str, Faces], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ferplus, "load", lambda path: parts if path.name == "ferplus.parquet" else None)
    monkeypatch.setattr(train_face, "live_crops", lambda network, faces, detector: {"found": 100.0})
    monkeypatch.setattr(train_face.weights, "path", lambda name: tmp_path / name)
    lines: list[str] = []
    figures = train_encoder(tmp_path / "data", tmp_path, resume=True, say=lines.append, recipe=RECIPE)
    assert len(lines) == 2 + RECIPE.epochs
    state, card = shipped.load("face", tmp_path)
    network = DenseNet(len(EMOTIONS), DenseShape.of(card.recipe["network"])).eval()
    network.load_state_dict({key: value.to(network.state_dict()[key].dtype) for key, value in state.items()})
    # The shipped half precision is what was scored.
    called = logits_of(network, parts["test"].images).argmax(1)
    accuracy = 100 * (called == parts["test"].votes.argmax(1)).float().mean()
    assert figures["test accuracy"] == pytest.approx(accuracy)
    assert card.figures["test"]["accuracy"] == figures["test accuracy"]
    assert card.figures["valid_damaged"]["unharmed"] == pytest.approx(figures["valid accuracy"], abs=3.2)
    assert card.terms == train_face.TERMS
