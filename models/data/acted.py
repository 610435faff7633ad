"""RAVDESS and EmoDB as a data set for models that fuse: acted speech with the sentence that was said.

The sentences are the same for every emotion, so the words tell nothing and the sound must. `acted-0` to `acted-4`: the
speakers of that fold are for testing, those of the next to validate, the other three for training
(`speech_data`). Each clip is a dialogue of its own; its kind is its corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor

from mer_agent.encoders import weights
from mer_agent.encoders.mel import MelEncoder
from mer_agent.encoders.voice_steps import VoiceStepsEncoder
from mer_agent.encoders.whisper_steps import RECOGNISER, WhisperStepsEncoder
from mer_agent.errors import DataError
from mer_agent.models.batch import Batch
from mer_agent.models.data import speech_data
from mer_agent.models.data.datasets import Corpus, EncodeTexts, text_features
from mer_agent.streams.transcriber import Transcriber

PREFIX = "acted-"

SENTENCES = {
    "ravdess-01": "Kids are talking by the door.",
    "ravdess-02": "Dogs are sitting by the door.",
    "emodb-a01": "Der Lappen liegt auf dem Eisschrank.",
    "emodb-a02": "Das will sie am Mittwoch abgeben.",
    "emodb-a04": "Heute Abend könnte ich es ihm sagen.",
    "emodb-a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "emodb-a07": "In sieben Stunden wird es soweit sein.",
    "emodb-b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "emodb-b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "emodb-b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "emodb-b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "emodb-b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
"""What the file names' sentence codes stand for."""


class Ear(Protocol):
    """Makes a sequence of a clip's sound."""

    dimension: int

    def patches(self, sound: NDArray[np.float32]) -> Tensor | None:
        """Gives the row of a sound, float32 [n], 16 kHz; None where it has none."""
        ...


class RecogniserEar:
    """What the recogniser's encoder hears of a clip, cut as the agent would cut it: silence it would hear, too.

    Raises:
        WeightsError: the recogniser's weights have not been pulled.
    """

    def __init__(self) -> None:
        self._encoder = WhisperStepsEncoder()
        self._recogniser = Transcriber(weights.path(RECOGNISER), language="en", cpu_threads=1)
        self.dimension = self._encoder.dimension

    def patches(self, sound: NDArray[np.float32]) -> Tensor | None:
        """Gives the row of a clip's sound, float32 [n], 16 kHz; None where it is shorter than a step."""
        cut = speech_data.as_cut(sound)
        audio = sound[:0] if cut.audio is None else cut.audio
        return self._encoder.encode([replace(cut, hearing=self._recogniser.listen(audio))])[0]


_EARS: dict[str, Callable[[], Ear]] = {
    MelEncoder.feature: MelEncoder,
    VoiceStepsEncoder.feature: VoiceStepsEncoder,
    WhisperStepsEncoder.feature: RecogniserEar,
}


def load_acted(folder: Path, name: str, features: Sequence[str], *, encode_texts: EncodeTexts | None = None) -> Corpus:
    """Gives one fold of acted speech.

    Args:
        folder: holds ravdess/ and emodb/.
        name: `acted-0` to `acted-4`.
        features: `audio/mel@1`, `audio/ge2e-steps@1`, `audio/whisper-steps@1` and text features.
        encode_texts: gives text features; the encoder that the feature id names if not given.

    Raises:
        DataError: the fold, a feature or the sound is not there.
    """
    fold = name.removeprefix(PREFIX)
    if fold not in {str(k) for k in range(speech_data.FOLDS)}:
        raise DataError(f"no fold is called {name!r}: there are {PREFIX}0 to {PREFIX}{speech_data.FOLDS - 1}")
    clips = speech_data.load(folder)
    values: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for feature in features:
        if feature.startswith("text/"):
            values[feature], present[feature] = text_features(feature, [words(c) for c in clips], encode_texts)
        elif feature in _EARS:
            values[feature], present[feature] = _heard(clips, feature)
        else:
            raise DataError(f"acted speech has no feature {feature!r}: take {', '.join(_EARS)} and text features")
    order = [("test", "valid")[k] if k < 2 else "train" for k in range(speech_data.FOLDS)]
    speakers = sorted({clip.speaker for clip in clips})
    batch = Batch(
        values,
        present,
        torch.tensor([speakers.index(clip.speaker) for clip in clips]),
        torch.arange(len(clips)),
        torch.tensor([clip.label for clip in clips]),
        [clip.path.stem for clip in clips],
    )
    return Corpus(
        name,
        "acted8",
        speech_data.LABELS,
        batch,
        tuple(order[(clip.fold - int(fold)) % speech_data.FOLDS] for clip in clips),
        tuple(clip.corpus for clip in clips),
        tuple(clip.path.stem for clip in clips),
    )


def words(clip: speech_data.Clip) -> str:
    """Gives the sentence that is said in a clip.

    Raises:
        DataError: the file's name has no sentence of the corpus.
    """
    code = clip.path.stem.split("-")[4] if clip.corpus == "ravdess" else clip.path.stem[2:5]
    sentence = SENTENCES.get(f"{clip.corpus}-{code}")
    if sentence is None:
        raise DataError(f"{clip.path.name}: {clip.corpus} has no sentence {code!r}")
    return sentence


def _heard(clips: Sequence[speech_data.Clip], feature: str) -> tuple[Tensor, Tensor]:
    """Gives the sequence of each clip, half precision, from the cache if these files were heard before."""
    told = [f"{clip.path}:{clip.path.stat().st_size}" for clip in clips]
    key = hashlib.sha256("\0".join([feature, *told]).encode()).hexdigest()[:32]
    path = user_cache_path("mer-agent") / "features" / f"{feature.replace('/', '-').replace('@', '-')}-{key}.npz"
    if not path.is_file():
        ear = _EARS[feature]()
        rows = [ear.patches(speech_data.sound(clip)) for clip in clips]
        absent = torch.zeros(ear.dimension)
        values = torch.stack([(absent if row is None else row).half() for row in rows])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, values=values.numpy(), present=np.array([row is not None for row in rows]))
        partial.replace(path)
    with np.load(path, allow_pickle=False) as archive:
        return torch.from_numpy(archive["values"]), torch.from_numpy(archive["present"])
