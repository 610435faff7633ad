"""The judges beside the live model's graphs are those that learned together with the encoders."""

from dataclasses import replace

import torch

from mer_agent.encoders import shipped
from mer_agent.models.batch import Batch
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.data.speech_data import LABELS
from mer_agent.models.live.beside import judge_of_voices, judge_of_words
from mer_agent.models.live.live_data import FACE, TEXT
from mer_agent.models.live.train_live import RECIPE
from mer_agent.models.perception import train_voice


def test_the_judge_of_words_is_the_encoders_own_and_finds_rare_emotions_oftener():
    labels = torch.arange(7).repeat_interleave(torch.tensor([50, 9, 2, 8, 20, 3, 10]))
    nobody = torch.zeros(len(labels), dtype=torch.int64)
    talks = Batch({}, {}, nobody, nobody, labels)
    balanced, plain = (judge_of_words(talks, replace(RECIPE, balance=power)) for power in (0.4, 0.0))
    state = shipped.load("text")[0]
    own = torch.stack([state[f"{part}.judges.meld.weight"].float() for part in range(3)]).mean(0)
    assert torch.allclose(balanced.weight, own, atol=1e-3)
    raised = balanced.bias - plain.bias
    assert (int(raised.argmax()), int(raised.argmin())) == (2, 0)


def test_the_judge_of_voices_is_the_encoders_own_without_boredom():
    judge, features = judge_of_voices(), torch.rand(20, 100) * 2 - 1
    own = train_voice.shipped_network().head(features).softmax(-1)
    names = {"joy": "happy", "sadness": "sad", "anger": "angry"}
    own = own[:, [LABELS.index(names.get(label, label)) for label in MELD_LABELS]]
    said = (features @ judge.weight.T + judge.bias).softmax(-1)
    assert torch.allclose(said, own / own.sum(1, keepdim=True), atol=2e-3)
    assert (judge.say.unless, judge.say.yields_to) == ((FACE,), TEXT)
    assert MELD_LABELS[judge.say.nothing] == "neutral"
