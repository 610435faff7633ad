"""The batched recurrence against the equations, one dialogue and one turn at a time."""

from __future__ import annotations

import pytest
import torch

from mer_agent.models.peers.context import Layout
from mer_agent.models.peers.dialogue_rnn import DialogueStates


def literal(states, turns, speakers):
    """The equations as they stand: a state for each party in a dictionary, a list of global states."""
    zero_party, zero_global = torch.zeros(1, 4), torch.zeros(1, 5)
    parties, history, spoken = {}, [], []
    for turn, speaker in zip(turns.unsqueeze(1), speakers.tolist(), strict=True):
        context = zero_global
        if history:
            scores = torch.stack([(states.match.weight @ turn[0]) @ g[0] for g in history]).softmax(0)
            context = sum(score * g for score, g in zip(scores, history, strict=True))
        before = parties.get(speaker, zero_party)
        history.append(states.global_cell(torch.cat([turn, before], -1), history[-1] if history else zero_global))
        now = states.party_cell(torch.cat([turn, context], -1), before)
        if states.listener_cell is not None:
            for other in {0, 1, 2} - {speaker}:
                heard = torch.cat([turn, now], -1)
                parties[other] = states.listener_cell(heard, parties.get(other, zero_party))
        parties[speaker] = now
        spoken.append(now)
    return states.emotion(torch.stack(spoken, 1))[0][0]


@pytest.mark.parametrize("listener", [False, True])
def test_it_is_the_equations(listener):
    torch.manual_seed(0)
    states = DialogueStates(3, 5, 4, 6, dropout=0.5, listener=listener).eval()
    lengths = [4, 1, 7]
    turns, speakers = torch.randn(sum(lengths), 3), torch.tensor([0, 1, 0, 2, 1, 0, 0, 1, 2, 1, 0, 2])
    layout = Layout.of(torch.repeat_interleave(torch.arange(3), torch.tensor(lengths)))
    found = layout.flat(states(layout.pad(turns), layout.pad(speakers)))
    parts = zip(turns.split(lengths), speakers.split(lengths), strict=True)
    torch.testing.assert_close(found, torch.cat([literal(states, *part) for part in parts]))
