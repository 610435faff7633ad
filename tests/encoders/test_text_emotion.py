import dataclasses
import json

import pytest
import torch
from support import tiny_mpnet

from mer_agent.encoders import shipped, turns
from mer_agent.encoders.base import Encoder
from mer_agent.encoders.text_emotion import HEARD, TextEmotionEncoder, parts
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Transcript, Turn, Utterance

PAST = [Turn(0, "i am so glad that you came !"), Turn(1, "no ."), Turn(None, "what a day")]
PARTS = 2
QUERY = f"encoder.layer.{tiny_mpnet.LAYERS - 1}.attention.attn.q"


def said(text: str | None, speaker: int | None = 0) -> Utterance:
    return Utterance("u", speaker, 0, 1, transcript=None if text is None else Transcript(text))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base that knows nothing, and adapters for it that do change something."""
    base, trained = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("trained")
    tiny_mpnet.make(base)
    torch.manual_seed(0)
    state = {}
    for part in range(PARTS):
        state |= {
            f"{part}.{QUERY}.down": torch.randn(2, tiny_mpnet.WIDTH).half(),
            f"{part}.{QUERY}.up": torch.randn(tiny_mpnet.WIDTH, 2).half(),
            f"{part}.speakers": torch.randn(1 + turns.SPEAKERS, tiny_mpnet.WIDTH).half(),
            f"{part}.judges.meld.weight": torch.randn(7, tiny_mpnet.WIDTH).half(),
        }
    told = {"recipe": {}, "data": "", "terms": "", "figures": {}, "record": {}}
    shipped.save(trained, "text", state, feature=HEARD, **told)
    return base, trained


@pytest.fixture(scope="module")
def encoder(folders):
    return TextEmotionEncoder("cpu", base=folders[0], trained=folders[1])


def test_it_gives_one_vector_for_each_utterance_with_words(encoder):
    assert isinstance(encoder, Encoder)
    first, second, third = encoder.encode([said("yes"), said(None), said(" ")])
    assert first.shape == (encoder.dimension,)
    assert first.dtype == torch.float32
    assert second is None
    assert third is None
    assert encoder.encode([]) == []


def test_batch_equals_single_whatever_was_read_before(encoder):
    utterances = [said("yes"), said("i am so sad , you no", 1), said("well", None)]
    past = [PAST, PAST[:1], ()]
    together = encoder.encode(utterances, past)
    for utterance, before, row in zip(utterances, past, together, strict=True):
        (alone,) = encoder.encode([utterance], [before])
        assert torch.allclose(alone, row, atol=1e-5)


def test_a_dialogue_at_once_equals_turn_by_turn(encoder):
    words = ["i am so glad that you came !", "no .", "", "what a day", "yes", "no no no", "what is that ? " * 9]
    dialogue = [Turn(at % 3 if at % 7 else None, words[at * 5 % len(words)]) for at in range(30)]
    at_once = encoder.encode_dialogue(dialogue)
    for at, turn in enumerate(dialogue):
        (alone,) = encoder.encode([said(turn.text, turn.speaker)], [dialogue[max(0, at - turns.PAST_TURNS) : at]])
        assert (alone is None) == (at_once[at] is None)
        if alone is not None:
            assert torch.allclose(alone, at_once[at], atol=1e-5)


def test_it_remembers_a_bounded_number_of_turns(encoder):
    for at in range(300):
        encoder.encode([said("yes " * (at % 100 + 1))])
    assert len(encoder._recent) <= 64


def test_it_forgets_what_was_said(encoder):
    before = encoder.encode([said("what a day")], [PAST])
    assert encoder._recent
    encoder.forget()
    assert not encoder._recent
    assert torch.equal(*before, *encoder.encode([said("what a day")], [PAST]))


def test_the_past_counts_and_who_spoke_counts(encoder):
    (alone,) = encoder.encode([said("yes")])
    (after,) = encoder.encode([said("yes")], [PAST])
    (other,) = encoder.encode([said("yes", 1)], [PAST])
    assert not torch.allclose(alone, after, atol=1e-4)
    assert not torch.allclose(after, other, atol=1e-4)


def test_speakers_are_anonymous(encoder):
    (ours,) = encoder.encode([said("yes", 0)], [[Turn(0, "no"), Turn(1, "well")]])
    (theirs,) = encoder.encode([said("yes", 5)], [[Turn(5, "no"), Turn(2, "well")]])
    assert torch.equal(ours, theirs)


def test_past_turns_without_words_are_passed_over(encoder):
    (with_them,) = encoder.encode([said("yes")], [[*PAST, Turn(1, ""), Turn(1, "😂")]])
    (without,) = encoder.encode([said("yes")], [PAST])
    assert torch.allclose(with_them, without, atol=1e-6)


def test_only_whole_turns_of_the_nearest_past_that_fit_the_budget_are_read(encoder):
    long = Turn(1, "well " * (turns.TOKEN_BUDGET - 10))
    (within,) = encoder.encode([said("yes")], [[long]])
    (alone,) = encoder.encode([said("yes")])
    assert not torch.allclose(within, alone, atol=1e-4)
    (cut,) = encoder.encode([said("yes yes yes yes yes yes yes yes yes")], [[long]])
    (fits,) = encoder.encode([said("yes yes yes yes yes yes yes yes yes")])
    assert torch.allclose(cut, fits, atol=1e-6)
    (many,) = encoder.encode([said("yes")], [[Turn(1, "no")] * 40])
    (ten,) = encoder.encode([said("yes")], [[Turn(1, "no")] * 10])
    assert torch.allclose(many, ten, atol=1e-6)


@pytest.mark.parametrize("text", ["", " \n\t ", "\x00\x1b\x7f", "😂🎉", "你好", "\u200b"], ids=ascii)
def test_what_has_no_known_word_has_no_vector(encoder, text):
    assert encoder.encode([said(text)], [PAST]) == [None]


@pytest.mark.parametrize(
    "text", ["well " * 500, "yes 😂", "Ich bin so glad", "YES!!!", "yes\x00 no", "x" * 10_000 + " no"]
)
def test_odd_words_give_finite_numbers(encoder, text):
    (row,) = encoder.encode([said(text)], [[Turn(0, text)]])
    assert row.isfinite().all()


def test_a_speech_is_cut_at_the_budget(encoder):
    once, twice = encoder.encode([said("well " * 300), said("well " * 600)])
    assert torch.equal(once, twice)


def test_adapters_add_up_to_the_same_numbers_in_whatever_order_a_file_gives_them(folders, monkeypatch):
    base, trained = folders
    load, rows = shipped.load, []
    for turned in (False, True):

        def in_order(name, folder, turned=turned):
            state, card = load(name, folder)
            return dict(sorted(state.items(), reverse=turned)), card

        monkeypatch.setattr(shipped, "load", in_order)
        rows += TextEmotionEncoder("cpu", base=base, trained=trained).encode([said("yes")], [PAST])
        assert list(parts(in_order("text", trained)[0], None)[0]) == sorted(parts(load("text", trained)[0], None)[0])
    assert torch.equal(*rows)


def test_one_part_and_the_mean_of_all_differ(folders, encoder):
    (mean,) = encoder.encode([said("yes")], [PAST])
    for part in range(PARTS):
        (one,) = TextEmotionEncoder("cpu", without=part, base=folders[0], trained=folders[1]).encode(
            [said("yes")], [PAST]
        )
        assert not torch.allclose(one, mean, atol=1e-4)
    with pytest.raises(WeightsError, match="without part 7"):
        TextEmotionEncoder("cpu", without=7, base=folders[0], trained=folders[1])


def test_half_the_precision_is_near(folders, encoder):
    coarse = TextEmotionEncoder("cpu", precision="bfloat16", base=folders[0], trained=folders[1])
    (row,), (exact,) = (each.encode([said("i am so glad")], [PAST]) for each in (coarse, encoder))
    assert row.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(row, exact, 0) > 0.99


def test_weights_of_another_feature_are_refused(folders, tmp_path):
    base, trained = folders
    card = dataclasses.asdict(shipped.read_card("text", trained)) | {"feature": "text/other@1"}
    (tmp_path / "text.json").write_text(json.dumps(card))
    (tmp_path / "text.safetensors").write_bytes((trained / "text.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="text/other@1"):
        TextEmotionEncoder("cpu", base=base, trained=tmp_path)
