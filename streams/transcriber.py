"""What was said: words with their times, by Whisper on CTranslate2 (faster-whisper), in a thread of its own.

Whisper invents words where nobody speaks. So it hears only segments in which speech was detected, decodes greedily at
temperature 0 without a second try (the same sound always gives the same words), and what it says has to pass the
guards below. Words that don't pass become an empty transcript: no words are better than invented ones.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_agent.errors import ConfigError, MissingExtraError, WeightsError
from mer_agent.streams.emphasis import Emphatic, as_numpy
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Hearing, Segment, Transcript, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_INVENTED = re.compile(
    r"(thanks?( you)?( so much| very much)? for (watching|listening|viewing)"
    r"|(please )?(like and )?subscribe( to (my|our|the) channel)?"
    r"|(subtitles|captions|transcription|translation)( provided)? by .*"
    r"|.*amara\.?org.*)",
    re.IGNORECASE,
)
"""What Whisper learned from subtitle files and says to noise; nobody says it in a conversation."""


EMPHASIS = 0.2
"""Probability of an exclamation mark from which one is written; see `emphasis`."""

_WINDOWS_S = (15, 20, 30)
"""Lengths of sound that the encoder hears at once; Whisper was trained on the last."""
_ROOM_S = 1.0
"""Silence that is left behind the words at least, so that the model finds their end."""
_FRAMES_PER_S = 100
_STATES_PER_S = 50
"""The encoder halves the rate of its frames."""
STEP_STATES, MOST_STEPS = 4, 100
"""A step of `Hearing.steps` is 80 ms, and 8 s are the most: 200 kB, which an utterance keeps until it is judged."""


def out_of_step(audio: NDArray[np.float32], step: int = SAMPLE_RATE_HZ // _STATES_PER_S) -> int:
    """How many samples to leave out before a sound, fewer than `step`, so that its loudest one begins a step.

    Caught a second time, the same sound falls otherwise into the encoder's frames, and other words come of it. Of 58
    utterances that were cut twice, up to 16 ms apart at either end, whisper-base wrote 41 alike; 51 where the sound
    itself says how the frames lie, whose length is the default.
    """
    return int(np.abs(audio).argmax()) % step if len(audio) else 0


def window_s(samples: int) -> int:
    """The shortest window, in seconds, in which so many samples still get the words that 30 s give them.

    The encoder's work grows faster than its window. Over 120 clips of RAVDESS (whisper-base, int8), windows of 30, 15
    and 10 s, filled up with silence, gave word error rates of 1.1, 1.3 and 62 percent for 1.02, 0.27 and 0.19 s of CPU
    time a clip. So it is 15 s where the segment leaves room in them, and never less.
    """
    needed_s = samples / SAMPLE_RATE_HZ + _ROOM_S
    return next((window for window in _WINDOWS_S if needed_s <= window), _WINDOWS_S[-1])


@dataclass(frozen=True, slots=True)
class Guards:
    """When words are taken for invented."""

    near_silence_db: float = -60.0
    """Loudest 32 ms of the segment, in dB of full scale, below which nothing was said."""
    no_speech: float = 0.6
    """Whisper's own probability that nobody speaks, together with ..."""
    poor_log_probability: float = -1.0
    """... a mean log probability of the tokens below this."""
    hopeless_log_probability: float = -1.7
    """A mean log probability below which the words are not worth having at all."""
    compression: float = 2.4
    """Length of the text over its length when compressed: above this it says the same again and again."""
    words_per_s: float = 9.0
    """Nobody speaks faster, over more than a few words."""
    repeats: int = 6
    """The same one to six words in a row, more often than anyone says them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the recogniser says of one segment, before the guards. Word times are seconds from the segment's sound."""

    words: tuple[tuple[str, float, float, float], ...]
    """Text with its leading space, start, end, probability."""
    log_probability: float = 0.0
    no_speech: float = 0.0
    compression: float = 1.0
    language: str | None = None
    """What the words are written in."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """Language -> probability, the likeliest."""
    hearing: Hearing | None = None


def suspicion(heard: Heard, audio: NDArray[np.float32], guards: Guards | None = None) -> str | None:
    """Why the words are taken for invented, None when they are believed.

    Args:
        heard: what the recogniser said.
        audio: the segment's sound, float32 [n], 16 kHz.
        guards: the limits.
    """
    guards = guards or Guards()
    plain = [re.sub(r"[^\w']", "", word[0]).lower() for word in heard.words]
    plain = [word for word in plain if word]
    if not plain:
        return "no words"
    if _loudest_db(audio) < guards.near_silence_db:
        return "near silence"
    if heard.no_speech > guards.no_speech and heard.log_probability < guards.poor_log_probability:
        return "no speech"
    if heard.log_probability < guards.hopeless_log_probability:
        return "unlikely words"
    if heard.compression > guards.compression:
        return "repetitive text"
    if len(plain) > 4 and len(plain) > guards.words_per_s * len(audio) / SAMPLE_RATE_HZ:
        return "too many words"
    if any(_repeats(plain, size) >= guards.repeats for size in range(1, 7)):
        return "a loop"
    if _INVENTED.fullmatch("".join(word[0] for word in heard.words).strip(" .,!?")):
        return "a subtitle credit"
    return None


class Transcriber:
    """Finds the words of segments, one after the other, in a thread of its own.

    Args:
        model_dir: folder of a CTranslate2 Whisper model (`model.bin`, `config.json`, `tokenizer.json`, ...).
        language: code such as "en"; None lets the model find out for each segment (`_language`).
        beam_size: hypotheses kept while decoding; 1 is greedy.
        emphasis: probability from which a sentence that would end with a full stop ends with an exclamation mark
            (`emphasis.Emphatic`); at 1 the marks are the model's own.
        compute_type: CTranslate2's arithmetic; int8 is the fast one on a CPU.
        cpu_threads: cores that one segment may use.
        guards: when words are taken for invented.

    Attributes:
        guarded: reason -> how many transcripts were emptied for it.

    Raises:
        WeightsError: the folder holds no model.
        MissingExtraError: faster-whisper is not installed.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        language: str | None = "en",
        beam_size: int = 1,
        emphasis: float = EMPHASIS,
        compute_type: str = "int8",
        cpu_threads: int = 2,
        guards: Guards | None = None,
    ) -> None:
        if not (model_dir / "model.bin").is_file():
            raise WeightsError(f"{model_dir}: holds no CTranslate2 Whisper model (model.bin); pull its weights again")
        self._model_dir = model_dir
        self._language = language
        self._beam_size = beam_size
        self._emphasis = emphasis
        self._compute_type = compute_type
        self._cpu_threads = cpu_threads
        self._guards = guards or Guards()
        self._model: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transcriber")
        self.guarded: Counter[str] = Counter()

    async def warm_up(self) -> None:
        """Loads the model and transcribes a second of noise, so that the first utterance is as fast as the others."""
        noise = np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)
        try:
            await self._run(noise)
        except ValueError as error:  # a language that the model doesn't know
            raise ConfigError(f"transcriber.language={self._language}: {error}") from error

    async def transcribe(self, segment: Segment) -> Transcript:
        """Gives the words of a segment with their session times; an empty transcript where nothing can be believed."""
        heard = await self._run(segment.audio)
        reason = suspicion(heard, segment.audio, self._guards)
        if reason is not None:
            self.guarded[reason] += 1
            log.debug("transcript emptied: %s", reason)
            return Transcript("", confidence=0.0, hearing=heard.hearing)
        end_ns = segment.audio_start_ns + len(segment.audio) * NS_PER_S // SAMPLE_RATE_HZ
        words = tuple(
            Word(
                text.strip(),
                min(segment.audio_start_ns + round(start_s * NS_PER_S), end_ns),
                min(segment.audio_start_ns + round(stop_s * NS_PER_S), end_ns),
                probability,
            )
            for text, start_s, stop_s, probability in heard.words
        )
        confidence = sum(word.probability for word in words) / len(words)
        text = "".join(word[0] for word in heard.words).strip()
        return Transcript(
            text,
            words,
            confidence=confidence,
            language=heard.language,
            languages=heard.languages,
            hearing=heard.hearing,
        )

    def listen(self, audio: NDArray[np.float32]) -> Hearing:
        """Gives what the encoder makes of a sound (float32 [n], 16 kHz), without its words.

        It runs in the caller's thread: not for a transcriber that somebody else is using.
        """
        audio = audio[out_of_step(audio) :]
        model, sound = self._prepared(audio)
        return self._hearing(model.encode(model.feature_extractor(sound)), len(audio))

    def close(self) -> None:
        """Takes no more segments and drops those that wait; the one being worked on ends by itself, soon."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, audio: NDArray[np.float32]) -> Heard:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._hear, audio)

    def _hear(self, audio: NDArray[np.float32]) -> Heard:
        """Runs the model, in the thread."""
        skipped = out_of_step(audio)
        skipped_s, audio = skipped / SAMPLE_RATE_HZ, audio[skipped:]
        model, sound = self._prepared(audio)
        language, languages = self._language, dict[str, float]()
        if language is None:
            language, languages = _language(model, sound)
        segments, _ = model.transcribe(
            sound,
            language=language,
            beam_size=self._beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=False,
            word_timestamps=True,
            without_timestamps=True,  # the words have their own times
            compression_ratio_threshold=None,  # these would make it try again; the guards judge instead
            log_prob_threshold=None,
            no_speech_threshold=None,
            # Nobody says more than this, and a decoder caught in a loop must not hold up the conversation.
            max_new_tokens=20 + round(15 * len(audio) / SAMPLE_RATE_HZ),
        )
        # A segment fits into one window. Asked for more, the model would go on to the silence behind the last word,
        # which takes as long again and gives invented words.
        part = next(iter(segments), None)
        hearing = None if model.first is None else self._hearing(model.first, len(audio))
        if part is None:
            return Heard((), language=language, languages=languages, hearing=hearing)
        words = tuple((w.word, skipped_s + w.start, skipped_s + w.end, w.probability) for w in part.words or ())
        return Heard(words, part.avg_logprob, part.no_speech_prob, part.compression_ratio, language, languages, hearing)

    def _prepared(self, audio: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
        """Gives the model, set to the window of this sound, and the sound as it fills that window."""
        if self._model is None:
            self._model = self._load()
        window = window_s(len(audio))
        self._model.frames = window * _FRAMES_PER_S
        self._model.first = self._model.last = None  # what was heard of another segment is no matter of this one
        # Filled up with silence, as in training. faster-whisper's own filling (zeros among the features) is no silence,
        # and cuts short utterances even shorter.
        sound = np.zeros(window * SAMPLE_RATE_HZ, np.float32)
        sound[: len(audio)] = np.nan_to_num(audio[: len(sound)], nan=0.0, posinf=0.0, neginf=0.0)
        return self._model, sound

    def _hearing(self, states: Any, samples: int) -> Hearing:
        """Gives what is kept of the encoder's states ([1, states, width], CTranslate2's), those of the sound alone."""
        own = as_numpy(states)[0, : max(1, samples * _STATES_PER_S // SAMPLE_RATE_HZ)]
        whole = min(len(own) // STEP_STATES, MOST_STEPS)
        steps = own[: whole * STEP_STATES].reshape(whole, STEP_STATES, own.shape[1]).mean(1)
        return Hearing(self._model_dir.name, steps)

    def _load(self) -> Any:
        # Threads that wait busily for the next product cost a tenth of the agent's CPU time, and gain nothing.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when the library is loaded
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise MissingExtraError("words need faster-whisper: pip install 'mer-agent[agent]'") from error

        class ShortWindowModel(WhisperModel):  # type: ignore[misc]  # here, because the import above takes seconds
            """Hears a short segment in a short window instead of in 30 s of mostly silence; see `window_s`.

            The same sound is asked for its language and then for its words, and encoded once.
            """

            frames = _WINDOWS_S[-1] * _FRAMES_PER_S
            last: tuple[NDArray[np.float32], Any] | None = None
            first: Any = None
            """What the whole window was encoded to; `last` may be of its end, where the beginning had no words."""

            def encode(self, features: NDArray[np.float32]) -> Any:
                features = features[..., : self.frames]
                if self.last is None or not np.array_equal(self.last[0], features):
                    self.last = features, super().encode(features)
                    self.first = self.last[1] if self.first is None else self.first
                return self.last[1]

        try:
            model = ShortWindowModel(
                str(self._model_dir),
                device="auto",
                compute_type=self._compute_type,
                cpu_threads=self._cpu_threads,
                local_files_only=True,
            )
            full_stop, exclamation = (
                model.hf_tokenizer.encode(mark, add_special_tokens=False).ids[-1] for mark in ".!"
            )
            model.model = Emphatic(model.model, full_stop, exclamation, self._emphasis)
            return model
        except ValueError as error:  # such as a kind of arithmetic that this machine doesn't have
            raise ConfigError(f"transcriber: {error}") from error
        except RuntimeError as error:
            raise WeightsError(
                f"{self._model_dir}: the words model can't be loaded ({error}); pull it again"
            ) from error


def _language(model: Any, sound: NDArray[np.float32]) -> tuple[str, dict[str, float]]:
    """Gives the language to write down, and the probabilities of the likeliest and of English.

    English, unless another one is likelier than not and English unlikely: told the wrong language, Whisper translates,
    and a short "yes" sounds like half of Europe. Over 140 clips (RAVDESS, 70 of 70 English; EmoDB, 70 of 70 German, by
    whisper-base) English had 0.80 and more where it was spoken, and 0.01 and less where it wasn't.
    """
    if not model.model.is_multilingual:
        return "en", {}
    likeliest, _, found = model.detect_language(audio=sound)
    probabilities = dict(found)
    languages = {code: probabilities.get(code, 0.0) for code in (likeliest, "en")}
    foreign = languages[likeliest] > 0.5 and languages["en"] < 0.2
    return (likeliest if foreign else "en"), languages


def _loudest_db(audio: NDArray[np.float32]) -> float:
    """Root mean square of the loudest 32 ms, in dB of full scale."""
    whole = audio[: len(audio) - len(audio) % 512] if len(audio) >= 512 else audio
    frames = whole.reshape(-1, min(512, max(1, len(whole))))
    power = float(np.nan_to_num(frames.astype(np.float64) ** 2).mean(axis=1).max(initial=0.0))
    return float(10 * np.log10(max(power, 1e-20)))


def _repeats(words: Sequence[str], size: int) -> int:
    """How often, at most, the same `size` words follow each other directly."""
    most = same = 0
    for at in range(size, len(words)):
        same = same + 1 if words[at] == words[at - size] else 0
        most = max(most, same)
    return 1 + most // size  # `size` words that equal those before them are one repeat
