"""The judges that have a say beside the live model's graphs (`ensemble`): the encoders' own, for words and for a voice.

Each learned together with its encoder, by more or by other data than the graphs, and looks at nothing else. So it errs
in other ways than they do; but it knows neither the turns before nor the other modalities.
"""

from __future__ import annotations

import torch

from mer_agent.encoders import shipped
from mer_agent.encoders.text_emotion import NAMES
from mer_agent.models.ar_iigcn import Say
from mer_agent.models.batch import NO_LABEL, Batch
from mer_agent.models.data import speech_data
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.ensemble import Beside
from mer_agent.models.live.live_data import FACE, FROM_SPEECH, GE2E, TEXT, VOICE
from mer_agent.models.perception import train_voice
from mer_agent.models.perception.train_text import judges
from mer_agent.models.training.recipe import Recipe

WORDS = 0.4
"""Share of the say that the text encoder's own judge has beside the graphs where no voice is heard. Over MELD's
training dialogues, each judged by adapter and graph that never saw it, more is a little better; but it is MELD's judge,
and IEMOCAP's words are worse off with it."""

VOICE_ALONE = 0.7
"""The same of the voice encoder's judge where there is a voice and nothing else; beside words as much of it as their
judge takes them for neutral. It learned from more corpora than the graphs did, and knows voices of unknown ones better.
Beside words that say something it would do more harm than good."""


def judge_of_words(talks: Batch, recipe: Recipe) -> Beside:
    """Gives the judge of MELD's emotions that learned together with the text encoder, its classes weighed as here.

    Args:
        talks: MELD's training dialogues, for how frequent the emotions are.
        recipe: its `balance` is the power of the frequencies by which they are weighed.

    Raises:
        WeightsError: the encoder's weights are missing or unreadable.
    """
    weight, bias = judges(shipped.load(NAMES[TEXT])[0], "meld")
    frequency = torch.bincount(talks.labels[talks.labels != NO_LABEL], minlength=len(MELD_LABELS)) / len(talks)
    bias = bias - recipe.balance * frequency.log()
    return Beside(Say(TEXT, (GE2E,), WORDS), weight.half().float(), bias.half().float())


def judge_of_voices() -> Beside:
    """Gives the judge that learned together with the voice encoder, without boredom, which has no label here.

    Raises:
        DataError: the shipped voice encoder was made by another recipe.
        WeightsError: it is missing or damaged.
    """
    head = train_voice.shipped_network().head
    names = {FROM_SPEECH.get(name, name): row for row, name in enumerate(speech_data.LABELS)}
    rows = [names[label] for label in MELD_LABELS]
    weight, bias = (part.detach()[rows].half().float() for part in (head.weight, head.bias))
    say = Say(VOICE, (FACE,), VOICE_ALONE, yields_to=TEXT, nothing=MELD_LABELS.index("neutral"))
    return Beside(say, weight, bias)
