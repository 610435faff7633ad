"""A session that was recorded gives the same emotions when it is replayed, on real weights."""

import asyncio
import json
import time
from pathlib import Path

import numpy as np
import pytest
from support import needs
from support.face_pictures import sample_frames
from support.live_command import HEARD_S, SESSION, Running, beginning, last_words, messages, until_quiet
from support.live_command import replay as replay_command
from support.mjpeg import NetworkCamera
from support.pulse import Pulse

from mer_agent.config import settings as config
from mer_agent.inputs import ReplayInput, Report
from mer_agent.run import replay, run
from mer_agent.streams.clock import SessionClock
from mer_agent.streams.mailbox import Sink
from mer_agent.streams.media import video_frames
from mer_agent.streams.replay import open_media
from mer_agent.streams.session import read_manifest, read_words
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import AudioChunk, VideoFrame
from mer_agent.wire.schema import EmotionMessage

SET = ("--set", "mqtt.port=0", "--set", "transcriber.patience_s=100")

pytestmark = pytest.mark.real_weights


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    for name in needs.AGENT:
        needs.weights(name)


class FaultyMicrophone:
    """Gives the session's sound as a device would: late, with a clock of its own, and once it goes away."""

    def __init__(self, clock: SessionClock) -> None:
        self._clock = clock

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        assert video is not None, "a recording wants pictures, whether or not the model does"
        random, away_ns, pictures = np.random.default_rng(1), 0, sample_frames()
        for number, chunk in enumerate(audio_chunks(SESSION / "audio-0.flac")):
            back = chunk.start_ns >= 9_000_000_000 and not away_ns
            if back:
                await audio.put(AudioChunk(chunk.samples[:0], chunk.start_ns, -1, discontinuity=True))
                away_ns = 3_456_789_012
            samples = (chunk.samples * random.uniform(0.999, 1.0)).astype(np.float32)  # more than 16 bits
            start_ns = 321_654_987 + round(chunk.start_ns * 1.00008) + away_ns
            await audio.put(AudioChunk(samples, start_ns, number + 2 * (away_ns > 0), discontinuity=back))
            if number % 4 == 0:
                image = pictures[number // 4 % len(pictures)].image
                await video.put(VideoFrame(image, start_ns, number // 4))
            await asyncio.sleep(0.002)  # much faster than a device, but no faster than any disk
        audio.close()


class FakeLive(ReplayInput):
    """A live session that takes no longer than it must."""

    def source(self, clock: SessionClock, report: Report) -> FaultyMicrophone:  # type: ignore[override]
        report("audio-0", "capturing")
        return FaultyMicrophone(clock)


def test_a_recorded_session_is_replayed_with_the_same_predictions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "session"
    # Faster than real, words come late; a replay has them in time, which is another context for what follows.
    loaded = config.load(assignments=["agent.session=s1", "mqtt.port=0", "transcriber.patience_s=100"])
    live: list[EmotionMessage] = []
    replayed: list[EmotionMessage] = []
    heard = FakeLive(SESSION, loaded.settings, real_time=False, live=True)
    asyncio.run(run(loaded.settings, heard, sinks=[live.append], record=folder))
    assert f"RECORDING sound, pictures and words into {folder}" in caplog.text
    asyncio.run(replay(loaded.settings, folder, real_time=False, sinks=[replayed.append]))
    first, again = last_words(live), last_words(replayed)
    assert len(first) >= 7
    assert all("visual" in message.modalities_used for message in first.values())
    assert list(again) == list(first)
    for one, other in zip(first.values(), again.values(), strict=True):
        assert (one.label, one.text, one.speaker, one.closed_by) == (
            other.label,
            other.text,
            other.speaker,
            other.closed_by,
        )
        assert (one.start_ns, one.end_ns) == (other.start_ns, other.end_ns)
        assert one.distribution == pytest.approx(other.distribution, abs=1e-6)
    assert messages(folder / "predictions.jsonl") == [message for message in live if message.kind != "partial"]
    spoken = read_words(folder)
    assert [turn.text for turn in spoken] == [message.text for message in first.values() if message.text]
    assert all(word.start_ns <= word.end_ns for turn in spoken for word in turn.words)
    manifest = read_manifest(folder)
    assert manifest.versions["model"] == live[0].model
    assert [one.file for one in manifest.video] == ["video-0.mkv"]
    assert (manifest.ended_ns or 0) > open_media(SESSION).duration_ns  # type: ignore[operator]


@pytest.mark.device
def test_a_live_session_that_was_killed_is_replayed_with_the_same_emotions(
    pulse: Pulse, camera: NetworkCamera, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    part, live, replayed = beginning(tmp_path), tmp_path / "live.jsonl", tmp_path / "replayed.jsonl"
    folder = tmp_path / "session"
    arguments = ["--mic", "default", "--camera", camera.url, "--output", live, "--record", folder]
    agent = Running(tmp_path, *SET, *arguments, environment=pulse.environment)
    request.addfinalizer(agent.process.kill)
    agent.until("RECORDING sound, pictures and words", 120)
    time.sleep(1.0)
    assert pulse.play(part).wait(HEARD_S + 10) == 0
    until_quiet(live, 5.0)  # all words are there, late ones too
    agent.process.kill()
    agent.process.wait()
    assert read_manifest(folder).ended_ns is None
    replay_command(folder, replayed, *SET)
    first, second = (last_words(messages(path)) for path in (live, replayed))
    told = json.dumps([[(m.start_ns, m.label, m.text) for m in found.values()] for found in (first, second)], indent=1)
    assert len(first) >= 4, told
    assert [m.text for m in first.values()] == [m.text for m in second.values()], told
    assert [m.label for m in first.values()] == [m.label for m in second.values()], told
    assert len(list(video_frames(folder / "video-0.mkv"))) > 80
