from dataclasses import replace

import pytest
import torch
from support import tiny_iemocap, tiny_meld, tiny_mpnet

from mer_agent.encoders import lora, weights
from mer_agent.encoders.text import load_model
from mer_agent.encoders.turns import Words
from mer_agent.errors import DataError
from mer_agent.models.data import text_data
from mer_agent.models.perception.text_run import TextRecipe, TextRun

RECIPE = TextRecipe(rank=4, epochs=2, batch_tokens=256, learning_rate=5e-3, judge_rate=2e-2)


@pytest.fixture(autouse=True)
def base(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "tiny-mpnet"
    if not folder.is_dir():
        tiny_mpnet.make(folder)
    monkeypatch.setattr(weights, "path", lambda name: folder)
    return folder


@pytest.fixture
def talks(base, tmp_path):
    tiny_iemocap.write(tmp_path)
    tiny_meld.write(tmp_path)
    return text_data.load(tmp_path, Words(load_model(base, torch.device("cpu"))[1]))


def trained(run):
    run.train(lambda line: None)
    return run.result()


def test_it_learns_both_corpora(talks, tmp_path):
    run = TextRun(replace(RECIPE, epochs=12), talks, 0, -1, tmp_path)
    before = {corpus: run.judge(corpus, "valid") for corpus in ("iemocap", "meld")}
    trained(run)
    assert run.judge("iemocap", "valid") > before["iemocap"] + 20
    assert run.judge("meld", "valid") > before["meld"] + 20
    assert run.epochs[-1]["loss"] < run.epochs[0]["loss"]


def test_a_run_that_was_stopped_ends_as_the_run_that_was_not(talks, tmp_path):
    whole = trained(TextRun(RECIPE, talks, 3, 0, tmp_path / "whole"))
    first = TextRun(RECIPE, talks, 3, 0, tmp_path / "stopped")

    def stop(line: str) -> None:
        if "epoch 1" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.train(stop)
    resumed = TextRun(RECIPE, talks, 3, 0, tmp_path / "stopped")
    assert len(resumed.epochs) == 1
    for name, value in trained(resumed).items():
        assert torch.equal(value, whole[name]), name


def test_the_state_of_another_recipe_is_refused(talks, tmp_path):
    trained(TextRun(replace(RECIPE, epochs=1), talks, 0, -1, tmp_path))
    with pytest.raises(DataError, match="another recipe"):
        TextRun(RECIPE, talks, 0, -1, tmp_path)


def test_a_part_that_is_left_out_does_not_train(talks, tmp_path):
    run = TextRun(replace(RECIPE, epochs=1), talks, 0, 1, tmp_path)
    seen = set()
    loss = run._loss
    run._loss = lambda group, rng: (
        seen.update(said.number for piece in group for said in piece.said) or loss(group, rng)
    )
    trained(run)
    left_out = {said.number for talk in talks if talk.fold == 1 for said in talk.said}
    others = {said.number for talk in talks if talk.split == "train" and talk.fold != 1 for said in talk.said}
    assert seen == others
    assert not seen & left_out
    assert set(run.epochs[0]) >= {"valid", "left_out"}


def test_a_share_of_the_dialogues_is_read_as_misheard(base, tmp_path):
    tiny_iemocap.write(tmp_path)
    tiny_meld.write(tmp_path)
    talks = text_data.load(tmp_path, Words(load_model(base, torch.device("cpu"))[1]), misheard=True)
    written = {own.number for talk in talks for own in talk.said}
    for share in (0.0, 0.4, 1.0):
        run = TextRun(replace(RECIPE, epochs=1, misheard=share), talks, 0, 1, tmp_path / str(share))
        seen: list[int] = []
        loss = run._loss
        run._loss = lambda group, rng, loss=loss, seen=seen: (
            seen.extend(own.number for piece in group for own in piece.said) or loss(group, rng)
        )
        trained(run)
        heard = sum(number not in written for number in seen) / len(seen)
        assert heard == share if share in (0, 1) else 0 < heard < 1


def test_the_base_stays_as_it_was_and_what_is_shipped_merges_into_it(talks, tmp_path, base):
    run = TextRun(RECIPE, talks, 0, -1, tmp_path)
    state = trained(run)
    fresh = load_model(base, torch.device("cpu"))[0].to(torch.bfloat16)
    now = {name.replace(".base.", "."): value for name, value in run.learner.network.named_parameters()}
    for name, value in fresh.named_parameters():
        assert torch.equal(now[name], value), name
    plain = load_model(base, torch.device("cpu"))[0]
    before = plain.encoder.layer[-1].attention.attn.q.weight.clone()
    lora.merge(plain, state)
    assert not torch.equal(plain.encoder.layer[-1].attention.attn.q.weight, before)


def test_the_lower_states_are_kept_and_made_anew_for_other_words(talks, tmp_path):
    path = tmp_path / "text-lower.safetensors"
    first = TextRun(RECIPE, talks, 0, -1, tmp_path)
    made = path.stat().st_mtime_ns
    again = TextRun(RECIPE, talks, 0, -1, tmp_path)
    assert path.stat().st_mtime_ns == made
    assert all(torch.equal(a, b) for a, b in zip(first.lower, again.lower, strict=True))
    one = talks[0].said[0]
    talks[0] = replace(talks[0], said=(replace(one, tokens=(*one.tokens, 2)), *talks[0].said[1:]))
    TextRun(RECIPE, talks, 0, -1, tmp_path)
    assert path.stat().st_mtime_ns != made
