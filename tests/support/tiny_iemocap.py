"""A small IEMOCAP look-alike whose labels can be learned: each label has words, a voice and a loudness of its own."""

from __future__ import annotations

import csv
import hashlib
import json
import random

import numpy as np
import torch

from mer_agent.models.data.corpora import load
from mer_agent.models.data.datasets import IEMOCAP_LABELS, PROSODY_COLUMNS

FEATURES = ("text/mpnet@1", "audio/ge2e@1", "audio/prosody@1")
DESCRIPTORS = ("duration_s", "intensity_db_mean", "pitch_hz_mean")


def write(folder, dialogues=(("train", 8), ("valid", 3), ("test", 3)), length=10, seed=0):
    """Writes iemocap/ into `folder` in the layout of the real one."""
    rng = random.Random(seed)  # noqa: S311  # not cryptography
    folder = folder / "iemocap"
    folder.mkdir(parents=True)
    lines, ids, voices, rows = [], [], [], []
    for split, count in dialogues:
        for k in range(count):
            name, utterances, label = f"{split}{k}", [], 0
            for i in range(length):
                if rng.random() < 0.5:
                    label = rng.randrange(len(IEMOCAP_LABELS))
                uid = f"{name}_{i}"
                utterances.append(
                    {
                        "id": uid,
                        "speaker": "MF"[rng.random() < 0.5],
                        "text": f"{IEMOCAP_LABELS[label]} {rng.randrange(5)}",
                        "label": IEMOCAP_LABELS[label],
                        "start": float(i),
                        "end": i + 0.9,
                    }
                )
                voice = np.random.default_rng(rng.randrange(10**6)).normal(size=256)
                voice[label] += 8
                ids.append(uid)
                voices.append(voice.astype(np.float16))
                rows.append([uid, 0.9, 50 + 5 * label, 3, "" if rng.random() < 0.2 else 150, 10, 50, 3, 8])
            lines.append(
                {"dialogue": name, "split": split, "kind": ["improvised", "scripted"][k % 2]}
                | {"utterances": utterances}
            )
    (folder / "dialogues.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    np.savez(folder / "ge2e.npz", id=np.array(ids), embedding=np.stack(voices))
    with (folder / "prosody.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance_id", *PROSODY_COLUMNS.values()])
        writer.writerows(rows)
    return folder


def encode_texts(texts):
    """Stands in for the text encoder: a fixed vector for each word."""
    rows = []
    for text in texts:
        total = torch.zeros(16)
        for word in text.split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:6])
            total += torch.randn(16, generator=torch.Generator().manual_seed(seed))
        rows.append(total if text else None)
    return rows


def corpus(folder):
    """Writes the look-alike into `folder` and loads it with all features."""
    write(folder)
    return load("iemocap", folder, FEATURES, encode_texts=encode_texts, descriptors=DESCRIPTORS)
