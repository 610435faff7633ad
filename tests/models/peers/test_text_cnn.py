"""Filters over words, against plain loops; and what stands in their place where there are no words."""

from __future__ import annotations

import torch
from support import peers

from mer_agent.encoders.words import WordEncoder
from mer_agent.models.batch import Batch
from mer_agent.models.peers.text_cnn import TextCNN


def of_words(texts, specs=peers.WORDS[:1]):
    rows = WordEncoder().encode_texts(texts)
    present = torch.tensor([row is not None for row in rows])
    values = torch.stack([torch.full((64,), 9.0) if row is None else row for row in rows])
    zero = torch.zeros(len(texts), dtype=torch.int64)
    return Batch({specs[0].id: values}, {specs[0].id: present}, zero, zero, zero)


def model(**sizes):
    torch.manual_seed(0)
    return TextCNN(peers.WORDS[:1], 3, filters=5, widths=(2, 3), embedding=4, **sizes).eval()


def test_it_is_the_formula():
    cnn = model()
    batch = of_words(["you never listen to me!"])
    words = cnn.embed(batch.features["text/words@1"][0, :6].long())
    answers = []
    for conv in cnn.filters:
        width = conv.weight.shape[-1]
        silence = torch.zeros(width, 4)
        rows = torch.cat([silence, words, silence])
        windows = [rows[i : i + width] for i in range(len(rows) - width + 1)]
        for weight, bias in zip(conv.weight, conv.bias, strict=True):
            answers.append(max(torch.relu((weight.T * window).sum() + bias) for window in windows))
    torch.testing.assert_close(cnn(batch).logits[0], cnn.decide(torch.stack(answers)))


def test_order_counts_within_a_filter():
    cnn = model()
    same, swapped = cnn(of_words(["not good but bad", "not bad but good"])).logits
    assert not torch.allclose(same, swapped)


def test_a_longer_neighbour_changes_nothing():
    cnn = model()
    for conv in cnn.filters:
        conv.bias.data += torch.linspace(-1, 1, 5)  # some filters answer silence most loudly
    alone = cnn(of_words(["oh no"])).logits
    together = cnn(of_words(["oh no", "a much longer sentence stands beside it here"])).logits
    torch.testing.assert_close(alone, together[:1])


def test_no_words_are_like_silence_and_finite():
    cnn = model()
    logits = cnn(of_words(["", "hello"])).logits
    assert logits.isfinite().all()
    assert not torch.allclose(logits[0], logits[1])
    batch = of_words(["hello"]).without(["text/words@1"])
    torch.testing.assert_close(cnn(batch).logits[0], logits[0])


def test_word_vectors_are_learned_and_padding_stays_zero():
    cnn = model()
    cnn(of_words(["well well"])).logits.sum().backward()
    assert not cnn.embed.weight.grad[0].any()
    assert cnn.embed.weight.grad.any(-1).sum() == 1
    assert not cnn.embed.weight[0].any()


def test_without_words_a_filter_is_the_largest_of_its_maps():
    torch.manual_seed(0)
    cnn, batch = TextCNN(peers.SPECS[:1], 3, filters=5, widths=(3,)).eval(), peers.batch((4,))
    rows = cnn.embed(batch)
    maps = torch.stack([rows @ cnn.filters[0].weight[:, :, k].T + cnn.filters[0].bias for k in range(3)])
    answers = torch.relu(torch.maximum(maps.amax(0), cnn.filters[0].bias))  # the only word at each place, or nowhere
    torch.testing.assert_close(cnn(batch).logits, cnn.decide(answers))


def test_words_go_with_other_features():
    cnn = TextCNN(peers.WORDS, peers.CLASSES, filters=5, widths=(2, 3)).eval()
    batch = peers.batch(specs=peers.WORDS)
    assert cnn(batch).logits.shape == (len(batch), peers.CLASSES)
    assert not torch.allclose(cnn(batch).logits, cnn(batch.without(["face/f@1"])).logits)
