"""C-MFN: a memory that watches what the modalities remember, filled from the context before the utterance begins.

Hasan, Rahman, Zadeh, Zhong, Tanveer, Morency, Hoque: UR-FUNNY: A Multimodal Language Dataset for Understanding Humor
(EMNLP 2019), on the memory fusion network of Zadeh, Liang, Mazumder, Poria, Cambria, Morency (AAAI 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_agent.models.adversarial import Generators
from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.layers import SeparateSpace
from mer_agent.streams.types import MODALITIES, Modality


class CMFN(nn.Module):
    r"""Context networks of each modality and of all, then a step of the memory fusion network, decision.

    With x_m the utterance's vector of modality m, X_m those of the `context` utterances before it (zeros where there
    are fewer), K of them, and X all modalities' side by side:

    .. math::
        (h_m^0, c_m^0) &= D_m(X_m) & \text{unimodal context} \\
        u^0 &= D_u(\mathrm{Transformer}(X)) & \text{multimodal context} \\
        (h_m, c_m) &= \mathrm{LSTM}_m(x_m, (h_m^0, c_m^0)) & [N, \text{units}] \\
        \hat{c} &= \mathrm{softmax}(A(c))\, c, \quad c = [c_1^0 ; c_1 ; .. ; c_M^0 ; c_M] & \text{attention} \\
        u &= \sigma(R(\hat{c}))\, u^0 + \sigma(U(\hat{c})) \tanh(V(\hat{c})) & \text{gated memory} \\
        y &= \mathrm{softmax}(W_2 \mathrm{ReLU}(W_1 [h_1 ; .. ; h_M ; u]))

    The paper's LSTMs run over the words of a sentence; features are one vector for each utterance here, so that its
    sentence encoder is a separate space (AR-IIGCN, eq. 1) and the memory takes a single step. It looks back only;
    `causal` is there for the common interface. `Output.spaces` and `Output.states` are x and h [N, M, .], so that
    AR-IIGCN's losses can be put on top of it, and with `generators` its adversarial stage.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        dimension: int = 64,
        units: int = 64,
        memory: int = 64,
        context: int = 5,
        heads: int = 4,
        dropout: float = 0.4,
        input_dropout: float = 0.2,
        causal: bool = True,
        generators: bool = False,
    ) -> None:
        super().__init__()
        self.specs, self.context = tuple(specs), context
        self.modalities: tuple[Modality, ...] = tuple(m for m in MODALITIES if any(s.modality == m for s in specs))
        count = len(self.modalities)
        self.spaces = nn.ModuleList(
            SeparateSpace(
                [s for s in specs if s.modality == m], dimension, dropout=dropout, input_dropout=input_dropout
            )
            for m in self.modalities
        )
        self.unimodal = nn.ModuleList(nn.Linear(context * dimension, 2 * units) for _ in self.modalities)
        self.reader = nn.TransformerEncoderLayer(
            count * dimension, heads, 2 * count * dimension, dropout, batch_first=True, norm_first=True
        )
        self.multimodal = nn.Linear(context * count * dimension, memory)
        self.cells = nn.ModuleList(nn.LSTMCell(dimension, units) for _ in self.modalities)
        watched = 2 * count * units
        self.attend = nn.Linear(watched, watched)
        self.retain, self.update, self.propose = (nn.Linear(watched, memory) for _ in range(3))
        self.hidden = nn.Linear(count * units + memory, units)
        self.decide = nn.Linear(units, classes)
        self.dropout = nn.Dropout(dropout)
        self.generators: Generators | None = None
        if generators and count > 1:
            self.generators = Generators(count, dimension, dimension)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        spaces = torch.stack([space(batch.features, batch.present) for space in self.spaces], 1)  # [N, M, d]
        before, there = self._before(spaces, batch.dialogue)  # [N, K, M, d], [N, K]
        seen = self.dropout(before)
        pairs = [
            torch.tanh(summarise(seen[:, :, m].flatten(1))).chunk(2, -1) for m, summarise in enumerate(self.unimodal)
        ]
        told = self.reader(before.flatten(2), src_key_padding_mask=~there & there.any(1, keepdim=True))
        u = torch.tanh(self.multimodal((told * there.unsqueeze(-1)).flatten(1)))
        states, watched = [], []
        for m, (cell, (h, c)) in enumerate(zip(self.cells, pairs, strict=True)):
            state, remembered = cell(spaces[:, m], (h, c))
            states.append(state)
            watched += [c, remembered]
        memories = torch.cat(watched, -1)
        attended = self.attend(memories).softmax(-1) * memories
        u = torch.sigmoid(self.retain(attended)) * u + torch.sigmoid(self.update(attended)) * torch.tanh(
            self.propose(attended)
        )
        hidden = torch.relu(self.hidden(self.dropout(torch.cat([*states, u], -1))))
        logits = self.decide(self.dropout(hidden)) / self.temperature
        return Output(logits, spaces=spaces, states=torch.stack(states, 1))

    def _before(self, spaces: Tensor, dialogue: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the vectors of the utterances before each, the nearest first, and which of them there are."""
        place = torch.arange(len(dialogue), device=dialogue.device).unsqueeze(1)
        source = place - torch.arange(1, self.context + 1, device=dialogue.device)  # [N, K]
        there = (source >= 0) & (dialogue[source.clamp_min(0)] == dialogue.unsqueeze(1))
        picked = spaces[source.clamp_min(0)]
        return picked.masked_fill(~there[..., None, None], 0.0), there
