"""Makes `two-voices/`, the recorded session that the tests replay: two synthetic voices, two drawn faces.

    python tests/sessions/make_session.py

Nobody was recorded: espeak-ng speaks the lines below (Ben: en-us+m3, Anna: en-us+f4) and numpy draws the faces, whose
mouths follow the sound. The result is committed; run this again only to change the session, since another version of
espeak-ng gives other samples and then the golden predictions have to be made again too. Needs the program espeak-ng.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from mer_agent.streams.session import Manifest, Recorded, Spoken, write_session
from mer_agent.streams.sound import audio_chunks
from mer_agent.streams.types import NS_PER_S, SAMPLE_RATE_HZ

FOLDER = Path(__file__).parent / "two-voices"
PICTURE_RATE_HZ = 10
WIDTH, HEIGHT = 320, 180

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Line:
    """What somebody says, how, and how long it was quiet before."""

    speaker: str
    text: str
    label: str
    pause_s: float
    words_per_minute: int
    pitch: int
    """espeak-ng's pitch, 0..99."""


LINES = (
    Line("Ben", "Hello my friend. How was your day?", "neutral", 0.6, 155, 45),
    Line("Anna", "It was wonderful! I finally got the job!", "excited", 0.7, 165, 75),
    Line("Ben", "Really? I am so happy for you.", "happy", 0.6, 155, 55),
    Line("Anna", "Thank you. And how are you?", "happy", 0.7, 150, 60),
    Line("Ben", "I feel terrible. Our little dog died last night.", "sad", 0.9, 135, 30),
    Line("Anna", "Oh no. I am so sorry to hear that.", "sad", 0.8, 140, 45),
    Line("Ben", "I miss him so much.", "sad", 0.9, 130, 28),
    Line("Anna", "Shall we go for a walk together?", "neutral", 0.9, 150, 55),
)
VOICES = {"Ben": "en-us+m3", "Anna": "en-us+f4"}
END_S = 0.8


def speak(line: Line, folder: Path) -> NDArray[np.float32]:
    """The line as 16 kHz mono sound, without the silence that espeak-ng puts behind it."""
    path = folder / "line.wav"
    rate, pitch = str(line.words_per_minute), str(line.pitch)
    command = ["espeak-ng", "-v", VOICES[line.speaker], "-s", rate, "-p", pitch, "-w", str(path), line.text]
    subprocess.run(command, check=True)
    sound = np.concatenate([chunk.samples for chunk in audio_chunks(path)])
    loud = np.flatnonzero(np.abs(sound) > 0.003)
    sound = sound[loud[0] : loud[-1] + 1]
    return (0.5 / np.abs(sound).max() * sound).astype(np.float32)


def mix() -> tuple[NDArray[np.float32], list[Spoken]]:
    """The whole conversation, and who said what when."""
    parts: list[NDArray[np.float32]] = []
    spoken: list[Spoken] = []
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        for line in LINES:
            silence = np.zeros(round(line.pause_s * SAMPLE_RATE_HZ), np.float32)
            sound = speak(line, Path(folder))
            start, done = done + len(silence), done + len(silence) + len(sound)
            parts += [silence, sound]
            times = {"start_ns": start * NS_PER_S // SAMPLE_RATE_HZ, "end_ns": done * NS_PER_S // SAMPLE_RATE_HZ}
            spoken.append(Spoken(speaker=line.speaker, text=line.text, label=line.label, **times))
    parts.append(np.zeros(round(END_S * SAMPLE_RATE_HZ), np.float32))
    return np.concatenate(parts), spoken


def ellipse(x: float, y: float, width: float, height: float, soft: float = 1.0) -> Image:
    """How much of each pixel an ellipse covers, float32 [height, width], 0..1."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    distance = np.hypot((columns - x) / width, (rows - y) / height)
    return np.clip((1.0 - distance) * min(width, height) / soft + 0.5, 0.0, 1.0)


def paint(picture: Image, mask: Image, colour: tuple[int, int, int]) -> None:
    """Lays a colour over the picture, in place."""
    picture += mask[..., None] * (np.asarray(colour, np.float32) - picture)


def draw_face(picture: Image, x: float, mouth: float, smile: float, hair: tuple[int, int, int], blink: bool) -> None:
    """Draws a head around column `x`; `mouth` is how far it is open (0..1), `smile` -1..1."""
    y = 92.0
    paint(picture, ellipse(x, y - 12, 50, 62, 3), hair)
    paint(picture, ellipse(x, 200, 62, 50, 3), (60, 80, 120))
    paint(picture, ellipse(x, y + 48, 17, 34, 3), (196, 148, 120))
    paint(picture, ellipse(x, y, 41, 55, 2), (226, 180, 150))
    paint(picture, ellipse(x, y - 48, 40, 20, 6), hair)
    for side in (-1, 1):
        eye = x + side * 16
        paint(picture, ellipse(eye, y - 9, 10, 7, 4), (198, 150, 124))
        paint(picture, ellipse(eye, y - 9, 7.5, 1.0 if blink else 4.2), (245, 245, 242))
        if not blink:
            paint(picture, ellipse(eye, y - 9, 3.4, 3.6), (70, 50, 40))
        paint(picture, ellipse(eye, y - 21 - smile, 11, 2.2, 2), hair)
        paint(picture, ellipse(x + side * 26, y + 14, 9, 8, 9), (226, 165, 140))
    paint(picture, ellipse(x + 4, y + 6, 4, 13, 6), (206, 156, 128))
    paint(picture, ellipse(x, y + 15, 8, 3.2, 3), (190, 138, 112))
    for step in np.linspace(-1, 1, 25):  # lips: a row of dots on a parabola
        bend = smile * 4 * (step**2 - 0.5)
        paint(
            picture, ellipse(x + 15 * step, y + 31 - bend, 3.5, 2.6 + 4.5 * mouth * (1 - step**2), 1.5), (170, 80, 80)
        )
    if mouth > 0.15:
        paint(picture, ellipse(x, y + 31 + smile * 2, 10, 4.5 * mouth), (70, 25, 30))


def draw(sound: NDArray[np.float32], spoken: list[Spoken]) -> list[NDArray[np.uint8]]:
    """One picture for each tenth of a second, uint8 [180, 320, 3]."""
    smiles = {"happy": 0.8, "excited": 1.0, "sad": -0.8}
    pictures = []
    for number in range(len(sound) * PICTURE_RATE_HZ // SAMPLE_RATE_HZ):
        at_ns = number * NS_PER_S // PICTURE_RATE_HZ
        start = number * SAMPLE_RATE_HZ // PICTURE_RATE_HZ
        heard = sound[start : start + SAMPLE_RATE_HZ // PICTURE_RATE_HZ]
        loudness = min(1.0, 6 * float(np.sqrt(np.mean(heard**2))))
        speaking = next((turn for turn in spoken if turn.start_ns <= at_ns < turn.end_ns), None)
        last = next((turn for turn in reversed(spoken) if turn.start_ns <= at_ns), spoken[0])
        smile = smiles.get(last.label or "", 0.0)  # they feel with each other
        picture = np.full((HEIGHT, WIDTH, 3), (188, 196, 204), np.float32)
        for x, name, hair in ((85.0, "Ben", (60, 42, 30)), (235.0, "Anna", (120, 60, 26))):
            mouth = loudness if speaking is not None and speaking.speaker == name else 0.0
            draw_face(picture, x, mouth, smile, hair, blink=(number + (name == "Anna") * 13) % 34 == 30)
        pictures.append(picture.round().astype(np.uint8))
    return pictures


def write_sound(path: Path, sound: NDArray[np.float32]) -> None:
    """Writes 16-bit FLAC, whose lowest four bits are nought: as good for speech, and half the size."""
    whole = (np.round(sound * 2048).clip(-2048, 2047) * 16).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono", options={"compression_level": "12"})
        for start in range(0, len(whole), 4096):
            frame = av.AudioFrame.from_ndarray(whole[None, start : start + 4096], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_pictures(path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    """Writes VP9, a codec that everybody may use."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=PICTURE_RATE_HZ, options={"crf": "36", "b": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    """Writes the session folder."""
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed: apt install espeak-ng")
    FOLDER.mkdir(exist_ok=True)
    sound, spoken = mix()
    write_sound(FOLDER / "audio-0.flac", sound)
    write_pictures(FOLDER / "video-0.mkv", draw(sound, spoken))
    manifest = Manifest(
        language="en",
        audio=(Recorded(file="audio-0.flac"),),
        video=(Recorded(file="video-0.mkv"),),
        note="Made by tests/sessions/make_session.py: synthetic voices (espeak-ng), drawn faces. Nobody was recorded.",
    )
    write_session(FOLDER, manifest, spoken)


if __name__ == "__main__":
    main()
