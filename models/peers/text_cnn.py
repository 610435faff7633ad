"""TextCNN: filters over the words of one utterance, the strongest answer of each, a decision.

Kim: Convolutional Neural Networks for Sentence Classification (EMNLP 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_agent.encoders.words import BUCKETS
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.peers.context import SideBySide

WORDS = "text/words@"
"""How the feature that holds words begins; its numbers are buckets of words, not measurements."""


class TextCNN(nn.Module):
    r"""An utterance of n words with vectors w_1 .. w_n, filters of widths k.

    .. math::
        c_i = \mathrm{ReLU}(F_k [w_i ; .. ; w_{i+k-1}] + b_k) \qquad \hat{c} = \max_i c_i \qquad
        y = \mathrm{softmax}(W [\hat{c} ; \text{other features}] + b)

    Each utterance stands alone, so the model is causal as it is; `causal` is there for the common interface and
    changes nothing. As many zeros as a filter is wide stand before and behind the words, so that each sentence has a
    window of silence, however long the ones beside it are.

    With `text/words@1` this is the paper's CNN-rand: word vectors begin at random and are learned. Without it there
    are no words to slide over: each text feature is then read as a sentence of a single word, with the zeros around it
    and a filter becomes the largest of k linear maps and its bias (maxout). That is the same formula but
    hardly the same model: say `words` or `vector` when reporting it. Other features stand beside the filters' answers;
    the paper had text alone, and so has this model when it gets no others.
    Shapes: text [N, words] or [N, dimension] -> [N, C].
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        filters: int = 100,
        widths: Sequence[int] = (3, 4, 5),
        embedding: int = 128,
        dropout: float = 0.5,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.words = next((spec.id for spec in specs if spec.id.startswith(WORDS)), None)
        sentence = [spec for spec in specs if spec.modality == "text" and spec.id != self.words]
        beside = [spec for spec in specs if spec.modality != "text"]
        if self.words is not None:
            beside = sentence + beside
            self.embed: nn.Module = nn.Embedding(BUCKETS + 1, embedding, padding_idx=0)
        else:
            self.embed = SideBySide(sentence)
            embedding = self.embed.dimension
        self.beside = SideBySide(beside) if beside else None
        reads = self.words is not None or bool(sentence)
        self.filters = nn.ModuleList(nn.Conv1d(embedding, filters, width, padding=width) for width in widths if reads)
        self.dropout = nn.Dropout(dropout)
        self.decide = nn.Linear(filters * len(self.filters) + sum(spec.dimension for spec in beside), classes)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance."""
        parts: list[Tensor] = []
        if self.filters:
            sentence = self._sentence(batch)  # [N, embedding, words]
            parts += [torch.relu(conv(sentence)).amax(-1) for conv in self.filters]
        if self.beside is not None:
            parts.append(self.beside(batch))
        logits: Tensor = self.decide(self.dropout(torch.cat(parts, -1)))
        return Output(logits / self.temperature)

    def _sentence(self, batch: Batch) -> Tensor:
        """Gives the word vectors, zeros behind the last one of each sentence."""
        if self.words is None:
            rows: Tensor = self.embed(batch).unsqueeze(-1)
        else:
            buckets = batch.features[self.words].long() * batch.present[self.words].unsqueeze(-1)
            longest = max(int((buckets > 0).sum(-1).max()), 1)
            rows = self.embed(buckets[:, :longest]).transpose(1, 2)
        return rows
