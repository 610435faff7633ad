"""Utterance by utterance gives what the whole dialogue gives, whatever happens in between."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_agent.errors import CheckpointError
from mer_agent.models.ar_iigcn import ARIIGCN, Shape
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.graph import speaker_edges

SPECS = (
    FeatureSpec("text/t@1", "text", 5, mean=(0.1,) * 5, deviation=(2.0,) * 5),
    FeatureSpec("audio/a@1", "audio", 3),
    FeatureSpec("audio/b@1", "audio", 2),
    FeatureSpec("face/f@1", "visual", 4),
)
WINDOW = 3


def build(layers: int = 2, seed: int = 0) -> ARIIGCN:
    torch.manual_seed(seed)
    shape = Shape(dimension=8, hidden=8, layers=layers, window=WINDOW, heads=2)
    model = ARIIGCN(SPECS, 4, shape).eval()
    for parameter in model.parameters():  # away from the tame initial values
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@st.composite
def conversations(draw, most=30):
    count = draw(st.integers(1, most))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    turns = []
    for _ in range(count):
        features = {s.id: torch.randn(s.dimension, generator=generator) for s in SPECS if draw(st.integers(0, 3))}
        if "audio/b@1" in features and draw(st.booleans()):
            features["audio/b@1"][0] = torch.nan
        turns.append((draw(st.sampled_from([None, 0, 1, 2])), features))
    return turns


@torch.no_grad()
def whole(model, turns, gone=()):
    """The distribution of each turn by the full forward pass; `gone` are tombstones."""
    batch = Batch(
        {s.id: torch.stack([f.get(s.id, torch.full((s.dimension,), 9.0)) for _, f in turns]) for s in SPECS},
        {s.id: torch.tensor([s.id in f for _, f in turns]) for s in SPECS},
        torch.tensor([-1 if speaker is None else speaker for speaker, _ in turns]),
        torch.zeros(len(turns), dtype=torch.long),
        torch.zeros(len(turns), dtype=torch.long),
    )
    if not gone:
        return model(batch).logits.softmax(-1)
    alive = torch.tensor([i not in gone for i in range(len(turns))])
    edges = speaker_edges(batch.speakers, batch.dialogue, window=WINDOW, alive=alive)
    nodes = [space(batch.features, batch.present) for space in model.spaces]
    states = [graph(x, edges) for graph, x in zip(model.graphs, nodes, strict=True)]
    return model.judge(torch.stack(states, 1)).softmax(-1)


def close(a, b):
    return torch.allclose(a, b, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(turns=conversations(most=40), layers=st.integers(1, 3))
def test_the_stream_equals_the_full_forward_pass(turns, layers):
    model = build(layers)
    stream = model.stream()
    expected = whole(model, turns)
    for i, (speaker, features) in enumerate(turns):
        preview = stream.preview(speaker, features)
        judged = stream.append(f"u{i}", speaker, features)
        assert close(judged.probabilities, expected[i])
        assert torch.equal(preview.probabilities, judged.probabilities)
        assert preview.context_length == judged.context_length == min(i, WINDOW * layers)
        assert len(stream) == i + 1


@settings(deadline=None, max_examples=20)
@given(turns=conversations(), data=st.data())
def test_a_revision_equals_a_run_that_knew_it_all_along(turns, data):
    model, stream = build(), None
    stream = model.stream()
    for i, (speaker, features) in enumerate(turns):
        stream.append(f"u{i}", speaker, features)
    at = data.draw(st.integers(0, len(turns) - 1))
    new = (data.draw(st.sampled_from([None, 0, 1])), {"text/t@1": torch.full((5,), 0.7)})
    judged = stream.revise(f"u{at}", *new)
    if at < len(turns) - WINDOW * 2:  # nothing to come can feel it
        assert judged is None
        new = turns[at]
    turns = [*turns[:at], new, *turns[at + 1 :]]
    if judged is not None:
        assert close(judged.probabilities, whole(model, turns)[at])
    for k in range(8):
        turns.append((k % 2, {"audio/a@1": torch.full((3,), k / 4)}))
        assert close(stream.append(f"v{k}", *turns[-1]).probabilities, whole(model, turns)[-1])


@settings(deadline=None, max_examples=20)
@given(turns=conversations(), speaker=st.integers(0, 2))
def test_forgetting_a_speaker_equals_a_run_with_tombstones(turns, speaker):
    model = build()
    stream = model.stream()
    for i, turn in enumerate(turns):
        stream.append(f"u{i}", *turn)
    gone = {i for i, turn in enumerate(turns) if turn[0] == speaker}
    stream.forget(speaker)
    assert all(stream.revise(f"u{i}", 0, {}) is None for i in gone)
    recent = [i for i in range(max(0, len(turns) - WINDOW), len(turns)) if i not in gone]
    for i in recent:  # revised to what they were: their own states are recomputed without the speaker
        assert close(stream.revise(f"u{i}", *turns[i]).probabilities, whole(model, turns, gone)[i])
    for k in range(8):
        turns.append((speaker if k == 2 else None, {"text/t@1": torch.full((5,), k / 4)}))
        judged = stream.append(f"v{k}", *turns[-1])
        assert close(judged.probabilities, whole(model, turns, gone)[-1])
        reach = range(max(0, len(turns) - 1 - 2 * WINDOW), len(turns) - 1)
        assert judged.context_length == sum(i not in gone for i in reach)


def test_a_forgotten_speaker_leaves_nothing_behind():
    model = build()
    streams = [model.stream(), model.stream()]
    for stream, word in zip(streams, (1.0, -3.0), strict=True):
        stream.append("a", 0, {"text/t@1": torch.ones(5)})
        stream.append("b", 1, {"text/t@1": torch.full((5,), word)})
        stream.append("c", 0, {"text/t@1": torch.zeros(5)})
        stream.preview(1, {"text/t@1": torch.full((5,), word)})
        stream.forget(1)
    first, second = (stream._graphs.__dict__ for stream in streams)
    for name in ("_inputs", "_states", "_keys", "_values", "_speakers", "_alive"):
        left, right = (torch.stack(x) if isinstance(x, list) else x for x in (first[name], second[name]))
        assert torch.equal(left, right), name
    assert streams[0].to_dict()["numbers"] == {"a": 0, "c": 2}


@settings(deadline=None, max_examples=25)
@given(turns=conversations(most=45), data=st.data())
def test_a_saved_state_goes_on_as_if_nothing_happened(turns, data, tmp_path_factory):
    model = build()
    stream, at = model.stream(), data.draw(st.integers(0, len(turns)))
    for i, turn in enumerate(turns[:at]):
        stream.append(f"u{i}", *turn)
    if data.draw(st.booleans()):
        stream.forget(1)
    path = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save(stream.to_dict(), path)
    other = model.stream()
    other.load_dict(torch.load(path, weights_only=True))
    for i, turn in enumerate(turns[at:], at):
        here, there = stream.append(f"u{i}", *turn), other.append(f"u{i}", *turn)
        assert close(here.probabilities, there.probabilities)
        assert here.context_length == there.context_length
        here_again, there_again = (s.revise(f"u{i // 2}", 2, {}) for s in (stream, other))
        assert (here_again is None) == (there_again is None)


def test_a_state_of_another_shape_is_refused():
    saved = build(layers=1).stream()
    saved.append("a", 0, {})
    with pytest.raises(ValueError, match="another shape"):
        build(layers=2).stream().load_dict(saved.to_dict())


def test_memory_does_not_grow():
    stream = build().stream()
    sizes = set()
    for i in range(400):
        stream.append(f"u{i}", i % 3, {"audio/a@1": torch.ones(3)})
        if i > 50:
            saved = stream.to_dict()
            rows = stream._graphs._inputs.shape[0]
            sizes.add((len(saved["graphs"]["inputs"]), len(saved["numbers"]), rows))
    assert sizes == {(WINDOW * 3, WINDOW * 2, WINDOW * 12)}
    assert len(stream) == 400


def test_turns_of_the_system_are_context():
    model = build()
    one, two = model.stream(), model.stream()
    question = {"text/t@1": torch.ones(5)}
    one.append("q", 5, question)
    two.append_context("q", 5, question)
    answer = (0, {"text/t@1": -torch.ones(5)})
    assert torch.equal(one.append("a", *answer).probabilities, two.append("a", *answer).probabilities)
    assert not torch.allclose(model.stream().append("a", *answer).probabilities, one.preview(*answer).probabilities)


def test_reset_starts_anew():
    model = build()
    stream = model.stream()
    first = stream.append("a", 0, {"text/t@1": torch.ones(5)})
    stream.append("b", 1, {})
    stream.reset()
    again = stream.append("a", 0, {"text/t@1": torch.ones(5)})
    assert torch.equal(first.probabilities, again.probabilities)
    assert again.context_length == 0


def test_it_tells_which_modalities_it_had():
    judged = build().stream().append("a", None, {"audio/b@1": torch.ones(2), "other/x@1": torch.ones(7)})
    assert judged.used == ("audio",)
    assert judged.missing == ("text", "visual")
    assert float(judged.probabilities.sum()) == pytest.approx(1, abs=1e-6)


def test_misuse_is_told():
    stream = build().stream()
    stream.append("a", 0, {})
    with pytest.raises(ValueError, match="already"):
        stream.append("a", 0, {})
    with pytest.raises(CheckpointError, match=r"audio/a@1 has the shape \(4,\)"):
        stream.append("b", 0, {"audio/a@1": torch.ones(4)})
    assert len(stream) == 1
    with pytest.raises(RuntimeError, match="eval"):
        build().train().stream()


@given(conversations(12), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_why_leaves_each_part_out_once_and_leaves_no_trace(turns, seed):
    model = build(seed=seed % 3)
    asked, plain = model.stream(), model.stream()
    for at, (speaker, features) in enumerate(turns):
        why = asked.why(speaker, features)
        before = plain.preview(speaker, features)
        assert set(why.modalities) == set(before.used)
        assert set(why.turns) == {f"u{i}" for i in range(max(0, at - WINDOW), at)}
        label = int(before.probabilities.argmax())
        for modality, share in why.modalities.items():
            rest = {s.id: features[s.id] for s in SPECS if s.id in features and s.modality != modality}
            without = plain.preview(speaker, rest).probabilities[label]
            assert share == pytest.approx(float(before.probabilities[label] - without), abs=1e-5)
        judged = [stream.append(f"u{at}", speaker, features).probabilities for stream in (asked, plain)]
        assert torch.equal(*judged)


def test_the_only_earlier_turn_left_out_is_no_earlier_turn_at_all():
    model = build(layers=1)
    stream, empty = model.stream(), model.stream()
    features = {spec.id: torch.ones(spec.dimension) for spec in SPECS}
    stream.append("first", 0, {name: -value for name, value in features.items()})
    why = stream.why(1, features)
    label = int(stream.preview(1, features).probabilities.argmax())
    with_it, without = (one.preview(1, features).probabilities[label] for one in (stream, empty))
    assert why.turns["first"] == pytest.approx(float(with_it - without), abs=1e-5)
    assert abs(why.turns["first"]) > 1e-4
