"""What every encoder promises, whoever wrote it: run `check` on one, or its parts by themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from support import voices
from torch import Tensor

from mer_agent.encoders.base import Encoder
from mer_agent.streams.types import (
    MODALITIES,
    NS_PER_S,
    Face,
    Hearing,
    Modality,
    Transcript,
    Turn,
    Utterance,
    VideoFrame,
)

PAST = (Turn(0, "Did you see that?"), Turn(1, "No, what was it?"))


def utterance(
    name: str = "u",
    *,
    text: str | None = "Well, I never thought that you would come.",
    sound: np.ndarray | None = None,
    faces: int = 0,
    pictures: Sequence[tuple[Face, ...]] = (),
    seconds: float = 2.0,
) -> Utterance:
    """An utterance with words, sound, and so many pictures that show one drawn face, or these faces in its pictures."""
    pictures = pictures or [(_face(i),) for i in range(faces)]
    frames = tuple(
        VideoFrame(np.zeros((0, 0, 3), np.uint8), i * NS_PER_S // 10, i, faces=those)
        for i, those in enumerate(pictures)
    )
    transcript = None if text is None else Transcript(text)
    return Utterance(name, 0, 0, round(seconds * NS_PER_S), audio=sound, frames=frames, transcript=transcript)


def _face(number: int) -> Face:
    y, x = np.mgrid[:48, :48]
    crop = 120 + 60 * np.sin(x / 7 + number / 5) * np.cos(y / 5) + 40 * ((x - 24) ** 2 + (y - 24) ** 2 < 300)
    return Face(0, crop.astype(np.uint8), (0.3, 0.3, 0.3, 0.3), 0.9, 0.1 * (number % 3))


def _of(crop: np.ndarray) -> Face:
    return replace(_face(0), crop=crop.astype(np.uint8))


def examples() -> list[Utterance]:
    """Utterances of different length that have every modality, and that a recogniser has heard."""
    some = [
        utterance("short", text="Yes.", sound=voices.speech(0.8, seed=3), faces=3, seconds=0.8),
        utterance("middle", sound=voices.sample(0), faces=12, seconds=len(voices.sample(0)) / 16_000),
        utterance("long", text="Oh no, " * 8, sound=voices.speech(6.0, pitch_hz=210, seed=4), faces=40, seconds=6.0),
    ]
    return [replace(one, hearing=_hearing(seed, round(one.duration_s / 0.08))) for seed, one in enumerate(some)]


def _hearing(seed: int, steps: int) -> Hearing:
    return Hearing("whisper-base", np.random.default_rng(seed).standard_normal((steps, 512)).astype(np.float32))


def nothing() -> Utterance:
    """An utterance without words, sound or pictures."""
    return utterance("nothing", text=None)


HARD: dict[Modality, dict[str, Callable[[], Utterance]]] = {
    "audio": {
        "0.2 s of speech": lambda: utterance(sound=voices.speech(0.2), seconds=0.2),
        "60 s of speech": lambda: utterance(sound=np.tile(voices.speech(10.0), 6), seconds=60.0),
        "one sample": lambda: utterance(sound=np.ones(1, np.float32), seconds=0.001),
        "no samples": lambda: utterance(sound=np.zeros(0, np.float32), seconds=0.0),
        "silence": lambda: utterance(sound=np.zeros(32_000, np.float32)),
        "faint noise": lambda: utterance(sound=voices.silence(2.0, breath_db=-90)),
        "clipping": lambda: utterance(sound=np.clip(40 * voices.speech(2.0), -1, 1)),
        "beyond full scale": lambda: utterance(sound=1e6 * voices.speech(2.0)),
        "not a number": lambda: utterance(sound=np.full(32_000, np.nan, np.float32)),
        "some infinite samples": lambda: utterance(sound=_broken()),
        "a constant": lambda: utterance(sound=np.full(32_000, 0.5, np.float32)),
    },
    "text": {
        "empty text": lambda: utterance(text=""),
        "blank text": lambda: utterance(text=" \n\t "),
        "500 words": lambda: utterance(text="really " * 500),
        "emoji": lambda: utterance(text="🙂🔥👩‍👩‍👧 ‼️"),
        "another language": lambda: utterance(text="どうしてそんなことを言うの? Почему? لماذا"),
        "control characters": lambda: utterance(text="\x00\x07 what \ufffd\u202e"),
    },
    "visual": {
        "pictures without a face": lambda: utterance(pictures=[()] * 3),
        "one picture": lambda: utterance(faces=1),
        "a minute of pictures": lambda: utterance(faces=600, seconds=60.0),
        "a black crop": lambda: utterance(pictures=[(_of(np.zeros((48, 48))),)]),
        "a white crop": lambda: utterance(pictures=[(_of(np.full((48, 48), 255)),)]),
        "a crop of noise": lambda: utterance(pictures=[(_of(np.random.default_rng(0).integers(0, 256, (48, 48))),)]),
        "a face that nobody could read": lambda: utterance(pictures=[(replace(_face(0), quality=0.0),)]),
        "two faces": lambda: utterance(pictures=[(_face(n), replace(_face(n + 9), track=1)) for n in range(5)]),
        "a face that leaves": lambda: utterance(pictures=[(_face(0),), (_face(1),), (), ()]),
    },
}
"""Utterances that come up sooner or later. Each has a defined result: a vector, or None."""


def _broken() -> np.ndarray:
    sound = voices.speech(2.0)
    sound[100:110], sound[5000] = np.inf, -np.inf
    return sound


def check(encoder: Encoder) -> None:
    """Asserts the whole contract on one device.

    Of what is hard in another modality than the encoder's own, one of each is tried: it must not matter.
    """
    check_description(encoder)
    check_result(encoder)
    check_absence(encoder)
    for modality, cases in HARD.items():
        for name, make in list(cases.items())[: None if modality == encoder.modality else 1]:
            check_hard(encoder, name, make())


def check_description(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert re.fullmatch(r"[a-z]+/[a-z0-9.-]+@[1-9][0-9]*", encoder.feature), encoder.feature
    assert encoder.modality in MODALITIES
    assert encoder.dimension > 0
    names = getattr(encoder, "names", ())
    assert len(names) in (0, encoder.dimension)


def check_result(encoder: Encoder) -> None:
    """Right shape, no gradients, the same again, and the same in a batch as alone."""
    some = examples()
    first, again = _encode(encoder, some), _encode(encoder, some)
    for one, vector, repeated in zip(some, first, again, strict=True):
        assert vector is not None, one.id
        assert (vector.shape, vector.dtype) == ((encoder.dimension,), torch.float32)
        assert vector.device.type == "cpu"
        assert not vector.requires_grad
        assert vector.grad_fn is None
        assert repeated is not None
        assert torch.equal(vector.nan_to_num(9e9), repeated.nan_to_num(9e9)), f"{one.id} is not the same again"
        (alone,) = _encode(encoder, [_copy(one)])
        assert alone is not None
        difference = (alone - vector).abs().nan_to_num(0.0).max() / max(1.0, float(vector.abs().nan_to_num().max()))
        assert difference <= 1e-5, f"{one.id}: {difference} between batch and single"
        assert torch.equal(alone.isnan(), vector.isnan())


def check_absence(encoder: Encoder) -> None:
    """What is not there gives None, alone and between others; no utterance at all gives no row."""
    assert _encode(encoder, []) == []
    assert _encode(encoder, [nothing()]) == [None]
    some = examples()
    mixed = _encode(encoder, [some[0], nothing(), some[1]])
    assert [vector is None for vector in mixed] == [False, True, False]


def check_hard(encoder: Encoder, name: str, one: Utterance) -> None:
    """A defined result: None, or numbers, where only a named dimension may be undefined."""
    (vector,) = _encode(encoder, [one])
    if vector is not None:
        assert vector.shape == (encoder.dimension,), name
        assert not vector.isinf().any(), name
        assert getattr(encoder, "names", ()) or not vector.isnan().any(), name


def check_devices(on_cpu: Encoder, on_other: Encoder) -> None:
    """The same numbers on both devices, within 1e-3 of the largest."""
    for one, other in zip(_encode(on_cpu, examples()), _encode(on_other, examples()), strict=True):
        assert one is not None
        assert other is not None
        assert float((one - other).abs().nan_to_num(0.0).max()) <= 1e-3 * max(1.0, float(one.abs().nan_to_num().max()))


def _encode(encoder: Encoder, some: Sequence[Utterance]) -> list[Tensor | None]:
    return encoder.encode(some, [PAST] * len(some))


def _copy(one: Utterance) -> Utterance:
    """The same with sound of its own, so that nothing that was kept for the other can be given back."""
    return replace(one, audio=None if one.audio is None else one.audio.copy())
