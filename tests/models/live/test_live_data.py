import torch

from mer_agent.models.batch import NO_LABEL, Batch, FeatureSpec
from mer_agent.models.data.meld import MELD_LABELS
from mer_agent.models.graph import UNKNOWN_SPEAKER
from mer_agent.models.live.live_data import (
    FACE,
    FROM_IEMOCAP,
    GE2E,
    LOWER,
    PROSODY,
    TEXT,
    VOICE,
    Mix,
    Mixer,
    Pool,
    relabelled,
)
from mer_agent.models.live.live_data import filled as alone

SIZES = {TEXT: 3, LOWER: 3, GE2E: 2, VOICE: 2, PROSODY: 2, FACE: 2}
MODALITY = {TEXT: "text", LOWER: "text", FACE: "visual"}
SPECS = [FeatureSpec(name, MODALITY.get(name, "audio"), size) for name, size in SIZES.items()]
CLASSES = len(MELD_LABELS)
MARKS = tuple(k / 16 for k in range(6))
"""By which a voice's versions differ."""


def part(names: tuple[str, ...], mark: float, each: int = 4) -> Batch:
    """A few utterances of each label; a feature's numbers are the mark plus the label."""
    labels = torch.arange(CLASSES).repeat(each)
    values = {name: (mark + labels)[:, None].expand(-1, SIZES[name]).float() for name in names}
    return alone(values, {name: torch.ones(len(labels), dtype=torch.bool) for name in names}, labels, SIZES)


def pool() -> Pool:
    talks = part((TEXT, LOWER, PROSODY), 100.0)
    talks = Batch(
        talks.features,
        talks.present,
        torch.arange(len(talks)) % 2,
        torch.arange(len(talks)) // 7,
        talks.labels,
        affect=torch.ones(len(talks), 3),
    )
    voices = part((GE2E, VOICE, PROSODY), 200.0)
    return Pool(
        talks,
        {name: (talks.features[name] + 0.5, talks.present[name]) for name in (TEXT, LOWER)},
        torch.tensor([False] * 4),
        voices,
        {  # a clean, a distorted and a brief one, each heard by one who knows the corpus or not
            name: (
                torch.stack([values + mark for mark in MARKS]).view(2, 3, len(voices), -1),
                voices.present[name].expand(2, 3, -1),
            )
            for name, values in voices.features.items()
            if name in (VOICE, GE2E, PROSODY)
        },
        (torch.full((len(talks), 2), 0.25), torch.full((3, 2), 0.5)),
        part((FACE,), 300.0),
        {name: (torch.full((2, 3), -1.0), torch.full((5, 3), -1.0)) for name in (TEXT, LOWER)},
    )


def drawn(**mix) -> Batch:
    settings = {
        "clips": 30,
        "faces": 20,
        "misheard": 0,
        "wrong_voice": 0,
        "wrong_face": 0,
        "blank_face": 0,
        "words": 0,
        "whole": 1,
        "lost": 0,
        "strangers": 0,
        "brief": 0,
    }
    mixer = Mixer(pool(), Mix(**(settings | mix)), SPECS, torch.Generator().manual_seed(0))
    return mixer.draw(torch.tensor([0, 1, 2, 3]))


def test_labels_of_other_sets_become_melds():
    found = relabelled(
        torch.tensor([0, 1, NO_LABEL, 2]), ["happy", "boredom", "fear"], {"happy": "joy", "boredom": None}
    )
    assert found.tolist() == [MELD_LABELS.index("joy"), NO_LABEL, NO_LABEL, MELD_LABELS.index("fear")]
    assert set(FROM_IEMOCAP.values()) <= {*MELD_LABELS, None}


def test_what_is_lent_has_the_label_of_the_utterance():
    batch = drawn(voice=1, face=1)
    talk = batch.dialogue < 4
    assert batch.present[VOICE][talk].all()
    assert batch.present[FACE][talk].all()
    assert torch.equal(batch.features[VOICE][talk][:, 0].floor(), 200.0 + batch.labels[talk])
    assert torch.equal(batch.features[FACE][talk][:, 0], 300.0 + batch.labels[talk])
    assert batch.affect is not None
    assert batch.affect[talk].isfinite().all()
    assert batch.affect[~talk].isnan().all()


def test_an_utterance_with_a_voice_keeps_it_as_far_as_it_is_known():
    of = pool()
    of.talks.present[GE2E][of.talks.dialogue == 1] = True
    for own_voice in (1.0, 0.0):
        mix = Mix(clips=30, faces=20, voice=1, wrong_voice=0, words=0, whole=1, lost=0, own_voice=own_voice)
        batch = Mixer(of, mix, SPECS, torch.Generator().manual_seed(0)).draw(torch.tensor([0, 1]))
        heard = batch.features[VOICE][batch.dialogue == 1][:, 0]
        assert torch.equal(heard, torch.full_like(heard, 0.75)) == bool(own_voice), "what is known, and a clip's rest"
        assert (batch.features[GE2E][batch.dialogue == 1] == 0).all(), "its embedding is its own in any case"
        assert (batch.features[VOICE][batch.dialogue == 0] >= 200).all()


def test_some_of_it_is_wrong():
    batch = drawn(voice=1, wrong_voice=1.0, face=1, blank_face=1.0)
    talk = batch.dialogue < 4
    right = (batch.features[VOICE][talk][:, 0].floor() == 200.0 + batch.labels[talk]).float().mean()
    assert right < 0.5
    neutral = MELD_LABELS.index("neutral")
    assert (batch.features[FACE][talk][:, 0] == 300.0 + neutral).all()


def test_brief_utterances_are_lent_wrong_voices_more_often():
    of = pool()
    of.talks.features[PROSODY] = of.talks.features[PROSODY].clone()
    of.talks.features[PROSODY][of.talks.dialogue == 1, 0] = 0.5
    mix = Mix(clips=30, faces=20, voice=1, wrong_voice=0, wrong_brief=1.0, words=0, whole=1, lost=0)
    batch = Mixer(of, mix, SPECS, torch.Generator().manual_seed(0)).draw(torch.tensor([0, 1]))
    right = batch.features[VOICE][:, 0].floor() == 200.0 + batch.labels
    assert right[batch.dialogue == 0].all()
    assert not right[batch.dialogue == 1].all()


def test_words_are_those_written_or_those_recognised():
    written, recognised = drawn(misheard=0), drawn(misheard=1)
    talk = written.dialogue < 4
    for name in (TEXT, LOWER):
        assert (recognised.features[name][talk] - written.features[name][talk] == 0.5).all()


def test_clips_and_faces_stand_in_rows_of_their_own():
    batch = drawn(spoken=1, face=0, begins=0.6)
    clips = batch.features[TEXT][:, 0] == -1
    assert torch.equal(clips, batch.features[LOWER][:, 0] == -1)
    assert int(clips.sum()) == 30
    assert batch.present[VOICE][clips].all()
    assert not batch.present[FACE][clips].any()
    _, lengths = torch.unique_consecutive(batch.dialogue[batch.dialogue > 3], return_counts=True)
    assert len(lengths) > 20
    assert (batch.dialogue.diff() >= 0).all()


def test_rows_of_clips_are_as_long_as_dialogues():
    batch = drawn()
    _, lengths = torch.unique_consecutive(batch.dialogue[batch.dialogue > 3], return_counts=True)
    assert lengths.float().mean() > 4
    assert lengths.max() > 8


def test_any_subset_of_modalities_may_be_all_there_is():
    batch = drawn(voice=1, face=1, spoken=1, whole=0, begins=0.6)
    heard = torch.stack([batch.present[name] for name in (TEXT, VOICE, FACE)], 1)
    subsets = {tuple(row) for row in heard[batch.dialogue < 40].tolist()}
    assert len(subsets) >= 7


def test_some_conversations_keep_their_words_alone():
    batch = drawn(voice=1, face=1, words=1)
    talk = batch.dialogue < 4
    assert batch.present[TEXT][talk].all()
    assert not any(batch.present[name][talk].any() for name in (GE2E, VOICE, PROSODY, FACE))
    assert batch.present[VOICE][~talk].any()


def test_speakers_are_forgotten_and_mistaken():
    assert (drawn(strangers=1.0).speakers == UNKNOWN_SPEAKER).all()
    some = drawn(strangers=0.3).speakers
    assert (some == UNKNOWN_SPEAKER).any()
    assert (some != UNKNOWN_SPEAKER).any()


def test_the_same_seed_draws_the_same_batch():
    one, two = drawn(misheard=0.5, whole=0.5), drawn(misheard=0.5, whole=0.5)
    assert all(torch.equal(one.features[name], two.features[name]) for name in SIZES)
    assert all(torch.equal(one.present[name], two.present[name]) for name in SIZES)


def test_a_voice_is_clean_or_distorted_and_all_its_features_are_of_the_same_version():
    batch = drawn(clips=60, spoken=0, face=0, clean=0.5, foreign=0.5)
    clips = batch.present[VOICE] & ~batch.present[TEXT]
    marks = {name: batch.features[name][clips][:, 0] % 1 for name in (VOICE, GE2E, PROSODY)}
    assert set(marks[VOICE].tolist()) == {mark for k, mark in enumerate(MARKS) if k % 3 < 2}
    assert torch.equal(marks[VOICE], marks[GE2E])
    assert torch.equal(marks[VOICE], marks[PROSODY])
    always = drawn(spoken=0, face=0, clean=1.0, foreign=0.0)
    assert (always.features[VOICE][always.present[VOICE]][:, 0] % 1 == 0).all()


def test_a_brief_utterance_is_lent_a_brief_voice():
    of = pool()
    brief = torch.arange(len(of.talks)) % 3 == 0
    of.talks.features[PROSODY] = torch.where(brief[:, None], 0.6, of.talks.features[PROSODY])
    mix = Mix(clips=30, faces=20, voice=1, words=0, whole=1, lost=0, foreign=0, brief=1)
    batch = Mixer(of, mix, SPECS, torch.Generator().manual_seed(0)).draw(torch.tensor([0, 1, 2, 3]))
    copies = (batch.features[VOICE][:, 0] % 1 * 16).round() % 3
    assert torch.equal(copies[: len(brief)] == 2, brief)
    acted = batch.present[VOICE] & (batch.dialogue >= 4)
    assert acted.any()
    assert (copies[acted] == 2).all(), "and so are acted clips, as often as asked"
