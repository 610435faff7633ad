"""What the live model learns from: conversations, acted voices and faces, put together as they meet live.

No corpus at hand has words, voice and face of the same utterance. So a batch holds

- dialogues of MELD (words, prosody) and IEMOCAP (words, voice, prosody), as they were said or as a recogniser would
  have written them; some of them lent voices or faces of the same emotion, with some that are wrong, so that neither is
  believed too much; IEMOCAP's own voices, as far as their embeddings tell them;
- acted clips of RAVDESS and EmoDB, in rows as long as dialogues, most with words that say nothing, some with a lent
  face;
- faces of FER+ alone, in such rows, too.

Labels are MELD's seven. Then modalities are taken away, speakers mistaken, features lost (`hidden`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mer_agent.encoders.prosody import DESCRIPTORS
from mer_agent.models.batch import NO_LABEL, Batch, FeatureSpec
from mer_agent.models.data.datasets import IEMOCAP_LABELS, Corpus
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.graph import UNKNOWN_SPEAKER
from mer_agent.models.live.live_faces import FaceFeatures
from mer_agent.models.live.live_speech import Speech
from mer_agent.streams.types import MODALITIES

TEXT, LOWER, GE2E, VOICE, PROSODY, FACE = (
    "text/mpnet-emotion@2",
    "text/mpnet-lower@1",
    "audio/ge2e@1",
    "audio/emotion@6",
    "audio/prosody@1",
    "visual/ferplus@1",
)

_DURATION = DESCRIPTORS.index("duration_s")

FROM_IEMOCAP: Mapping[str, str | None] = {
    "happy": "joy",
    "excited": "joy",
    "sad": "sadness",
    "angry": "anger",
    "frustrated": "anger",
}
FROM_SPEECH: Mapping[str, str | None] = {"happy": "joy", "sad": "sadness", "angry": "anger", "boredom": None}
FROM_FACES: Mapping[str, str | None] = {"happiness": "joy", "contempt": None}
"""Label of a data set -> MELD's, where its name differs; None: none of them."""
TAUGHT_BY_SPEECH = {**FROM_SPEECH, "boredom": "neutral"}
"""The same for what is learned from: to a network of actors, people who read or talk plainly sound bored."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How the data are put together; shares are of dialogues, wrongs of utterances."""

    talks: int = 14
    """Dialogues of MELD in a batch."""
    long_talks: int = 2
    """Dialogues of IEMOCAP in a batch."""
    clips: int = 28
    faces: int = 16
    misheard: float = 0.3
    """Dialogues that are read as a recogniser would have written them."""
    voice: float = 0.5
    """Dialogues that get voices of acted clips."""
    face: float = 0.5
    """Dialogues that get faces."""
    wrong_voice: float = 0.55
    """Of such voices, those of a random emotion: spontaneous voices tell far less than acted ones."""
    brief_s: float = 1.0
    wrong_brief: float = 0.7
    """The same of utterances that are shorter than this, which are lent brief copies: less is in them to be heard."""
    brief: float = 0.2
    """Of acted clips by themselves, those that are the brief copy."""
    own_voice: float = 0.5
    """IEMOCAP's dialogues that are lent their own voices, as far as their embeddings tell, and not acted clips'."""
    wrong_face: float = 0.3
    blank_face: float = 0.25
    """Of such faces, neutral ones whatever is said: people who talk often look so to a face encoder."""
    usual: float = 0.15
    """Of clips and faces, those whose labels are as frequent as in MELD; of the others, all labels are."""
    clean: float = 0.4
    """Of the voices, those without room, noise or telephone."""
    foreign: float = 0.5
    """Of the voices, those that are read by a network that doesn't know their corpus."""
    spoken: float = 0.75
    """Acted clips that come with words that say nothing."""
    begins: float = 0.15
    """Clips and faces that begin a dialogue: their rows must be as long as real dialogues, or the length of the past
    would tell a model whether a voice is acted, and so whether to trust it."""
    words: float = 0.25
    """Conversations that keep their words alone, as typed ones have nothing else."""
    whole: float = 0.6
    """Of the others, and of clips and faces, those that keep all modalities; the rest keeps one of seven subsets."""
    lost: float = 0.1
    """Features that an utterance loses."""
    strangers: float = 0.1
    """Dialogues in which nobody is known, and utterances given to somebody else, or to nobody."""
    frustrated: bool = True
    """Whether IEMOCAP's frustration counts as anger; else it has no label."""


@dataclass(frozen=True, slots=True)
class Pool:
    """All training data. `talks` are dialogues, `misheard` their text features as if recognised; `long` IEMOCAP's."""

    talks: Batch
    misheard: Mapping[str, tuple[Tensor, Tensor]]
    """By feature id, values [N, 768] and presence [N]."""
    is_long: Tensor
    """Whether a dialogue [D], by its number, is IEMOCAP's."""
    voices: Batch
    """Clips, each a dialogue of its own, as they were recorded."""
    versions: Mapping[str, tuple[Tensor, Tensor]]
    """By feature id, values [A, B, N, dimension] and presence [A, B, N] of their `live_speech.VERSIONS`, of which the
    last copy is the brief one."""
    own_voices: tuple[Tensor, Tensor]
    """What is known of IEMOCAP's voices (`live_speech.by_embedding`): [N, 100] of `talks`, and the clips' rest."""
    faces: Batch
    blank_words: Mapping[str, tuple[Tensor, ...]]
    """By feature id, text features [P, 768] of sentences that carry no emotion, of several kinds, drawn as often."""


def relabelled(labels: Tensor, names: Sequence[str], mapping: Mapping[str, str | None]) -> Tensor:
    """Gives labels [N] of another set as MELD's; `NO_LABEL` for those that it has none for."""
    own = []
    for name in names:
        target = mapping.get(name, name)
        own.append(NO_LABEL if target is None else MELD_LABELS.index(target))
    table = torch.tensor([*own, NO_LABEL])
    return table[labels]  # NO_LABEL is -1: the last row


def from_iemocap(corpus: Corpus, mix: Mix) -> Corpus:
    """Gives IEMOCAP with MELD's labels."""
    mapping = FROM_IEMOCAP if mix.frustrated else {**FROM_IEMOCAP, "frustrated": None}
    labels = relabelled(corpus.batch.labels, IEMOCAP_LABELS, mapping)
    return replace(corpus, label_set="meld7", labels=MELD_LABELS, batch=replace(corpus.batch, labels=labels))


def from_speech(
    speech: Speech,
    rows: Sequence[int],
    labels: Sequence[str],
    dimensions: dict[str, int],
    version: tuple[int, int] = (0, 0),
    mapping: Mapping[str, str | None] = FROM_SPEECH,
) -> Batch:
    """Gives these clips in one of their versions, each a dialogue of one utterance."""
    at = torch.tensor(rows)
    own = relabelled(torch.tensor([speech.clips[i].label for i in rows]), labels, mapping)
    values = {name: value[version][at] for name, value in speech.values.items()}
    present = {name: value[version][at] for name, value in speech.present.items()}
    return filled(values, present, own, dimensions)


def from_faces(faces: FaceFeatures, emotions: Sequence[str], dimensions: dict[str, int]) -> Batch:
    """Gives faces, each a dialogue of one utterance."""
    labels = relabelled(faces.labels, emotions, FROM_FACES)
    there = torch.ones(len(labels), dtype=torch.bool)
    return filled({FACE: faces.values}, {FACE: there}, labels, dimensions)


def filled(values: dict[str, Tensor], present: dict[str, Tensor], labels: Tensor, dimensions: dict[str, int]) -> Batch:
    """Gives utterances, each a dialogue, with every feature of `dimensions`; those that have no values are absent."""
    many = len(labels)
    nobody = torch.zeros(many, dtype=torch.int64)
    return Batch(values, present, nobody, torch.arange(many), labels).completed(dimensions)


def joined(parts: Sequence[Batch]) -> Batch:
    """Gives batches of the same features as one; their dialogues stay apart."""
    dialogue, first = [], 0
    for part in parts:
        dialogue.append(part.dialogue + first)
        first += int(part.dialogue.max()) + 1
    nobody = [torch.full((len(part), 3), float("nan")) if part.affect is None else part.affect for part in parts]
    return Batch(
        {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features},
        {name: torch.cat([part.present[name] for part in parts]) for name in parts[0].present},
        torch.cat([part.speakers for part in parts]),
        torch.cat(dialogue),
        torch.cat([part.labels for part in parts]),
        affect=torch.cat(nobody),
    )


class Mixer:
    """Draws batches out of a pool."""

    def __init__(self, pool: Pool, mix: Mix, specs: Sequence[FeatureSpec], generator: torch.Generator) -> None:
        self._pool, self._mix, self._specs, self._random = pool, mix, specs, generator
        known = pool.talks.labels[pool.talks.labels != NO_LABEL]
        self._usual = torch.bincount(known, minlength=len(MELD_LABELS)).float()
        self._by_label = {
            part: [(batch.labels == label).nonzero().flatten() for label in range(len(MELD_LABELS))]
            for part, batch in (("voices", pool.voices), ("faces", pool.faces))
        }

    def draw(self, talks: Tensor) -> Batch:
        """Gives a batch of these dialogues (their numbers, int64 [D]), of clips and of faces."""
        rows = torch.isin(self._pool.talks.dialogue, talks).nonzero().flatten()
        parts = [self._lent(self._heard(rows), rows), self._clips()]
        conversations = int(parts[0].dialogue.max()) + 1
        if len(self._pool.faces):
            rows = self._balanced("faces", self._mix.faces)
            parts.append(self._in_a_row(_rows(self._pool.faces, rows)))
        return self._hidden(joined(parts), conversations)

    def _chance(self, many: int, share: float) -> Tensor:
        return torch.rand(many, generator=self._random) < share

    def _pick(self, many: int, among: int) -> Tensor:
        return torch.randint(among, (many,), generator=self._random)

    def _heard(self, rows: Tensor) -> Batch:
        """These rows of the dialogues, some dialogues as a recogniser would have written them; numbered from 0."""
        batch = _rows(self._pool.talks, rows)
        _, dialogue = torch.unique_consecutive(batch.dialogue, return_inverse=True)
        misheard = self._chance(int(dialogue.max()) + 1, self._mix.misheard)[dialogue]
        features, present = dict(batch.features), dict(batch.present)
        for name, (values, there) in self._pool.misheard.items():
            features[name] = torch.where(misheard[:, None], values[rows], features[name])
            present[name] = torch.where(misheard, there[rows], present[name])
        return replace(batch, features=features, present=present, dialogue=dialogue)

    def _balanced(self, part: str, many: int) -> Tensor:
        """Rows of clips or faces, all labels alike but for the `usual` ones."""
        own = self._by_label[part]
        there = torch.tensor([len(rows) > 0 for rows in own])
        odds = torch.where(self._chance(many, self._mix.usual)[:, None], self._usual * there, there.float())
        label = torch.multinomial(odds, 1, generator=self._random).flatten().tolist()
        return torch.stack([own[k][self._pick(1, len(own[k]))[0]] for k in label])

    def _like(self, part: str, labels: Tensor, wrong: Tensor) -> Tensor:
        """Rows of the same labels [N], or with a chance of `wrong` [N] of random ones; -1 where there is none."""
        mistaken = torch.rand(len(labels), generator=self._random) < wrong
        wanted = torch.where(mistaken, self._pick(len(labels), len(MELD_LABELS)), labels)
        rows = torch.full_like(labels, -1)
        for label, own in enumerate(self._by_label[part]):
            at = (wanted == label).nonzero().flatten()
            if len(own):
                rows[at] = own[self._pick(len(at), len(own))]
        return rows

    def _lent(self, batch: Batch, rows: Tensor) -> Batch:
        """Lends voices and faces to some dialogues, `rows` of the pool's."""
        many = int(batch.dialogue.max()) + 1
        features, present = dict(batch.features), dict(batch.present)
        brief = (batch.features[PROSODY][:, _DURATION] < self._mix.brief_s) & batch.present[PROSODY]
        wrong = torch.where(brief, self._mix.wrong_brief, self._mix.wrong_voice)
        voice = self._like("voices", batch.labels, wrong)
        voice[~self._chance(many, self._mix.voice)[batch.dialogue]] = -1
        lent = self._voices(voice, brief)
        # An utterance with a voice keeps it, as far as it is known.
        own = present[GE2E] & self._chance(many, self._mix.own_voice)[batch.dialogue]
        for name in (VOICE, GE2E):
            values, there = lent[name]
            where = ~own if name == VOICE else ~present[GE2E]
            self._lend(features, present, name, values, (voice >= 0) & where & there)
        known, rest = self._pool.own_voices
        values = known[rows] + rest[self._pick(len(batch), len(rest))]
        self._lend(features, present, VOICE, values.clamp(-1, 1), (voice >= 0) & own)
        self._show(features, present, batch.labels, self._chance(many, self._mix.face)[batch.dialogue])
        return replace(batch, features=features, present=present)

    def _voices(self, rows: Tensor, brief: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The clips' features and where they are present, each clip in one of its versions; brief ones where asked."""
        versions, mix = self._pool.versions, self._mix
        last = versions[VOICE][0].shape[1] - 1
        copy = 1 + self._pick(len(rows), last - 1)
        copy[self._chance(len(rows), mix.clean)] = 0
        copy[brief] = last
        at = (self._chance(len(rows), mix.foreign).long(), copy, rows)
        return {name: (values[at], present[at]) for name, (values, present) in versions.items()}

    def _show(self, features: dict[str, Tensor], present: dict[str, Tensor], labels: Tensor, who: Tensor) -> None:
        if not len(self._pool.faces):
            return
        blank = self._chance(len(labels), self._mix.blank_face)
        shown = torch.where(blank, MELD_LABELS.index("neutral"), labels)
        rows = self._like("faces", shown, torch.full(labels.shape, self._mix.wrong_face))
        self._lend(features, present, FACE, self._pool.faces.features[FACE][rows], who & (rows >= 0))

    @staticmethod
    def _lend(
        features: dict[str, Tensor], present: dict[str, Tensor], name: str, values: Tensor, where: Tensor
    ) -> None:
        features[name] = torch.where(where[:, None], values, features[name])
        present[name] = present[name] | where

    def _clips(self) -> Batch:
        """Acted clips in rows, some with words that say nothing, some with faces."""
        rows = self._balanced("voices", self._mix.clips)
        batch = _rows(self._pool.voices, rows)
        features, present = dict(batch.features), dict(batch.present)
        for name, (values, there) in self._voices(rows, self._chance(len(rows), self._mix.brief)).items():
            features[name], present[name] = values, there
        spoken = self._chance(len(rows), self._mix.spoken)
        kinds = self._pool.blank_words
        kind = self._pick(len(rows), len(kinds[TEXT]))
        for number, some in enumerate(kinds[TEXT]):
            words = self._pick(len(rows), len(some))
            for name, features_of in kinds.items():
                self._lend(features, present, name, features_of[number][words], spoken & (kind == number))
        self._show(features, present, batch.labels, self._chance(len(rows), self._mix.face))
        return self._in_a_row(replace(batch, features=features, present=present))

    def _in_a_row(self, batch: Batch) -> Batch:
        """Puts some utterances into a dialogue, of one speaker or of several."""
        begins = self._chance(len(batch), self._mix.begins)
        begins[0] = True
        changes = self._chance(len(batch), 0.5).long()
        return replace(batch, dialogue=begins.long().cumsum(0) - 1, speakers=changes)

    def _hidden(self, batch: Batch, conversations: int) -> Batch:
        """Takes away modalities, features and who spoke; `conversations` come first."""
        mix, many = self._mix, int(batch.dialogue.max()) + 1
        subset = 1 + self._pick(many, 2 ** len(MODALITIES) - 1)
        subset[self._chance(many, mix.whole)] = 2 ** len(MODALITIES) - 1
        subset[:conversations][self._chance(conversations, mix.words)] = 1 << MODALITIES.index("text")
        present = {}
        for spec in self._specs:
            kept = (subset >> MODALITIES.index(spec.modality) & 1).bool()[batch.dialogue]
            present[spec.id] = batch.present[spec.id] & kept & ~self._chance(len(batch), mix.lost)
        nobody = self._chance(many, mix.strangers)[batch.dialogue]
        mistaken = self._chance(len(batch), mix.strangers / 2)
        speakers = torch.where(mistaken, self._pick(len(batch), 3) - 1, batch.speakers)
        return replace(batch, present=present, speakers=torch.where(nobody, UNKNOWN_SPEAKER, speakers))


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(
        {name: value[rows] for name, value in batch.features.items()},
        {name: value[rows] for name, value in batch.present.items()},
        batch.speakers[rows],
        batch.dialogue[rows],
        batch.labels[rows],
        affect=None if batch.affect is None else batch.affect[rows],
    )
