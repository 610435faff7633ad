"""`audio/emotion@6` of speakers whom it never heard, to judge what runs live on clips that the shipped encoder knows.

The shipped network learned RAVDESS, EmoDB and further corpora, all speakers and their labels. For the speakers of one
fold there is a network that was trained without them; a linear map brings its numbers to where the shipped one has
them, as for training (`live_speech`). So what is measured is what a new voice would get.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mer_agent.encoders import shipped
from mer_agent.encoders.voice_emotion import VoiceEmotionEncoder, recipe_of
from mer_agent.models.data.speech_data import LABELS, Clip
from mer_agent.models.live import live_speech
from mer_agent.models.perception import train_voice
from mer_agent.streams.types import Modality, Turn, Utterance


class HeldOutVoice:
    """The voice encoder as it would be, had it never heard the speakers of a fold.

    Args:
        data_dir: holds speech/ravdess and speech/emodb.
        folder: where the runs of `mer-agent train-encoder voice` are, or are made (two hours and a half of one core).
        fold: whose speakers it doesn't know.
        say: takes a line of progress.

    Attributes:
        examples: all clips, of all folds, and what is heard of them.

    Raises:
        DataError: a corpus is missing, or the shipped voice encoder was made by another recipe.
        WeightsError: `ge2e` or `whisper-base` has not been pulled.
    """

    feature = VoiceEmotionEncoder.feature
    modality: Modality = "audio"
    dimension = VoiceEmotionEncoder.dimension

    def __init__(self, data_dir: Path, folder: Path, fold: int, say: Callable[[str], None] = lambda _: None) -> None:
        name = f"fold-{fold}"
        examples, networks = train_voice.runs_beside_shipped(data_dir, folder, (name,), say)
        self.examples = examples
        self._clips = [one.clip for one in examples]
        known = torch.tensor([one.clip.fold != fold for one in examples])
        self._fold, whole = (train_voice.features(networks[which], examples, 0) for which in (name, "all"))
        self._inputs, self._outputs = self._fold[known], whole[known]
        with tempfile.TemporaryDirectory(prefix="mer-agent-") as made:
            shipped.save(
                Path(made),
                "voice",
                networks[name].state_dict(),
                feature=self.feature,
                recipe=recipe_of(train_voice.VoiceRecipe().shape, LABELS),
                data="",
                terms="",
                figures={},
                record={},
            )
            self._encoder = VoiceEmotionEncoder("cpu", Path(made))

    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [100] float32 for each utterance, None where it has no audible sound."""
        rows = self._encoder.encode(utterances, past_turns)
        return [None if row is None else self._mapped(row) for row in rows]

    def as_trained(self, clip: Clip) -> Tensor:
        """Gives [100] of a clip as it was recorded, as a model that learns from such clips reads it."""
        return self._mapped(self._fold[self._clips.index(clip)])

    def _mapped(self, row: Tensor) -> Tensor:
        return live_speech.mapped(self._inputs, self._outputs, row[None])[0].clamp(-1, 1)
