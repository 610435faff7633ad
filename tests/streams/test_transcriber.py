import asyncio
import re
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ctranslate2 import StorageView
from support import needs
from support.streams_fakes import ScriptedTranscriber, a_segment

from mer_agent.errors import WeightsError
from mer_agent.segmenter import SpeechCutter
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.transcriber import Heard, Transcriber, out_of_step, suspicion, window_s
from mer_agent.streams.types import Segment, Transcript
from mer_agent.streams.vad import SileroVad

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
VOICE = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000).astype(np.float32)


def heard(text: str, **fields: Any) -> Heard:
    words = text.split()
    return Heard(tuple((f" {word}", at * 0.2, at * 0.2 + 0.2, 0.9) for at, word in enumerate(words)), **fields)


@pytest.mark.parametrize(
    "text",
    [
        "I finally got the job!",
        "No.",
        "No, no, no, no!",
        "Thank you.",
        "do you hear me do you hear me",
        "Ha ha ha ha ha",
    ],
)
def test_what_people_say_is_believed(text: str) -> None:
    assert suspicion(heard(text, log_probability=-0.9, no_speech=0.7), VOICE) is None


@pytest.mark.parametrize(
    ("what", "audio", "reason"),
    [
        (heard(""), VOICE, "no words"),
        (heard("... !"), VOICE, "no words"),
        (heard("yes"), VOICE * 1e-3, "near silence"),
        (heard("yes", no_speech=0.7, log_probability=-1.1), VOICE, "no speech"),
        (heard("yes", log_probability=-1.9), VOICE, "unlikely words"),
        (heard("yes", compression=2.5), VOICE, "repetitive text"),
        (heard("one two three four five six seven eight nine ten"), VOICE[:16_000], "too many words"),
        (heard("well " + "I know " * 6), np.tile(VOICE, 4), "a loop"),
        (heard("Thanks for watching!"), VOICE, "a subtitle credit"),
        (heard("Subtitles by the Amara.org community"), VOICE, "a subtitle credit"),
        (heard("Please subscribe to my channel."), VOICE, "a subtitle credit"),
    ],
)
def test_what_is_invented_is_not(what: Heard, audio: np.ndarray, reason: str) -> None:
    assert suspicion(what, audio) == reason


def test_sound_that_is_no_number_is_no_reason_to_believe() -> None:
    assert suspicion(heard("yes"), np.full(1000, np.nan, np.float32)) == "near silence"
    assert suspicion(heard("yes"), np.zeros(0, np.float32)) == "near silence"


@pytest.mark.parametrize(("seconds", "window"), [(0, 15), (14, 15), (14.1, 20), (19.5, 30), (31, 30)])
def test_short_segments_get_a_short_window_with_room_at_its_end(seconds: float, window: int) -> None:
    assert window_s(round(seconds * 16_000)) == window


def test_the_same_sound_is_heard_in_the_same_step_wherever_it_was_cut() -> None:
    sound = np.concatenate([np.zeros(500, np.float32), VOICE])
    cuts = [sound[at:] for at in (0, 1, 96, 319, 320, 499)]
    whole = cuts[0][out_of_step(cuts[0]) :]
    for cut in cuts:
        assert 0 <= out_of_step(cut) < 320
        own = cut[out_of_step(cut) :]
        assert (len(whole) - len(own)) % 320 == 0
        np.testing.assert_array_equal(own, whole[len(whole) - len(own) :])
    assert out_of_step(np.zeros(0, np.float32)) == out_of_step(np.zeros(9, np.float32)) == 0


@dataclass
class FakePart:
    words: list[Any]
    avg_logprob: float = -0.2
    no_speech_prob: float = 0.01
    compression_ratio: float = 1.0


@dataclass
class FakeWord:
    word: str
    start: float
    end: float
    probability: float


class FakeModel:
    """Stands for faster-whisper: two words, then a second window that nobody asked for."""

    def __init__(self) -> None:
        self.frames = 0
        self.threads: list[str] = []
        self.options: dict[str, Any] = {}
        self.sound = np.zeros(0, np.float32)
        self.busy = threading.Lock()
        self.wait_s = 0.0
        self.windows = 0
        self.model = SimpleNamespace(is_multilingual=True)
        self.spoken = {"en": 0.9, "de": 0.1}
        self.first: Any = None

    def detect_language(self, audio: np.ndarray) -> tuple[str, float, list[tuple[str, float]]]:
        found = sorted(self.spoken.items(), key=lambda one: -one[1])
        return *found[0], found

    def transcribe(self, sound: np.ndarray, **options: Any) -> tuple[Any, None]:
        assert self.busy.acquire(blocking=False), "two segments at once"
        time.sleep(self.wait_s)
        self.threads.append(threading.current_thread().name)
        self.first = StorageView.from_array(np.arange(750, dtype=np.float32).repeat(2).reshape(1, 750, 2))
        self.sound, self.options = sound, options
        self.busy.release()
        return self._parts(), None

    def _parts(self) -> Any:
        for words in (
            [FakeWord(" Oh", 0.1, 0.3, 0.8), FakeWord(" no.", 0.3, 99.0, 0.6)],
            [FakeWord(" you", 1, 2, 0.1)],
        ):
            self.windows += 1
            yield FakePart(words)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(Transcriber, "_load", lambda self: fake)
    return fake


@pytest.fixture
def transcriber(tmp_path: Path, model: FakeModel) -> Any:
    (tmp_path / "model.bin").touch()
    transcriber = Transcriber(tmp_path)
    yield transcriber
    transcriber.close()


async def test_what_was_heard_beside_the_words_is_told_even_without_words(
    transcriber: Transcriber, tmp_path: Path
) -> None:
    """Over the sound alone, not over the silence that fills its window up: here 50 states a second that count."""
    for seconds, loud in ((2.0, True), (1.0, False)):
        sound = np.tile(VOICE, 4)[: int(seconds * 16_000)] * np.float32(loud)
        transcript = await transcriber.transcribe(a_segment(0.0, sound))
        assert bool(transcript.text) is loud
        assert transcript.hearing is not None
        assert transcript.hearing.weights == tmp_path.name
        states = np.arange((len(sound) - out_of_step(sound)) * 50 // 16_000)
        steps = states[: len(states) // 4 * 4].reshape(-1, 4).mean(1)  # 80 ms each; a rest is left out
        np.testing.assert_allclose(transcript.hearing.steps, np.stack([steps] * 2, 1), rtol=1e-4)


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, 0), (0.05, 0), (0.1, 1), (7.99, 99), (9.0, 100), (60.0, 100)])
async def test_as_many_steps_are_kept_as_are_read_however_long_the_sound(
    transcriber: Transcriber, seconds: float, steps: int
) -> None:
    hearing = (await transcriber.transcribe(a_segment(0.0, np.tile(VOICE, 30)[: int(seconds * 16_000)]))).hearing
    assert hearing is not None
    assert hearing.steps.shape == (steps, 2)
    assert hearing.steps.base is None, "or all states would be kept with them"


async def test_words_have_session_times(transcriber: Transcriber) -> None:
    transcript = await transcriber.transcribe(a_segment(5.0, VOICE))
    assert transcript.text == "Oh no."
    heard_ns = 5_000_000_000 + out_of_step(VOICE) * 62_500  # the model's times begin where it does
    assert [(word.text, word.start_ns, word.end_ns) for word in transcript.words] == [
        ("Oh", heard_ns + 100_000_000, heard_ns + 300_000_000),
        ("no.", heard_ns + 300_000_000, 7_000_000_000),  # never behind the segment's sound
    ]
    assert transcript.confidence == pytest.approx(0.7)


async def test_it_decodes_once_without_second_tries(transcriber: Transcriber, model: FakeModel) -> None:
    await transcriber.transcribe(a_segment(0.0, VOICE))
    assert model.windows == 1
    asked = model.options
    assert (asked["temperature"], asked["condition_on_previous_text"], asked["vad_filter"]) == (0.0, False, False)
    assert (asked["beam_size"], asked["language"]) == (1, "en")
    assert asked["log_prob_threshold"] is asked["compression_ratio_threshold"] is asked["no_speech_threshold"] is None
    assert asked["max_new_tokens"] == 50
    assert len(model.sound) == 15 * 16_000
    assert model.frames == 1500
    own = VOICE[out_of_step(VOICE) :]
    np.testing.assert_array_equal(model.sound[: len(own)], own)
    assert not model.sound[len(own) :].any()


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ({"en": 0.9, "de": 0.1}, "en"),
        ({"de": 0.98, "en": 0.001}, "de"),
        ({"th": 0.37, "en": 0.3}, "en"),  # nobody knows
        ({"de": 0.6, "en": 0.3}, "en"),  # a short "ja", or "yeah"
        ({"cy": 0.45, "nn": 0.4}, "en"),
    ],
)
async def test_the_language_is_found_out_and_english_where_that_is_in_doubt(
    tmp_path: Path, model: FakeModel, spoken: dict[str, float], written: str
) -> None:
    (tmp_path / "model.bin").touch()
    model.spoken = spoken
    transcriber = Transcriber(tmp_path, language=None)
    transcript = await transcriber.transcribe(a_segment(0.0, VOICE))
    transcriber.close()
    assert model.options["language"] == transcript.language == written
    assert transcript.languages == {max(spoken, key=lambda code: spoken[code]): max(spoken.values())} | {
        "en": spoken.get("en", 0.0)
    }


async def test_a_model_of_english_is_not_asked(tmp_path: Path, model: FakeModel) -> None:
    (tmp_path / "model.bin").touch()
    model.model.is_multilingual = False
    transcriber = Transcriber(tmp_path, language=None)
    transcript = await transcriber.transcribe(a_segment(0.0, VOICE))
    transcriber.close()
    assert (transcript.language, transcript.languages) == ("en", {})


async def test_sound_that_is_no_number_does_not_reach_the_model(transcriber: Transcriber, model: FakeModel) -> None:
    broken = VOICE.copy()
    broken[100:200] = np.nan
    await transcriber.transcribe(a_segment(0.0, broken))
    assert np.isfinite(model.sound).all()


async def test_segments_are_done_one_by_one_in_a_thread_of_their_own(
    transcriber: Transcriber, model: FakeModel
) -> None:
    model.wait_s = 0.02
    await transcriber.warm_up()
    await asyncio.gather(*(transcriber.transcribe(a_segment(float(at), VOICE)) for at in range(5)))
    assert len(model.threads) == 6
    assert len(set(model.threads)) == 1
    assert model.threads[0].startswith("transcriber")


async def test_the_loop_goes_on_meanwhile(transcriber: Transcriber, model: FakeModel) -> None:
    model.wait_s = 0.2
    working = asyncio.create_task(transcriber.transcribe(a_segment(0.0, VOICE)))
    turns = 0
    while not working.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 10


async def test_invented_words_give_an_empty_transcript_and_are_counted(transcriber: Transcriber) -> None:
    transcript = await transcriber.transcribe(a_segment(0.0, VOICE * 1e-4))
    assert transcript == Transcript("", confidence=0.0)
    assert transcriber.guarded == {"near silence": 1}


async def test_closing_does_not_wait_for_what_is_being_done(transcriber: Transcriber, model: FakeModel) -> None:
    model.wait_s = 0.5
    running = asyncio.create_task(transcriber.transcribe(a_segment(0.0, VOICE)))
    waiting = asyncio.create_task(transcriber.transcribe(a_segment(1.0, VOICE)))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    transcriber.close()
    assert time.monotonic() - begun < 0.2
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await running).text == "Oh no."
    with pytest.raises(RuntimeError, match="shutdown"):
        await transcriber.transcribe(a_segment(2.0, VOICE))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.bin"):
        Transcriber(tmp_path)


async def test_a_damaged_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nonsense" * 100)
    (tmp_path / "config.json").write_text("{}")
    transcriber = Transcriber(tmp_path)
    with pytest.raises(WeightsError, match="can't be loaded") as caught:
        await transcriber.warm_up()
    assert "\n" not in str(caught.value)
    transcriber.close()


async def test_the_fake_gives_scripted_words() -> None:
    fake = ScriptedTranscriber({5: "oh no"})
    transcript = await fake.transcribe(a_segment(5.5, VOICE))
    assert [(word.text, word.start_ns, word.end_ns) for word in transcript.words] == [
        ("oh", 5_500_000_000, 6_500_000_000),
        ("no", 6_500_000_000, 7_500_000_000),
    ]
    assert (await fake.transcribe(a_segment(9.0, VOICE))).text == ""


def cut(path: Path) -> list[Segment]:
    cutter = SpeechCutter(SileroVad().stream)
    return [segment for chunk in audio_chunks(path) for segment in cutter.push(chunk)] + cutter.finish()


def plain(text: str) -> list[str]:
    return re.sub(r"[^a-z ]", "", text.lower()).split()


@pytest.mark.real_weights
async def test_real_words_of_the_recorded_session() -> None:
    transcriber = Transcriber(needs.weights("whisper-base"))
    segments = cut(SESSION / "audio-0.flac")
    transcripts = [await transcriber.transcribe(segment) for segment in segments]
    said = plain(" ".join(transcript.text for transcript in transcripts))
    for phrase in (
        "how was your day",
        "finally got the job",
        "so happy for you",
        "sorry to hear that",
        "walk together",
    ):
        assert phrase in " ".join(said)
    for segment, transcript in zip(segments, transcripts, strict=True):
        starts = [word.start_ns for word in transcript.words]
        assert starts == sorted(starts)
        for word in transcript.words:
            assert segment.audio_start_ns <= word.start_ns <= word.end_ns <= segment.end_ns + 200_000_000
    again = await transcriber.transcribe(segments[2])
    assert again == transcripts[2]  # temperature 0: the same sound, the same words
    heard, listened = transcripts[2].hearing, transcriber.listen(segments[2].audio)
    assert heard is not None
    assert (heard.weights, heard.steps.shape[1]) == ("whisper-base", 512)
    np.testing.assert_allclose(listened.steps, heard.steps, atol=1e-3)
    transcriber.close()


@pytest.mark.real_weights
async def test_real_words_stay_as_they_are_but_for_their_marks() -> None:
    said = {}
    segments = cut(SESSION / "audio-0.flac")
    for likely in (1e-6, 1.0):
        transcriber = Transcriber(needs.weights("whisper-base"), emphasis=likely)
        said[likely] = [(await transcriber.transcribe(segment)).text for segment in segments]
        transcriber.close()
    assert any("." in text for text in said[1.0])
    assert said[1e-6] == [text.replace(".", "!") for text in said[1.0]]


@pytest.mark.real_weights
async def test_real_noise_gives_no_words() -> None:
    transcriber = Transcriber(needs.weights("whisper-base"))
    hiss = np.random.default_rng(3).normal(0, 0.02, 48_000).astype(np.float32)
    silence = np.zeros(32_000, np.float32)
    for sound in (hiss, silence):
        assert (await transcriber.transcribe(replace(a_segment(0.0, sound)))).text == ""
    transcriber.close()
