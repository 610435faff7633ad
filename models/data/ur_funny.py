"""UR-FUNNY: is the last sentence of a stretch of a TED talk a punchline? Imports the features that its makers publish.

    data_folds.pkl              {"train": ids, "dev": ids, "test": ids}
    humor_label_sdk.pkl         id -> 1 (funny) or 0
    word_embedding_list.pkl     the GloVe vectors [300] of all words
    language_sdk.pkl            id -> punchline_embedding_indexes, context_embedding_indexes, and the sentences
                                (version 1: word_embedding_indexes_sdk.pkl, without sentences)
    covarep_features_sdk.pkl    id -> punchline_features [words, 81], context_features, a list of those
    openface_features_sdk.pkl   the same with 371 numbers a word (version 1: 75)

A stretch becomes a dialogue of one speaker: its context sentences, which nobody labelled, and the punchline, which is
judged. A sentence's vector is the mean over its words; numbers that are not finite (the logarithm of silence) are left
out of the mean, and a sentence without any lacks that feature.

The files could not be had where this was written: it is tested on small files of the same layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mer_agent.errors import DataError
from mer_agent.models.data.dialogues import Dialogue, Line, Table, ordered
from mer_agent.models.data.pickles import read_pickle

UR_FUNNY_LABELS = ("serious", "funny")
FOLDS = {"train": "train", "valid": "dev", "test": "test"}
"""Our name of a split -> the corpus's."""
RECORDED = {"audio/ur-funny@1": "covarep_features_sdk.pkl", "face/ur-funny@1": "openface_features_sdk.pkl"}
"""Feature id -> its file; `text/ur-funny@1` comes from the words. No encoder of ours makes these."""


def read_ur_funny(source: Path) -> Table:
    """Gives UR-FUNNY with its published features, from the folder that holds the pickles.

    Raises:
        DataError: a file is missing, of another layout, or holds more than features (nothing of it is run).
    """
    language = "language_sdk.pkl" if (source / "language_sdk.pkl").is_file() else "word_embedding_indexes_sdk.pkl"
    folds, labels, words = (_dict(source / name) for name in ("data_folds.pkl", "humor_label_sdk.pkl", language))
    recorded = {feature: _dict(source / name) for feature, name in RECORDED.items()}
    try:
        vectors = np.asarray(read_pickle(source / "word_embedding_list.pkl"), dtype=np.float32)
        found: list[Dialogue] = []
        rows: dict[str, list[npt.NDArray[np.float32] | None]] = {
            feature: [] for feature in ("text/ur-funny@1", *RECORDED)
        }
        for split, fold in FOLDS.items():
            for key in folds[fold]:
                said = _sentences(words[key])
                found.append(Dialogue(str(key), split, "talk", _lines(key, said, int(labels[key]))))
                rows["text/ur-funny@1"] += [_mean(vectors[indices]) for indices, _ in said]
                for feature, by_key in recorded.items():
                    parts = [*by_key[key]["context_features"], by_key[key]["punchline_features"]]
                    if len(parts) != len(said):
                        raise ValueError(f"{feature} of {key} has {len(parts)} sentences, the words have {len(said)}")
                    rows[feature] += [_mean(np.asarray(part, dtype=np.float32)) for part in parts]
        dialogues = ordered(str(source), found, UR_FUNNY_LABELS)
        values, present = {}, {}
        for feature, each in rows.items():
            values[feature], present[feature] = _stacked(feature, each)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{source} is not of the layout ur-funny: {error!r}") from error
    return Table("ur-funny", "humour2", UR_FUNNY_LABELS, dialogues, values, present, {})


def _dict(path: Path) -> Mapping[Any, Any]:
    value = read_pickle(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} should hold a dict, not {type(value).__name__}: it is of another layout")
    return value


def _sentences(words: Mapping[str, Any]) -> list[tuple[npt.NDArray[np.int64], str]]:
    """Gives the indices of each sentence's words and the sentence, the punchline last; "" where it isn't told."""
    indices = [*words["context_embedding_indexes"], words["punchline_embedding_indexes"]]
    texts = [*words.get("context_sentences", []), words["punchline_sentence"]] if "punchline_sentence" in words else []
    if texts and len(texts) != len(indices):
        raise ValueError(f"{len(texts)} sentences, but the words of {len(indices)}")
    flat = [np.asarray(each, dtype=np.int64).reshape(-1) for each in indices]
    if any((each < 0).any() for each in flat):
        raise ValueError("a word has a negative index")
    return list(zip(flat, [_text(text) for text in texts] or [""] * len(flat), strict=True))


def _text(sentence: Any) -> str:
    return sentence if isinstance(sentence, str) else " ".join(map(str, sentence))


def _lines(key: Any, said: Sequence[tuple[Any, str]], label: int) -> tuple[Line, ...]:
    if label not in (0, 1):
        raise ValueError(f"{key} has the label {label}")
    *context, (_, punchline) = said
    lines = [Line(f"{key}_{i}", "speaker", text, None) for i, (_, text) in enumerate(context)]
    return (*lines, Line(f"{key}_punchline", "speaker", punchline, UR_FUNNY_LABELS[label]))


def _mean(words: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    """Gives the mean over the words [n, d], None where a number has none that is finite."""
    if words.ndim != 2:
        if words.size == 0:
            return None
        raise ValueError(f"a sentence's features have the shape {list(words.shape)}")
    known = np.isfinite(words)
    if not known.any(0).all():
        return None
    mean: npt.NDArray[np.float32] = (np.where(known, words, 0).sum(0) / known.sum(0)).astype(np.float32)
    return mean


def _stacked(feature: str, rows: Sequence[npt.NDArray[np.float32] | None]) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = {len(row) for row in rows if row is not None}
    if len(sizes) != 1:
        raise ValueError(f"{feature} has {sorted(sizes)} numbers a word")
    nothing = np.zeros(sizes.pop(), np.float32)
    stacked = np.stack([nothing if row is None else row for row in rows])
    return torch.from_numpy(stacked), torch.tensor([row is not None for row in rows])
