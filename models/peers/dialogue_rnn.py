"""DialogueRNN: a state for the conversation, one for each party, one for the emotion.

Majumder, Poria, Hazarika, Mihalcea, Gelbukh, Cambria: DialogueRNN: An Attentive RNN for Emotion Detection in
Conversations (AAAI 2019), its BiDialogueRNN + Att.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_agent.models.ar_iigcn import Output
from mer_agent.models.batch import Batch, FeatureSpec
from mer_agent.models.peers.context import ContextAttention, Layout, SideBySide


class DialogueStates(nn.Module):
    r"""One direction through D dialogues at once; s is who speaks at t, q_{p,t} the state of party p.

    .. math::
        g_t &= \mathrm{GRU}_G(g_{t-1}, [u_t ; q_{s,t-1}])            & \text{global} \\
        c_t &= \sum_{k<t} a_k g_k, \quad a = \mathrm{softmax}(u_t W_a [g_1 .. g_{t-1}])    & \text{context} \\
        q_{s,t} &= \mathrm{GRU}_P(q_{s,t-1}, [u_t ; c_t])             & \text{speaker} \\
        q_{p,t} &= q_{p,t-1} \quad \text{or} \quad \mathrm{GRU}_L(q_{p,t-1}, [u_t ; q_{s,t}])  & \text{listeners} \\
        e_t &= \mathrm{GRU}_E(e_{t-1}, q_{s,t})                       & \text{emotion}

    All states begin at zero, c_1 is zero. The number of parties is no size of the model: speakers that nobody could
    tell share one party. The paper's listener update (`listener`) reads the listener's picture, which one camera can't
    give; ours reads the utterance and the speaker's state, as the paper's published program does. Backwards, the
    speakers are reversed with the utterances; in that program they are not.

    Shapes: u [D, T, inputs], slots int64 [D, T] -> e [D, T, emotion].
    """

    def __init__(
        self, inputs: int, global_units: int, party_units: int, emotion_units: int, *, dropout: float, listener: bool
    ) -> None:
        super().__init__()
        self.party_units = party_units
        self.match = nn.Linear(inputs, global_units, bias=False)
        self.global_cell = nn.GRUCell(inputs + party_units, global_units)
        self.party_cell = nn.GRUCell(inputs + global_units, party_units)
        self.listener_cell = nn.GRUCell(inputs + party_units, party_units) if listener else None
        self.emotion = nn.GRU(party_units, emotion_units, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, turns: Tensor, slots: Tensor) -> Tensor:
        """Gives the emotion states."""
        many, longest, _ = turns.shape
        parties = turns.new_zeros(many, int(slots.max()) + 1, self.party_units)
        state = context = turns.new_zeros(many, self.global_cell.hidden_size)
        speaks = nn.functional.one_hot(slots, parties.shape[1]).bool().unsqueeze(-1)  # [D, T, P, 1]
        asks, here = self.match(turns), torch.arange(many, device=turns.device)
        history: list[Tensor] = []
        spoken: list[Tensor] = []
        for t in range(longest):
            turn, before = turns[:, t], parties[here, slots[:, t]]
            if history:
                past = torch.stack(history, 1)  # [D, t, global]
                context = ((past @ asks[:, t].unsqueeze(-1)).softmax(1) * past).sum(1)
            state = self.dropout(self.global_cell(torch.cat([turn, before], -1), state))
            speaker = self.dropout(self.party_cell(torch.cat([turn, context], -1), before))
            if self.listener_cell is not None:
                heard = torch.cat([turn, speaker], -1).unsqueeze(1).expand(-1, parties.shape[1], -1)
                parties = self.listener_cell(heard.flatten(0, 1), parties.flatten(0, 1)).view_as(parties)
            parties = torch.where(speaks[:, t], speaker.unsqueeze(1), parties)
            history.append(state)
            spoken.append(speaker)
        states: Tensor = self.emotion(torch.stack(spoken, 1))[0]
        return states


class DialogueRNN(nn.Module):
    """Both directions, emotion attention over the dialogue, a ReLU layer and the decision.

    `causal` leaves out the backward direction and lets the attention look back only; it is the paper's
    DialogueRNN + Att, read over the past. Features stand side by side, zeros where absent, as in the paper's multimodal
    setting. Sizes are those of the paper's published program.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: int,
        global_units: int = 150,
        party_units: int = 150,
        emotion_units: int = 100,
        hidden: int = 100,
        dropout: float = 0.3,
        listener: bool = False,
        attention: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.inputs = SideBySide(specs)
        sizes = (self.inputs.dimension, global_units, party_units, emotion_units)
        ways = 1 if causal else 2
        self.directions = nn.ModuleList(DialogueStates(*sizes, dropout=dropout, listener=listener) for _ in range(ways))
        self.attention = ContextAttention(ways * emotion_units, causal=causal) if attention else None
        self.hidden = nn.Linear(ways * emotion_units, hidden)
        self.decide = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Buffer(torch.ones(()))

    def forward(self, batch: Batch) -> Output:
        """Gives the logits [N, C] of every utterance of the batch's dialogues."""
        layout = Layout.of(batch.dialogue)
        turns = self.dropout(self.inputs(batch))
        slots = batch.speakers.masked_fill(batch.speakers < 0, int(batch.speakers.max().clamp_min(-1)) + 1)
        parts = []
        for order, direction in zip((layout, layout.backwards()), self.directions, strict=False):
            parts.append(order.flat(direction(order.pad(turns), order.pad(slots))))
        states = self.dropout(torch.cat(parts, -1))
        if self.attention is not None:
            states = self.attention(states, layout)
        logits = self.decide(self.dropout(torch.relu(self.hidden(states))))
        return Output(logits / self.temperature)
