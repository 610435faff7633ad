"""Records of runs that never were: random predictions, better or worse, in the layout of the real ones."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch

from mer_agent.models.training import records
from mer_agent.models.training.metrics import scores

LABELS = ("sad", "glad", "angry")
LENGTHS = (7, 12, 5, 9, 11, 6, 8, 10)


def record(recipe, seed=0, *, skill=0.5, data="iemocap", kinds=("scripted", "improvised")):
    """Gives a record whose predictions are right with about the probability `skill`; a seed has the same labels."""
    generator = torch.Generator().manual_seed(99)
    count = sum(LENGTHS)
    labels = torch.randint(len(LABELS), (count,), generator=generator)
    generator.manual_seed(seed + 1)
    right = torch.rand(count, generator=generator) < skill
    called = torch.where(right, labels, torch.randint(len(LABELS), (count,), generator=generator))
    probabilities = torch.full((count, len(LABELS)), 0.15)
    probabilities[torch.arange(count), called] = 0.7
    judged = scores(probabilities, labels, LABELS)
    dialogues = [(kinds[k % 2], n) for k, n in enumerate(LENGTHS)]
    told = records.pack(probabilities, labels) | {"dialogues": dialogues}
    f1 = judged["weighted_f1"]
    epochs = [
        {"epoch": k, "loss": 1.0, "valid": dict(scored), "test": dict(scored)}
        for k, scored in enumerate({"weighted_f1": f1 + k, "accuracy": f1 + k} for k in (-1.0, 2.0, 0.0))
    ]
    whole = {
        "format": records.FORMAT,
        "recipe": asdict(recipe),
        "data": data,
        "fingerprint": "0" * 16,
        "label_set": "three",
        "labels": list(LABELS),
        "protocol": "clean",
        "seed": seed,
        "revision": None,
        "parameters": 1_234_567,
        "temperature": 1.0,
        "took_s": 1.0,
        "valid": judged,
        "test": judged,
        "epochs": epochs,
        "predictions": {"valid": told, "test": told},
    }
    return json.loads(json.dumps(whole))
