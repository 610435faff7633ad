"""What rooms, microphones and telephones do to a voice, done to clean recordings so that an encoder has met it."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

from mer_agent.streams.resampler import Resampler
from mer_agent.streams.types import SAMPLE_RATE_HZ

Sound = NDArray[np.float32]


def distort(sound: Sound, others: Sound, random: np.random.Generator) -> Sound:
    """Gives the sound (float32 [n], 16 kHz) as a room, noise, gain and perhaps a codec make it.

    Args:
        sound: a clean recording.
        others: voices for the background, float32 [m], not of the same speaker.
        random: where the chances come from.
    """
    if random.random() < 0.5:
        sound = reverberate(sound, random.uniform(0.1, 0.7), random)
    if random.random() < 0.75:
        sound = add(sound, _noise(len(sound), others, random), random.uniform(5.0, 30.0))
    sound = sound * np.float32(10 ** (random.uniform(-25.0, 15.0) / 20) / max(1e-6, float(np.abs(sound).max())))
    sound = np.clip(sound, -1, 1)
    if random.random() < 0.4:
        sound = [telephone, opus][random.integers(2)](sound)
    return sound.astype(np.float32)


def reverberate(sound: Sound, decay_s: float, random: np.random.Generator) -> Sound:
    """Gives the sound as in a room in which it takes `decay_s` to fade by 60 dB: exponentially fading noise."""
    length = int(decay_s * SAMPLE_RATE_HZ)
    response = random.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response *= 10 ** (random.uniform(-10.0, 5.0) / 20) / np.sqrt(np.sum(response**2))  # against the direct sound
    response[0] = 1.0
    size = 1 << int(np.ceil(np.log2(len(sound) + length)))
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
    return np.asarray(wet, np.float32)


def add(sound: Sound, noise: Sound, ratio_db: float) -> Sound:
    """Gives sound and noise together, the noise `ratio_db` below the sound."""
    power, other = float(np.mean(sound**2)), float(np.mean(noise**2))
    return sound + noise * np.float32(np.sqrt(power / max(other, 1e-12) * 10 ** (-ratio_db / 10)))


def telephone(sound: Sound) -> Sound:
    """Gives the sound after eight bits of mu-law at 8 kHz (G.711, without its tables' rounding)."""
    half = len(sound) // 2
    spectrum = np.fft.rfft(sound)
    narrow = np.fft.irfft(spectrum[: half // 2 + 1], half) * (half / max(1, len(sound)))
    squeezed = np.sign(narrow) * np.log1p(255 * np.minimum(np.abs(narrow), 1)) / np.log(256)
    rounded = np.round(squeezed * 127) / 127
    narrow = np.sign(rounded) * (256 ** np.abs(rounded) - 1) / 255
    wide = np.zeros(len(spectrum), np.complex128)
    coarse = np.fft.rfft(narrow)
    wide[: len(coarse)] = coarse
    return np.asarray(np.fft.irfft(wide, len(sound)) * (len(sound) / max(1, half)), np.float32)


def opus(sound: Sound, bits_per_s: int = 12_000) -> Sound:
    """Gives the sound after Opus at a low rate, as in a call over the internet."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono", bit_rate=bits_per_s)
        frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        for part in av.AudioResampler(format="flt", layout="mono", rate=48_000).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    file.seek(0)
    back = Resampler(48_000)
    with av.open(file, "r") as container:
        pieces = [back.push(frame.to_ndarray().reshape(1, -1)) for frame in container.decode(audio=0)]
    heard = np.concatenate([*pieces, back.finish()])
    return np.pad(heard, (0, max(0, len(sound) - len(heard))))[: len(sound)]


def _noise(length: int, others: Sound, random: np.random.Generator) -> Sound:
    """Gives white, pink or brown noise, other voices, or tones: machines hum, and music plays."""
    kind = random.integers(5)
    if kind == 3 and len(others):
        at = int(random.integers(len(others)))
        return np.resize(np.roll(others, -at), length).astype(np.float32)
    if kind == 4:
        return _tones(length, random)
    spectrum = np.fft.rfft(random.standard_normal(length))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** (0.5 * min(int(kind), 2))
    return np.asarray(np.fft.irfft(spectrum, length), np.float32)


def _tones(length: int, random: np.random.Generator) -> Sound:
    """Gives one to four tones at once with overtones, steady or struck again and again, at a random pitch each time."""
    struck = random.random() < 0.5
    step = int(random.uniform(0.2, 1.0) * SAMPLE_RATE_HZ) if struck else length
    t = np.arange(max(1, step)) / SAMPLE_RATE_HZ
    fade = np.exp(-random.uniform(1.0, 8.0) * t) if struck else np.ones(len(t))
    tones, roll_off = int(random.integers(1, 5)), random.uniform(0.5, 2.0)
    parts = []
    for _ in range(-(-length // len(t))):
        part = 0.02 * random.standard_normal(len(t))
        for pitch_hz in np.exp(random.uniform(np.log(40.0), np.log(800.0), tones)):
            for k in range(1, 9):
                part += np.sin(2 * np.pi * pitch_hz * k * t + random.uniform(0, 6)) / k**roll_off
        parts.append(part * fade)
    return np.concatenate(parts)[:length].astype(np.float32)
