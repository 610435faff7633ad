"""The resampler gives the same sound in pieces as in one, in place, and lets nothing alias."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mer_agent.streams.resampler import Resampler


def resampled(sound: NDArray[np.float32], rate_hz: int, sizes: list[int] | None = None) -> NDArray[np.float32]:
    resampler = Resampler(rate_hz)
    edges = np.cumsum(sizes or [])
    pieces = [resampler.push(piece) for piece in np.split(sound, edges[edges < sound.shape[1]], axis=1)]
    return np.concatenate([*pieces, resampler.finish()])


def sine(hz: float, rate_hz: int, seconds: float = 1.0, channels: int = 1) -> NDArray[np.float32]:
    one = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.tile(one, (channels, 1)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_pieces_give_what_the_whole_gives(rate_hz: int) -> None:
    random = np.random.default_rng(rate_hz)
    sound = random.uniform(-0.5, 0.5, (2, rate_hz)).astype(np.float32)
    sizes = random.integers(1, rate_hz // 30, 200).tolist()
    assert np.array_equal(resampled(sound, rate_hz, sizes), resampled(sound, rate_hz))


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_a_tone_stays_where_and_what_it_was(rate_hz: int, channels: int) -> None:
    heard = resampled(sine(1000, rate_hz, channels=channels), rate_hz)
    assert len(heard) == pytest.approx(16_000, abs=20)
    middle = slice(1000, 15_000)  # away from the filter's ends
    assert np.abs(heard[middle] - sine(1000, 16_000)[0][middle]).max() < 0.005


def test_what_is_above_the_band_disappears() -> None:
    heard = resampled(sine(9_500, 48_000), 48_000)[1000:15_000]
    assert 20 * np.log10(np.abs(heard).max() / 0.5) < -60


def test_samples_that_are_no_numbers_become_silence_and_are_counted() -> None:
    sound = sine(440, 16_000, 0.1)
    sound[0, 100:103] = np.nan, np.inf, -np.inf
    resampler = Resampler(16_000)
    heard = np.concatenate([resampler.push(sound), resampler.finish()])
    assert np.isfinite(heard).all()
    assert resampler.not_finite == 3


def test_nothing_in_gives_nothing_out() -> None:
    resampler = Resampler(48_000)
    assert len(resampler.push(np.zeros((2, 0), np.float32))) == 0
    assert len(resampler.finish()) == 0
