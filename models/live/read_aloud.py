"""What words cost that a recogniser heard: MELD's lines, read aloud by speech synthesis, heard by whisper-base, judged.

    python -m mer_agent.models.live.read_aloud DATA_DIR [--checkpoint live] [--split test]

Needs the programs flite and espeak-ng (packages of those names in Debian). Each line is read by one of `VOICES` in
turn, with noise 35 or 20 dB below. Most voices are made of recorded people's speech (flite's), so they are understood
about as well as people who speak plainly; espeak-ng's are harder. None of them shouts, laughs or sighs, and so the
recogniser writes none of the exclamation marks that a transcript has. The checkpoint reads words and the corpus's own
prosody. It takes some fifteen minutes of two cores for the test split.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_agent.encoders import weights
from mer_agent.errors import InputError
from mer_agent.models import checkpoint
from mer_agent.models.data import corpora, meld
from mer_agent.models.live import asr_noise, live_figures, live_parts, train_live
from mer_agent.models.live.live_data import LOWER, PROSODY, TEXT
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.transcriber import Transcriber
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ, Segment

RECOGNISER = "whisper-base"
VOICES = (
    ("flite", "-voice", "slt"),
    ("flite", "-voice", "rms"),
    ("flite", "-voice", "awb"),
    ("flite", "-voice", "kal16"),
    ("espeak-ng", "-v", "en-us"),
    ("espeak-ng", "-v", "en-gb+f3"),
)
NOISE_DB = (-35.0, -20.0)
QUIET_S = 0.3
"""Before and behind the words."""
WORKERS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads, hears, judges and tells."""
    parser = argparse.ArgumentParser(description="Judge a checkpoint by words that the recogniser heard.")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--checkpoint", default="live")
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    options = parser.parse_args(arguments)
    for program in sorted({voice[0] for voice in VOICES}):
        if shutil.which(program) is None:
            raise InputError(f"{program} is not installed: apt-get install {program}")
    sys.stdout.write(json.dumps(judge(options.data_dir, options.checkpoint, options.split), indent=1) + "\n")


def judge(data_dir: Path, name: str, split: str) -> dict[str, Any]:
    """Gives a checkpoint's scores on a split of MELD as it is written and as it is heard.

    Beside them are the share of the words that were replaced or left out, and what was written for each mark that ends
    an utterance.
    """
    model, _ = checkpoint.load_live(name)
    corpus = corpora.load("meld", data_dir, (TEXT, LOWER, PROSODY), descriptors=train_live.RECIPE.descriptors)
    dialogues = meld.read_dialogues(data_dir / "meld")
    own = {number: [line.text for line in d.lines] for number, d in enumerate(dialogues) if d.split == split}
    said = list(itertools.chain.from_iterable(own.values()))
    written = hear(said)
    rest = iter(written)
    heard = {number: [next(rest) for _ in texts] for number, texts in own.items()}
    sizes = {spec.id: spec.dimension for spec in model.specs}
    scores = {
        key: live_figures.brief(live_figures.told(model, of.part(split).completed(sizes)))
        for key, of in (("as written", corpus), ("as heard", live_parts.reworded(corpus, dialogues, heard)))
    }
    pairs = list(zip(said, written, strict=True))
    counts: Any = asr_noise.count(pairs)
    return {
        "words_wrong": round(100 * asr_noise.Confusions(**counts).error_rate, 1),
        "marks": marks(pairs),
        **scores,
    }


def marks(pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Gives what was written for the mark that ends an utterance, and how often, for pairs of said and written."""
    found: dict[str, dict[str, int]] = {}
    for said, written in pairs:
        if written:
            own, end = found.setdefault(_mark(said), {}), _mark(written)
            own[end] = own.get(end, 0) + 1
    return found


def _mark(text: str) -> str:
    last = text.rstrip("\"' \u201d\u2019")[-1:]
    return last if last in (".", "!", "?") else "none"


def hear(said: Sequence[str]) -> list[str]:
    """Gives what the recogniser writes for each line, "" where it is not believed."""
    numbers = range(len(said))
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [
            pool.submit(_hear, [(at, said[at]) for at in numbers[worker::WORKERS]], worker == 0)
            for worker in range(WORKERS)
        ]
        written = {at: text for part in parts for at, text in part.result()}
    return [written[at] for at in numbers]


def _hear(lines: Sequence[tuple[int, str]], tell: bool) -> list[tuple[int, str]]:
    return asyncio.run(_transcribe(lines, tell))


async def _transcribe(lines: Sequence[tuple[int, str]], tell: bool) -> list[tuple[int, str]]:
    recogniser = Transcriber(weights.path(RECOGNISER), language="en", cpu_threads=1)
    written = []
    for done, (number, text) in enumerate(lines, 1):
        if tell and done % 50 == 0:
            sys.stderr.write(f"{done} of {len(lines)} lines\n")
        if not asr_noise.plain(text):  # nothing to be read
            written.append((number, ""))
            continue
        voice, noise_db = VOICES[number % len(VOICES)], NOISE_DB[number // len(VOICES) % 2]
        sound = noisy(read_aloud(text, voice), noise_db, np.random.default_rng(number))
        end_ns = len(sound) * NS_PER_S // SAMPLE_RATE_HZ
        segment = Segment(0, end_ns, sound, 0, "pause", end_ns, "aloud")
        written.append((number, (await recogniser.transcribe(segment)).text))
    recogniser.close()
    return written


def read_aloud(text: str, voice: Sequence[str]) -> NDArray[np.float32]:
    """Gives a line as a voice reads it, float32 [n], 16 kHz."""
    program, *options = voice
    with tempfile.TemporaryDirectory(prefix="mer-agent-") as folder:
        words, path = Path(folder) / "words.txt", Path(folder) / "aloud.wav"
        words.write_text(text, "utf-8")
        into = ["-o", str(path)] if program == "flite" else ["-w", str(path)]
        command = [program, *options, "-f", str(words), *into]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # one of `VOICES`
        return np.concatenate([chunk.samples for chunk in audio_chunks(path)])


def noisy(sound: NDArray[np.float32], noise_db: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gives a sound at the level of speech, with quiet around it and white noise, in dB of the sound's own level."""
    quiet = np.zeros(round(QUIET_S * SAMPLE_RATE_HZ), np.float32)
    level = float(np.sqrt(np.mean(np.square(sound)))) or 1.0
    whole = np.concatenate((quiet, sound * (0.05 / level), quiet))
    noise = rng.standard_normal(len(whole)) * 0.05 * 10 ** (noise_db / 20)
    return (whole + noise).astype(np.float32)


if __name__ == "__main__":
    main()
