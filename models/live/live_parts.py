"""All that the live model learns from and is judged by, encoded as the agent would.

MELD and IEMOCAP as they were said and as a recogniser would have written them, acted voices, faces, and voices of
corpora that nothing learned from. `live_data` puts together of it what a batch holds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mer_agent.models.batch import Batch
from mer_agent.models.data import corpora, ferplus, meld, speech_data
from mer_agent.models.data.datasets import Corpus, read_dialogues, text_features
from mer_agent.models.data.dialogues import Dialogue
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.live import acted_rows, asr_noise, live_faces, live_speech
from mer_agent.models.live.live_data import (
    FACE,
    GE2E,
    LOWER,
    PROSODY,
    TAUGHT_BY_SPEECH,
    TEXT,
    Mix,
    Pool,
    from_faces,
    from_iemocap,
    from_speech,
    joined,
)
from mer_agent.models.perception.speech_bank import BRIEF
from mer_agent.models.perception.text_features import Conversation, in_context
from mer_agent.models.training.recipe import Recipe

HELD_OUT = 0
"""Fold of acted speakers (`speech_data`) that never teaches, so that it can judge."""

PIECE = 8
"""Turns of IEMOCAP that are read together."""

MISHEARD_OF = 2
"""One training dialogue of so many is also there as misheard, none if 0: encoding words is what takes time."""


@dataclass(frozen=True, slots=True)
class LiveData:
    """What teaches, and by name the parts that judge: MELD, `misheard` MELD, IEMOCAP, acted voices, faces.

    Acted voices judge four times, in conversations with words (`acted_rows`): as they were recorded, `distorted`,
    `foreign`, read as voices of an unknown corpus, and `brief`, a second of them or so. Voices of further corpora, of
    which the model learned nothing and the network that reads them neither (`unknown`), judge by themselves, and once
    more with words that say nothing (`worded`), if there are any.
    """

    pool: Pool
    valid: dict[str, Batch]
    test: dict[str, Batch]


def load(data_dir: Path, folder: Path, recipe: Recipe, mix: Mix, say: Callable[[str], None]) -> LiveData:
    """Gives all data with the features that the run-time encoders make.

    The first time, words, clips and faces are encoded and kept, which takes some three hours of one core.

    Args:
        data_dir: holds meld/, iemocap/, speech/ and faces/.
        folder: where the runs of the voice encoder are, or are made.
        recipe: names the features; without `visual/ferplus@1` no faces are read.
        mix: how labels are read.
        say: takes a line of progress.

    Raises:
        DataError: a data set is missing or malformed.
        WeightsError: an encoder's weights are not here.
    """
    said = corpora.load("meld", data_dir, (TEXT, LOWER, PROSODY), descriptors=recipe.descriptors)
    acted = corpora.load("iemocap", data_dir, (LOWER, GE2E, PROSODY), descriptors=recipe.descriptors)
    acted = from_iemocap(in_pieces(data_dir / "iemocap", acted), mix)
    misheard = mishear(data_dir / "meld", said)
    speech, strange = live_speech.load(data_dir, folder, say)
    sizes = {name: value.shape[-1] for name, value in {**said.batch.features, **speech.values}.items()}
    seen = live_faces.load(data_dir, say) if FACE in recipe.features else None
    if seen:
        sizes[FACE] = seen["valid"].values.shape[1]

    def part(corpus: Corpus, split: str) -> Batch:
        return corpus.part(split).completed(sizes)

    folds = torch.tensor([clip.fold for clip in speech.clips])
    taught = (folds != HELD_OUT).nonzero().flatten()
    voices = from_speech(speech, taught.tolist(), speech_data.LABELS, sizes, mapping=TAUGHT_BY_SPEECH)
    faces = _none(sizes)
    valid = {"meld": part(said, "valid"), "misheard": part(misheard, "valid"), "iemocap": part(acted, "valid")}
    test = {"meld": part(said, "test"), "misheard": part(misheard, "test"), "iemocap": part(acted, "test")}
    held_out = (folds == HELD_OUT).nonzero().flatten().tolist()
    ways = {"voices": (0, 0), "distorted": (0, 1), "foreign": (1, 0), "brief": (0, BRIEF)}
    acted_parts = {
        name: from_speech(speech, held_out, speech_data.LABELS, sizes, version) for name, version in ways.items()
    }
    valid |= acted_rows.judged(acted_parts, [speech.clips[at] for at in held_out])
    talks, long = part(said, "train"), part(acted, "train")
    neutral = (talks.labels == MELD_LABELS.index("neutral")) & talks.present[TEXT]
    plain = acted_rows.plain_words()
    blank_words = {name: (talks.features[name][neutral], plain[name]) for name in (TEXT, LOWER)}
    if strange:
        valid["unknown"] = from_speech(strange, range(len(strange.clips)), speech_data.LABELS, sizes)
        valid["worded"] = acted_rows.worded(valid["unknown"], blank_words)
    if seen:
        looked = from_faces(seen["valid"], ferplus.EMOTIONS, sizes)
        kept = torch.arange(len(looked)) % 5 == 0
        faces = looked.dialogues((~kept).nonzero().flatten())
        valid["faces"] = looked.dialogues(kept.nonzero().flatten())
        test["faces"] = from_faces(seen["test"], ferplus.EMOTIONS, sizes)
    heard = part(misheard, "train")
    together = joined([talks, long])
    pool = Pool(
        together,
        {
            name: (
                torch.cat([heard.features[name], long.features[name]]),
                torch.cat([heard.present[name], long.present[name]]),
            )
            for name in (TEXT, LOWER)
        },
        torch.arange(int(together.dialogue.max()) + 1) > int(talks.dialogue.max()),
        voices,
        {name: (value[..., taught, :], speech.present[name][..., taught]) for name, value in speech.values.items()},
        live_speech.by_embedding(speech, taught, together.features[GE2E]),
        faces,
        blank_words,
    )
    return LiveData(pool, valid, test)


def in_pieces(folder: Path, corpus: Corpus) -> Corpus:
    """Gives IEMOCAP with text features, its long dialogues read in pieces of `PIECE` turns.

    A turn then sees at most that many before it, as if the conversation had begun later; it takes a fifth of the time.
    """
    pieces = []
    for d in read_dialogues(folder / "dialogues.jsonl"):
        whole = Conversation.of(d["dialogue"], d["split"], ((u["speaker"], u["text"]) for u in d["utterances"]))
        turns = whole.turns
        pieces += [replace(whole, turns=turns[at : at + PIECE]) for at in range(0, len(turns), PIECE)]
    values, present = in_context(pieces, TEXT)
    batch = corpus.batch
    features = {TEXT: values, **batch.features}
    return replace(corpus, batch=replace(batch, features=features, present={TEXT: present, **batch.present}))


def mishear(folder: Path, corpus: Corpus) -> Corpus:
    """Gives MELD with the text features of its words as a recogniser would have written them, past turns too.

    Of the training dialogues one in `MISHEARD_OF` is (by its name); the others keep their features.
    """
    dialogues = meld.read_dialogues(folder)
    for seed, taught in enumerate((False, True)):  # what judges doesn't depend on how much is taught
        listener = asr_noise.Listener(asr_noise.read(), seed)
        heard = {
            number: [listener.mishear(line.text) for line in d.lines]
            for number, d in enumerate(dialogues)
            if (d.split == "train") == taught
        }
        if taught:
            heard = {
                number: texts
                for number, texts in heard.items()
                if MISHEARD_OF and zlib.crc32(dialogues[number].name[::-1].encode()) % MISHEARD_OF == 0
            }
        corpus = reworded(corpus, dialogues, heard)
    return corpus


def reworded(corpus: Corpus, dialogues: Sequence[Dialogue], heard: Mapping[int, Sequence[str]]) -> Corpus:
    """Gives MELD with the text features of other words: `heard`, by the number of the dialogue."""
    if not heard:
        return corpus
    batch = corpus.batch
    told = [
        Conversation.of(
            dialogues[n].name,
            dialogues[n].split,
            zip((line.speaker for line in dialogues[n].lines), texts, strict=True),
        )
        for n, texts in heard.items()
    ]
    rows = torch.isin(batch.dialogue, torch.tensor(list(heard)))
    texts = [turn.text for conversation in told for turn in conversation.turns]
    features, present = dict(batch.features), dict(batch.present)
    for name, (values, there) in ((TEXT, in_context(told, TEXT)), (LOWER, text_features(LOWER, texts, None))):
        features[name], present[name] = features[name].clone(), present[name].clone()
        features[name][rows], present[name][rows] = values, there
    return replace(corpus, batch=replace(batch, features=features, present=present))


def _none(sizes: dict[str, int]) -> Batch:
    empty = torch.zeros(0, dtype=torch.int64)
    there = {name: torch.zeros(0, dtype=torch.bool) for name in sizes}
    return Batch({name: torch.zeros(0, size) for name, size in sizes.items()}, there, empty, empty, empty)
