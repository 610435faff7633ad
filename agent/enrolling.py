"""What is learned of a voice when it is enrolled: the embedding of all its speech, found as in a session."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mer_agent.config.settings import Settings
from mer_agent.conversation import SPEAKER_FEATURE
from mer_agent.encoders.voice import VoiceEncoder
from mer_agent.errors import InputError
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.clock import RealClock
from mer_agent.streams.microphone import Microphone
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, AudioChunk
from mer_agent.streams.vad import SileroVad


def chunks_of(recording: Path) -> list[AudioChunk]:
    """The sound of a media file.

    Raises:
        MediaError: it can't be played.
    """
    return list(audio_chunks(recording))


def listen_to(device: str, seconds: float) -> list[AudioChunk]:
    """Some seconds of a microphone.

    Raises:
        DeviceError, MissingExtraError: it can't be opened.
    """
    heard: list[AudioChunk] = []
    capture = Microphone("audio-0", device, RealClock()).open(heard.append)
    try:
        time.sleep(seconds)
    finally:
        capture.close()
    return heard


def voice_of(chunks: Iterable[AudioChunk], settings: Settings) -> tuple[str, tuple[float, ...], float]:
    """Gives the feature's id, the embedding of the voice and how many seconds of speech it was found in.

    Raises:
        InputError: nobody speaks.
        WeightsError: the voice encoder has not been pulled.
    """
    cutter = SpeechCutter(SileroVad().stream, settings.segmenter)
    segments = [segment for chunk in chunks for segment in cutter.push(chunk)] + cutter.finish()
    encoder = VoiceEncoder(settings.encoders.device)
    total, speech_s = np.zeros(encoder.dimension), 0.0
    for segment, embedding in zip(segments, encoder.encode_sounds([one.audio for one in segments]), strict=True):
        if embedding is not None:
            duration_s = (segment.end_ns - segment.start_ns) / NS_PER_S
            total += duration_s * embedding.double().numpy()
            speech_s += duration_s
    if not speech_s:
        raise InputError("there is no speech in it")
    return SPEAKER_FEATURE, tuple((total / speech_s).tolist()), speech_s
