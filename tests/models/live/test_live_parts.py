import torch

from mer_agent.models.batch import Batch
from mer_agent.models.data.datasets import Corpus
from mer_agent.models.data.dialogues import Dialogue, Line
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.live import live_parts
from mer_agent.models.live.live_data import LOWER, PROSODY, TEXT


def test_other_words_change_the_features_of_their_dialogues_alone(monkeypatch):
    def told(texts):
        return torch.tensor([[float(len(text))] for text in texts]), torch.tensor([bool(text) for text in texts])

    monkeypatch.setattr(live_parts, "in_context", lambda talks, _: told([t.text for one in talks for t in one.turns]))
    monkeypatch.setattr(live_parts, "text_features", lambda name, texts, speakers: told(texts))
    dialogues = [Dialogue(str(d), "test", "", (Line("a", "Ross", "hey", "joy"),) * 2) for d in range(3)]
    values = {name: torch.zeros(6, 1) for name in (TEXT, LOWER, PROSODY)}
    there = {name: torch.ones(6, dtype=torch.bool) for name in values}
    numbers = torch.arange(6)
    batch = Batch(values, there, numbers % 2, numbers // 2, torch.zeros_like(numbers))
    corpus = Corpus("meld", "meld7", MELD_LABELS, batch, ("test",) * 3, ("",) * 3, ("0", "1", "2"))
    found = live_parts.reworded(corpus, dialogues, {1: ["yes", ""]}).batch
    for name in (TEXT, LOWER):
        assert found.features[name].flatten().tolist() == [0, 0, 3, 0, 0, 0]
        assert found.present[name].tolist() == [True, True, True, False, True, True]
    assert found.features[PROSODY] is batch.features[PROSODY]
    assert live_parts.reworded(corpus, dialogues, {}) is corpus
