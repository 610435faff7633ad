"""Clips become utterances as the agent has them, a few at a time."""

from __future__ import annotations

import pytest
import torch
from support.media_files import tone, write_media, write_sound

from mer_agent.encoders import base
from mer_agent.models.data.clips import LiveEncoders, encode_clips
from mer_agent.models.data.dialogues import Dialogue, Line


def test_utterances_carry_sound_pictures_words_and_times(tmp_path):
    clip = write_media(tmp_path / "a.mp4", sound=tone(1.0), codec="aac", pictures=20)
    dialogue = Dialogue("d", "train", "", (Line("a", "Ann", "Hello there", "yes", 10.0, 11.5),))
    seen = []

    def encode(feature, utterances, past_turns):
        seen.extend(utterances)
        return [torch.zeros(2) for _ in utterances]

    values, present = encode_clips([dialogue], {"a": clip}, ["face/x@1"], encode)
    assert values["face/x@1"].shape == (1, 2)
    assert present["face/x@1"].all()
    (utterance,) = seen
    assert utterance.text == "Hello there"
    assert utterance.duration_s == pytest.approx(1.0, abs=0.06)  # the clip's, AAC padding included
    assert len(utterance.speech) == len(utterance.audio)
    assert utterance.frames[0].captured_ns == utterance.start_ns == 10 * 10**9
    assert len(utterance.frames) == 10


def test_pictures_are_left_alone_when_nobody_looks(tmp_path):
    clip = write_media(tmp_path / "a.mp4", sound=tone(0.5), codec="aac", pictures=5)
    dialogue = Dialogue("d", "train", "", (Line("a", "Ann", "", "yes", 0.0, 0.5),))
    seen = []

    def encode(feature, utterances, past_turns):
        seen.extend(utterances)
        return [torch.zeros(1)]

    encode_clips([dialogue], {"a": clip}, ["audio/x@1"], encode)
    assert seen[0].frames == ()
    assert seen[0].transcript is None


def test_many_clips_come_in_small_batches_in_order(tmp_path):
    clip = write_sound(tmp_path / "a.wav", tone(0.1))
    lines = tuple(Line(str(i), "Ann", "x" * i, "yes", float(i), i + 0.1) for i in range(20))
    sizes = []

    def encode(feature, utterances, past_turns):
        sizes.append(len(utterances))
        return [
            torch.tensor([float(len(u.text)), float(len(turns))])
            for u, turns in zip(utterances, past_turns, strict=True)
        ]

    values, _ = encode_clips([Dialogue("d", "train", "", lines)], {"3": clip}, ["audio/x@1"], encode)
    assert values["audio/x@1"].tolist() == [[float(i), float(i)] for i in range(20)]
    assert max(sizes) <= 8


def test_the_live_encoders_are_made_once_each(monkeypatch):
    made = []

    class Fake:
        def encode(self, utterances, past_turns=()):
            return [None for _ in utterances]

    monkeypatch.setattr(base, "create", lambda feature, device: made.append((feature, device)) or Fake())
    encode = LiveEncoders("cpu")
    for feature in ("text/mpnet@1", "audio/ge2e@1", "text/mpnet@1"):
        assert encode(feature, [1, 2], [(), ()]) == [None, None]
    assert made == [("text/mpnet@1", "cpu"), ("audio/ge2e@1", "cpu")]
