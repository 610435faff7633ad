import pytest
import torch
from support import tiny_mpnet

from mer_agent.encoders import shipped, turns
from mer_agent.encoders.base import Encoder
from mer_agent.encoders.text_emotion import NAMES, WRITTEN, TextEmotionEncoder
from mer_agent.encoders.text_judged import JudgedTextEncoder, Judges
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Transcript, Turn, Utterance

SIZES = {"judges.meld": 7, "judges.iemocap": 6, "affect": 3}
PAST = [Turn(0, "i am so glad that you came !"), Turn(1, "no .")]


def said(text: str) -> Utterance:
    return Utterance("u", 0, 0, 1, transcript=Transcript(text))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two adapters whose judges differ."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    state = {}
    for part in range(2):
        state[f"{part}.speakers"] = torch.randn(1 + turns.SPEAKERS, tiny_mpnet.WIDTH).half()
        for name, size in SIZES.items():
            state[f"{part}.{name}.weight"] = torch.randn(size, tiny_mpnet.WIDTH).half()
            state[f"{part}.{name}.bias"] = torch.randn(size).half()
    told = {"recipe": {}, "data": "", "terms": "", "figures": {}, "record": {}}
    shipped.save(folder, NAMES[WRITTEN], state, feature=WRITTEN, **told)
    return folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, trained):
    return TextEmotionEncoder(
        "cpu", feature=WRITTEN, base=tiny_mpnet.make(tmp_path_factory.mktemp("base")), trained=trained
    )


def test_it_gives_two_distributions_and_three_ratings_for_known_words(adapted, trained):
    encoder = JudgedTextEncoder("cpu", adapted, trained)
    assert isinstance(encoder, Encoder)
    first, second, third = encoder.encode([said("yes"), said("😂"), said("yes")], [[], [], PAST])
    assert second is None
    assert first.shape == (encoder.dimension,) == (16,)
    assert float(first[:6].exp().sum()) == pytest.approx(1, abs=1e-5)
    assert float(first[6:13].exp().sum()) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(first, third, atol=1e-4)


def test_it_is_what_the_mean_of_the_judges_says_of_the_adapted_state(adapted, trained):
    state, _ = shipped.load(NAMES[WRITTEN], trained)
    (row,) = adapted.encode([said("yes")], [PAST])
    weight, bias = (
        (state[f"0.judges.meld.{key}"].float() + state[f"1.judges.meld.{key}"].float()) / 2
        for key in ("weight", "bias")
    )
    (found,) = JudgedTextEncoder("cpu", adapted, trained).encode([said("yes")], [PAST])
    assert torch.allclose(found[6:13], (weight @ row + bias).log_softmax(-1), atol=1e-4)


def test_a_part_has_a_judge_of_its_own(trained):
    states = torch.randn(3, tiny_mpnet.WIDTH)
    each = [Judges(part, trained)(states) for part in (None, 0, 1)]
    assert len({tuple(rows.flatten().tolist()) for rows in each}) == 3
    with pytest.raises(WeightsError, match="without part 5"):
        Judges(5, trained)
