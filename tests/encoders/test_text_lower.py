import pytest
import torch
from support import needs, tiny_mpnet

from mer_agent.encoders import shipped, turns
from mer_agent.encoders.base import Encoder, create
from mer_agent.encoders.text import TextEncoder
from mer_agent.encoders.text_emotion import HEARD, TextEmotionEncoder
from mer_agent.encoders.text_lower import LowerTextEncoder
from mer_agent.streams.types import Transcript, Turn, Utterance

PAST = [Turn(0, "i am so glad that you came !"), Turn(1, "no .")]


def said(text: str) -> Utterance:
    return Utterance("u", 0, 0, 1, transcript=Transcript(text))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    base, trained = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("trained")
    tiny_mpnet.make(base)
    speakers = torch.zeros(1 + turns.SPEAKERS, tiny_mpnet.WIDTH).half()
    told = {"recipe": {}, "data": "", "terms": "", "figures": {}, "record": {}}
    shipped.save(trained, "text", {"0.speakers": speakers}, feature=HEARD, **told)
    return TextEmotionEncoder("cpu", base=base, trained=trained)


def test_it_gives_a_unit_vector_for_known_words_whatever_was_said_before(adapted):
    encoder = LowerTextEncoder("cpu", adapted)
    assert isinstance(encoder, Encoder)
    first, second, third = encoder.encode([said("yes"), said("😂"), said("yes")], [[], [], PAST])
    assert second is None
    assert torch.allclose(first, third)
    assert first.shape == (encoder.dimension,)
    assert float(first.norm()) == pytest.approx(1)
    assert encoder.encode_texts(["", "no"])[0] is None


def test_beside_the_adapted_encoder_words_are_read_once(adapted, monkeypatch):
    read: list[tuple[int, ...]] = []
    alone = turns.alone
    monkeypatch.setattr(turns, "alone", lambda network, new, pad: read.extend(new) or alone(network, new, pad))
    for at in range(2):
        both = (adapted, LowerTextEncoder("cpu", adapted))
        for encoder in both[:: 1 - 2 * at]:
            encoder.encode([said(f"what a {'glad ' * (at + 1)} day")], [PAST])
    assert len(read) == len(set(read))


@pytest.mark.real_weights
def test_it_is_the_middle_part_of_mpnet_layers():
    needs.weights("mpnet")
    texts = ["Oh my God, I can't believe it!", "No."]
    found = create("text/mpnet-lower@1", "cpu").encode([said(text) for text in texts])
    for own, whole in zip(found, TextEncoder("mpnet-layers", "cpu").encode_texts(texts), strict=True):
        assert own is not None
        assert whole is not None
        assert torch.allclose(own, whole[768:1536], atol=1e-4)
