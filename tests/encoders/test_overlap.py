"""Two voices at once in one stream of sound: what the network reads, what it says, and that what ships hears them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from support import needs, voices

from mer_agent.encoders import shipped, voice
from mer_agent.encoders.overlap import OverlapEncoder, OverlapNetwork
from mer_agent.errors import WeightsError
from mer_agent.streams.session import read_words
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Utterance

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"


def utterance(sound: np.ndarray | None) -> Utterance:
    return Utterance("u", None, 0, NS_PER_S, audio=sound)


def kept_as(folder: Path, network: OverlapNetwork, units: int) -> Path:
    shipped.save(
        folder,
        "overlap",
        network.state_dict(),
        feature=OverlapEncoder.feature,
        recipe={"units": units},
        data="none",
        terms="none",
        figures={"none": 0},
        record={"none": 0},
    )
    return folder


def test_each_window_is_judged_by_itself() -> None:
    torch.manual_seed(0)
    network = OverlapNetwork(units=4).eval()
    windows = torch.rand(3, voice.SUMMARY)
    assert torch.allclose(network(windows)[1:], network(windows[1:]), atol=1e-6)


@pytest.mark.real_weights
def test_the_window_most_like_two_voices_speaks_for_the_utterance(tmp_path: Path) -> None:
    needs.weights("ge2e")
    torch.manual_seed(0)
    network = OverlapNetwork(units=4).eval()
    encoder = OverlapEncoder("cpu", kept_as(tmp_path, network, 4))
    sound = voices.speech(4.0, seed=1)
    (windows,) = voice.shared("cpu").windows([sound])
    assert windows is not None
    assert len(windows) > 1
    (likely,) = encoder.encode([utterance(sound)])
    assert likely is not None
    assert likely.item() == pytest.approx(network(windows).max().sigmoid().item(), abs=1e-6)


@pytest.mark.real_weights
def test_what_ships_hears_two_voices_where_there_are_two() -> None:
    needs.weights("ge2e")
    whole = np.concatenate([chunk.samples for chunk in audio_chunks(SESSION / "audio-0.flac")])
    said: dict[str, list[np.ndarray]] = {}
    for turn in read_words(SESSION):
        first, last = (at_ns * SAMPLE_RATE_HZ // NS_PER_S for at_ns in (turn.start_ns, turn.end_ns))
        said.setdefault(turn.speaker, []).append(whole[first:last] / np.sqrt(np.mean(whole[first:last] ** 2)) / 20)
    ben, anna = said.values()
    both = [one[: len(other)] + other[: len(one)] for one, other in itertools.product(ben, anna)]
    encoder = OverlapEncoder("cpu")
    alone, mixed = (
        [float(likely) for likely in encoder.encode([utterance(sound) for sound in sounds]) if likely is not None]
        for sounds in ([*ben, *anna], both)
    )
    assert len(alone) == 8
    assert max(alone) < 0.5
    assert sum(likely >= 0.5 for likely in mixed) >= 0.8 * len(both)


@pytest.mark.real_weights
def test_no_voice_is_no_answer() -> None:
    needs.weights("ge2e")
    encoder = OverlapEncoder("cpu")
    assert encoder.encode([utterance(None), utterance(np.zeros(SAMPLE_RATE_HZ, np.float32))]) == [None, None]


@pytest.mark.real_weights
def test_weights_of_another_recipe_are_refused(tmp_path: Path) -> None:
    needs.weights("ge2e")
    with pytest.raises(WeightsError, match="does not fit its card"):
        OverlapEncoder("cpu", kept_as(tmp_path, OverlapNetwork(units=4), 5))
