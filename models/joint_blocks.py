"""The middle of joint-vector fusion: a block that lets two transformers speak by a few joint vectors, and its rivals.

All take and give two sequences, of the m->t side and of the t->m side; see `models.joint_fusion`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_agent.models.layers import Dropout


@dataclass(frozen=True, slots=True)
class Steps:
    """A sequence for each of N utterances: states [N, L, d], and which steps are there, bool [N, L]."""

    states: Tensor
    there: Tensor

    def joined(self, vectors: Tensor) -> Steps:
        """Gives the sequence with vectors [N, J, d], all there, at its end."""
        there = self.there.new_ones(vectors.shape[:2])
        return Steps(torch.cat([self.states, vectors], 1), torch.cat([self.there, there], 1))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a transformer layer: width of a step, heads, width of its feed-forward part, dropout."""

    dimension: int
    heads: int
    hidden: int
    dropout: float


def language_layer(sizes: Sizes) -> nn.TransformerEncoderLayer:
    """Gives a layer in the manner of BERT, RoBERTa and MPNet: normalised after each part."""
    return _layer(sizes, before=False)


def visual_layer(sizes: Sizes) -> nn.TransformerEncoderLayer:
    """Gives a layer in the manner of ViT and AST: normalised before each part."""
    return _layer(sizes, before=True)


def _layer(sizes: Sizes, *, before: bool) -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(
        sizes.dimension, sizes.heads, sizes.hidden, sizes.dropout, "gelu", batch_first=True, norm_first=before
    )
    layer.self_attn.dropout = 0.0  # to drop weights, too, would take as long as the attention itself
    layer.dropout, layer.dropout1, layer.dropout2 = (Dropout(sizes.dropout) for _ in range(3))
    return layer


def through(layer: nn.Module, steps: Steps) -> Steps:
    """Gives the sequence after a layer; what is not there is not looked at."""
    return Steps(layer(steps.states, src_key_padding_mask=~steps.there), steps.there)


class JointBlock(nn.Module):
    r"""One block of joint-based fusion, eq. 1-4 ($\oplus$ joins along the sequence).

    .. math::
        (\hat F_{mt} \oplus \hat v) &= \mathrm{VTrans}(F_{mt} \oplus v) \qquad
        (F_{mt}^{+} \oplus V) = \mathrm{LTrans}(F_{tm} \oplus \mathrm{MLP}(\hat v)) \\
        (\hat F_{tm} \oplus \hat v') &= \mathrm{LTrans}'(F_{tm} \oplus v') \qquad
        (F_{tm}^{+} \oplus V') = \mathrm{VTrans}'(F_{mt} \oplus \mathrm{MLP}'(\hat v'))

    As printed, the sides change places: after a block the m->t side has the steps of what was the t->m side, and the
    first passes leave nothing behind but their joint vectors. V and V' are dropped.

    Args:
        sizes: of the layers.
        vectors: length of each joint vector; 0 leaves them out (the ablation without v): then nothing passes over.
        tied: LTrans' and VTrans' are LTrans and VTrans themselves; False: they only start alike. The paper's "share the
            same pre-trained weights" can mean either.
    """

    def __init__(self, sizes: Sizes, *, vectors: int = 4, tied: bool = True) -> None:
        super().__init__()
        self.visual, self.language = visual_layer(sizes), language_layer(sizes)
        self.visual_back = None if tied else copy.deepcopy(self.visual)
        self.language_back = None if tied else copy.deepcopy(self.language)
        self.vector = nn.Parameter(torch.randn(vectors, sizes.dimension) * 0.02)
        self.vector_back = nn.Parameter(torch.randn(vectors, sizes.dimension) * 0.02)
        self.to_language, self.to_visual = _mlp(sizes.dimension), _mlp(sizes.dimension)

    def forward(self, mt: Steps, tm: Steps) -> tuple[Steps, Steps]:
        """Gives both sides' sequences for the next block."""
        visual_back, language_back = self.visual_back or self.visual, self.language_back or self.language
        return (
            self._side(self.vector, self.visual, mt, self.to_language, self.language, tm),
            self._side(self.vector_back, language_back, tm, self.to_visual, visual_back, mt),
        )

    def _side(
        self, vector: Tensor, first: nn.Module, source: Steps, mlp: nn.Module, second: nn.Module, target: Steps
    ) -> Steps:
        count = len(vector)
        if count == 0:
            return through(second, target)
        joint = through(first, source.joined(vector.expand(len(source.states), -1, -1))).states[:, -count:]
        whole = through(second, target.joined(mlp(joint)))
        return Steps(whole.states[:, :-count], target.there)


class Apart(nn.Module):
    """What takes the place of the joint blocks without them: text as it is, `blocks` visual layers for the mel side."""

    def __init__(self, sizes: Sizes, blocks: int) -> None:
        super().__init__()
        self.visual = nn.ModuleList(visual_layer(sizes) for _ in range(blocks))

    def forward(self, mt: Steps, tm: Steps) -> tuple[Steps, Steps]:
        """Gives both sequences; neither knows of the other."""
        for layer in self.visual:
            mt = through(layer, mt)
        return mt, tm


class CrossAttention(nn.Module):
    r"""Cross-modal fusion attention: `Apart`, then each side asks the other.

    .. math:: F_a' = \mathrm{LN}(z + \mathrm{FFN}(z)), \quad z = \mathrm{LN}(F_a + \mathrm{Attention}(F_a, F_b, F_b))

    Zhao, Li, Zhang: Speaker-aware Cross-modal Fusion Architecture for Conversational Emotion Recognition (Interspeech
    2023), without its speaker part.
    """

    def __init__(self, sizes: Sizes, blocks: int) -> None:
        super().__init__()
        self.apart = Apart(sizes, blocks)
        self.ask = nn.ModuleList(
            nn.MultiheadAttention(sizes.dimension, sizes.heads, batch_first=True) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(sizes.dimension) for _ in range(4))
        self.forwards = nn.ModuleList(
            nn.Sequential(
                nn.Linear(sizes.dimension, sizes.hidden),
                nn.GELU(),
                Dropout(sizes.dropout),
                nn.Linear(sizes.hidden, sizes.dimension),
            )
            for _ in range(2)
        )

    def forward(self, mt: Steps, tm: Steps) -> tuple[Steps, Steps]:
        """Gives both sequences, each after a look at the other."""
        mt, tm = self.apart(mt, tm)
        return self._asks(0, mt, tm), self._asks(1, tm, mt)

    def _asks(self, side: int, own: Steps, other: Steps) -> Steps:
        heard, _ = self.ask[side](
            own.states, other.states, other.states, key_padding_mask=~other.there, need_weights=False
        )
        state = self.norms[2 * side](own.states + heard)
        return Steps(self.norms[2 * side + 1](state + self.forwards[side](state)), own.there)


class Single(nn.Module):
    """What is left of the blocks for one modality: its transformer layers, one after the other."""

    def __init__(self, layers: list[nn.TransformerEncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, steps: Steps) -> Steps:
        """Gives the sequence after all layers."""
        for layer in self.layers:
            steps = through(layer, steps)
        return steps


def _mlp(dimension: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dimension, dimension), nn.GELU(), nn.Linear(dimension, dimension))
