import pytest
import torch
from support import tiny_mpnet

from mer_agent.encoders import turns
from mer_agent.encoders.text import load_model

SAID = ["i am so glad that you came !", "no .", "well , what a day this is", "yes"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    network, tokenizer, pad = load_model(tiny_mpnet.make(tmp_path_factory.mktemp("mpnet")), torch.device("cpu"))
    return network, turns.Words(tokenizer), pad


@torch.inference_mode()
def states(tiny, said, marks, speakers=None):
    network, words, pad = tiny
    own = turns.alone(network, [words(text) for text in said], pad)
    speakers = torch.zeros(1 + turns.SPEAKERS, tiny_mpnet.WIDTH) if speakers is None else speakers
    return turns.together(network, [own], speakers, torch.tensor([marks]))[0]


def test_a_single_turn_is_what_the_library_makes_of_it(tiny):
    network, words, _ = tiny
    ids = torch.tensor([words(SAID[0])])
    with torch.inference_mode():
        expected = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1)
    scaled = torch.nn.functional.layer_norm(expected, expected.shape[-1:])
    assert torch.allclose(states(tiny, SAID[:1], [1]), scaled, atol=1e-5)


def test_a_turn_depends_on_what_came_before_it_and_on_nothing_after_it(tiny):
    whole = states(tiny, SAID, [1, 2, 1, 2])
    for many in range(1, len(SAID)):
        assert torch.allclose(states(tiny, SAID[:many], [1, 2, 1, 2][:many]), whole[:many], atol=1e-6)
    assert not torch.allclose(states(tiny, SAID[1:], [2, 1, 2])[-1], whole[-1], atol=1e-4)


@pytest.mark.parametrize("trained", [False, True])
def test_gradients_to_a_later_turn_are_exactly_zero(tiny, trained):
    """Not small: zero, in the fused attention and in the one that is written out for training."""
    network, words, pad = tiny
    with torch.inference_mode():
        alone = [one.clone() for one in turns.alone(network, [words(text) for text in SAID], pad)]
    own = [one.clone().requires_grad_() for one in alone]
    network.encoder.layer[-1].attention.attn.q.weight.requires_grad_(trained)
    network.encoder.layer[-2].attention.attn.q.weight.requires_grad_(trained)
    speakers = torch.randn(1 + turns.SPEAKERS, tiny_mpnet.WIDTH)
    for at in range(len(SAID)):
        states = turns.together(network, [own], speakers, torch.tensor([[1, 2, 1, 2]]))[0]
        gradients = torch.autograd.grad((states[at] * torch.randn(tiny_mpnet.WIDTH)).sum(), own)
        assert all(gradient.any() for gradient in gradients[: at + 1])
        assert not any(gradient.any() for gradient in gradients[at + 1 :])
    network.requires_grad_(False)


def test_who_spoke_makes_a_difference(tiny):
    speakers = torch.randn(1 + turns.SPEAKERS, tiny_mpnet.WIDTH)
    one, two = (states(tiny, SAID[:2], marks, speakers)[1] for marks in ([1, 1], [1, 2]))
    assert not torch.allclose(one, two, atol=1e-4)


def test_rows_of_different_length_don_t_disturb_each_other(tiny):
    network, words, pad = tiny
    with torch.inference_mode():
        own = turns.alone(network, [words(text) for text in SAID], pad)
        speakers = torch.randn(1 + turns.SPEAKERS, tiny_mpnet.WIDTH)
        both = turns.together(network, [own, own[:1]], speakers, torch.tensor([[1, 2, 1, 2], [1, -1, -1, -1]]))
        alone = turns.together(network, [own[:1]], speakers, torch.tensor([[1]]))
    assert torch.allclose(both[1, :1], alone[0], atol=1e-6)
    assert not both[1, 1:].any()


def test_going_back_through_it_gives_what_the_fused_form_gives(tiny):
    network, words, pad = tiny
    network.encoder.layer[-1].attention.attn.q.weight.requires_grad_(True)
    own = turns.alone(network, [words(SAID[0])], pad)
    with torch.enable_grad():
        slow = turns.together(network, [own], torch.zeros(9, tiny_mpnet.WIDTH), torch.tensor([[1]]))
    network.requires_grad_(False)
    assert torch.allclose(slow[0].detach(), states(tiny, SAID[:1], [1]), atol=1e-6)


def test_speakers_are_marked_in_order_of_appearance():
    assert turns.marks([7, 3, 7, None, 5]) == [1, 2, 1, 0, 3]
    assert turns.marks(list(range(9)))[-1] == 1


@pytest.mark.parametrize("text", ["", "  \n\t", "\x00\x01\x1b", "😂😂", "你好"], ids=ascii)
def test_what_has_no_known_word_has_no_tokens(tiny, text):
    assert tiny[1](text) == []


def test_control_characters_are_no_words(tiny):
    assert tiny[1]("i am\x07 glad") == tiny[1]("i am glad")


def test_a_turn_is_cut_at_the_budget(tiny):
    assert len(tiny[1]("well " * 500)) == turns.TOKEN_BUDGET
