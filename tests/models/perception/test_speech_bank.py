"""What is learned from of a clip is what the agent would hear of it, kept for the next time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import media_files, needs, voices

from mer_agent.encoders.voice import VoiceEncoder
from mer_agent.encoders.whisper_layers import MEANS
from mer_agent.models.data.speech_data import Clip
from mer_agent.models.perception import speech_bank
from mer_agent.models.perception.speech_bank import ALONE, BRIEF_S, COPIES, KINDS
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    quiet = np.zeros(8_000, np.float32)
    made = []
    for number, pitch_hz in enumerate((120, 210)):
        path = tmp_path / f"{number}.wav"
        sound = np.concatenate([quiet, voices.speech(1.5, pitch_hz=pitch_hz), quiet])
        media_files.write_sound(path, sound[None])
        made.append(Clip(path, "made", f"made-{number}", 0, 0))
    return made


def test_copies_are_cut_near_where_the_clean_one_is(clips: list[Clip]) -> None:
    clean, *others = speech_bank._copies(clips[0], clips)
    assert len(others) == KINDS - 1 == COPIES + 1
    for other in others[:COPIES]:
        assert abs(other.start_ns - clean.start_ns) <= 80e6
        assert abs(other.end_ns - clean.end_ns) <= 80e6
        at = (other.start_ns + NS_PER_S // 2) * SAMPLE_RATE_HZ // NS_PER_S  # the same moment of both
        there, here = (
            one.audio[at - one.audio_start_ns * SAMPLE_RATE_HZ // NS_PER_S :][:8000]  # type: ignore[index, operator]
            for one in (other, clean)
        )
        assert abs(np.corrcoef(there, here)[0, 1]) < 0.9999, "it is distorted"


def test_the_last_copy_is_a_brief_stretch_of_the_speech(clips: list[Clip]) -> None:
    for clip in clips:
        clean, *_, brief = speech_bank._copies(clip, clips)
        assert BRIEF_S[0] - 0.01 <= (brief.end_ns - brief.start_ns) / NS_PER_S <= BRIEF_S[1]
        assert clean.start_ns <= brief.start_ns
        assert brief.end_ns <= clean.end_ns


@pytest.mark.real_weights
def test_is_computed_once_for_the_same_clips(clips: list[Clip], tmp_path: Path) -> None:
    needs.weights("ge2e")
    needs.weights("whisper-base")
    said: list[str] = []
    first, again = (speech_bank.load(clips, tmp_path / "bank", said.append) for _ in range(2))
    assert len(said) == 1
    for one, other in zip(first, again, strict=True):
        assert len(one.alone) == KINDS
        assert one.heard.shape == (KINDS, MEANS)
        assert one.heard.isfinite().all()
        assert torch.equal(one.heard, other.heard)
        assert {*ALONE} == {*one.alone[0]}
        assert one.alone[0][VoiceEncoder.feature] is not None
    speech_bank.load(clips[:1], tmp_path / "bank", said.append)
    assert len(said) == 2, "other clips, another file"
