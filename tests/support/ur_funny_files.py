"""Small UR-FUNNY pickles in the layout that its makers publish, version 1 or 2."""

from __future__ import annotations

import pickle

import numpy as np

FOLDS = {"train": [11, 12, 13], "dev": [21], "test": [31, 32]}


def content(version=2):
    """File name -> what it holds. Stretch k has k % 3 + 1 context sentences of 2 words and a punchline of 3."""
    rng = np.random.default_rng(0)
    keys = [key for fold in FOLDS.values() for key in fold]

    def recorded(size):
        return {
            key: {
                "punchline_features": rng.normal(size=(3, size)).tolist(),
                "context_features": [rng.normal(size=(2, size)).tolist() for _ in range(key % 3 + 1)],
            }
            for key in keys
        }

    words = {
        key: {
            "punchline_embedding_indexes": [0, 1, 2],
            "context_embedding_indexes": [[k, 3] for k in range(key % 3 + 1)],
        }
        for key in keys
    }
    if version == 2:
        for key in keys:
            words[key] |= {
                "punchline_sentence": f"and {key} laughed",
                "context_sentences": [f"sentence {k}" for k in range(key % 3 + 1)],
            }
    return {
        "data_folds.pkl": FOLDS,
        "humor_label_sdk.pkl": {key: key % 2 for key in keys},
        "word_embedding_list.pkl": rng.normal(size=(4, 300)).tolist(),
        "language_sdk.pkl" if version == 2 else "word_embedding_indexes_sdk.pkl": words,
        "covarep_features_sdk.pkl": recorded(81),
        "openface_features_sdk.pkl": recorded(371 if version == 2 else 75),
    }


def write(folder, files):
    """Writes the files into `folder`, which it gives."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_bytes(pickle.dumps(value, 2))
    return folder
