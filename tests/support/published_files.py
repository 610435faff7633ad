"""Small feature files in the layouts that papers publish."""

from __future__ import annotations

import pickle

import numpy as np

from mer_agent.models.data.published import LAYOUTS

IEMOCAP = {"Ses01F_impro01": 4, "Ses01M_impro01": 3, "Ses05F_script01_1": 2}
"""Dialogue -> utterances: one to train on, one of the usual ones to validate, one to test."""
MELD = {0: 3, 1040: 2, 1160: 4}


def content(layout):
    """The tuple of one layout; each feature's first number is the place of its utterance, NaN nowhere."""
    kind, rng = LAYOUTS[layout], np.random.default_rng(0)
    is_iemocap = kind.data == "iemocap"
    sizes = IEMOCAP if is_iemocap else MELD
    train, valid, test = sizes
    ids = {k: [f"{k}_F{i:03d}" for i in range(n)] if is_iemocap else list(range(n)) for k, n in sizes.items()}
    speakers = {
        k: [("M", "F")[i % 2] if is_iemocap else list(np.eye(9, dtype=int)[(5 + 3 * i) % 9]) for i in range(n)]
        for k, n in sizes.items()
    }
    labels = {k: [(i + 1) % 6 for i in range(n)] for k, n in sizes.items()}
    features = []
    for size in kind.sizes:
        by_dialogue, at = {}, 0
        for k, n in sizes.items():
            rows = rng.normal(size=(n, size)).astype(np.float32)
            rows[:, 0] = np.arange(at, at + n)
            by_dialogue[k] = rows if kind.recipe.endswith("mmgcn") else list(rows)
            at += n
        features.append(by_dialogue)
    sentences = {k: [f"line {i}" for i in range(n)] for k, n in sizes.items()}
    training = [train, valid] if is_iemocap else {train, valid}
    return [ids, speakers, labels, *features, sentences, training, [test], {}][: kind.fields]


def write(folder, layout, fields=None, protocol=2):
    """Writes the files; gives what `convert` takes as its source."""
    fields, kind = fields or content(layout), LAYOUTS[layout]
    if not kind.is_folder:
        path = folder / f"{layout}.pkl"
        path.write_bytes(pickle.dumps(tuple(fields), protocol))
        return path
    outside = dict(zip(("TextFeatures", "AudioFeatures", "VisualFeatures"), fields[3:6], strict=True))
    inside = [None if i in (0, 3, 4, 5, 6) else field for i, field in enumerate(fields)]
    for name, value in {"Speakers": tuple(inside), **outside}.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(value, protocol))
    return folder
