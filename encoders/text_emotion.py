"""Words and the turns before them to a vector that knows emotion: the adapted sentence encoder.

`text/mpnet-emotion@2` is the mean state of the utterance's own tokens after the last layer of all-mpnet-base-v2, with
adapters that were trained on IEMOCAP and MELD (`models.perception.train_text`), as written and as a recogniser would
have written them; those of `@1`, which the bench's models read, know written words alone. The past is read along
(`encoders.turns`): as many whole turns as the token budget holds. The base comes from the catalogue, the adapters are
part of the package.

Several adapters are shipped, each trained without another part of the training dialogues, and their mean is what runs:
one network that costs what the base does. A model that learns from the same dialogues must not read them through an
adapter that knows their labels; for that, `without` takes the one adapter that never saw a given part.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mer_agent.encoders import lora, shipped, turns, weights
from mer_agent.encoders.place import Place, Precision
from mer_agent.encoders.text import load_model
from mer_agent.errors import WeightsError
from mer_agent.streams.types import Modality, Transcript, Turn, Utterance

WRITTEN, HEARD = "text/mpnet-emotion@1", "text/mpnet-emotion@2"
NAMES = {WRITTEN: "text-written", HEARD: "text"}
"""Feature id -> name of the shipped weights."""

_REMEMBERED = 64
"""Turns whose lower states are kept: a turn is read again as the past of the ten after it."""


class TextEmotionEncoder:
    """Gives the 768-d state of what was said, in the light of what was said before; None where no word is known.

    Args:
        device: `auto` (a GPU if there is one), a torch device, or a `Place`, which has its own precision.
        precision: `bfloat16` is three times as fast on processors that have it in hardware, and a little coarser.
        feature: which adapters, one of `NAMES`.
        without: the part of the training dialogues that the adapter must not have seen; None for the mean of all.
        base: the folder of the base; the catalogue's own if not given.
        trained: the folder of the adapters; the package's own if not given.

    Raises:
        WeightsError: the base has not been pulled, or something is unreadable or doesn't fit.
    """

    modality: Modality = "text"
    languages = ("en",)

    def __init__(
        self,
        device: str | Place = "auto",
        *,
        precision: Precision = "float32",
        feature: str = HEARD,
        without: int | None = None,
        base: Path | None = None,
        trained: Path = shipped.FOLDER,
    ) -> None:
        self.feature = feature
        state, card = shipped.load(NAMES[feature], trained)
        if card.feature != self.feature:
            raise WeightsError(f"the weights in {trained} make {card.feature}, not {self.feature}: install them again")
        network, tokenizer, self._pad = load_model(weights.path("mpnet") if base is None else base, torch.device("cpu"))
        own = parts(state, without)
        for adapters in own:
            lora.merge(network, adapters, 1 / len(own))
        self._words = turns.Words(tokenizer)
        self.dimension = int(network.config.hidden_size)
        place = Place.of(device, precision)
        self._network = network.to(place.device, place.dtype)
        self._speakers = place.put(torch.stack([adapters["speakers"].float() for adapters in own]).mean(0))
        self._recent: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    @torch.inference_mode()
    def encode(self, utterances: Sequence[Utterance], past_turns: Sequence[Sequence[Turn]] = ()) -> list[Tensor | None]:
        """Gives [768] float32 on the CPU for each utterance, None where it has no known word.

        `past_turns` holds the turns before each utterance, oldest first; without any, the utterance is read alone.
        """
        vectors: list[Tensor | None] = [None] * len(utterances)
        spoken, rows, marks = [], [], []
        for at, utterance in enumerate(utterances):
            said = self._window(utterance, past_turns[at] if past_turns else ())
            if said:
                spoken.append(at)
                rows.append([tokens for _, tokens in said])
                marks.append(torch.tensor(turns.marks([speaker for speaker, _ in said])))
        if not spoken:
            return vectors
        alone = self._alone([turn for row in rows for turn in row])
        places = torch.nn.utils.rnn.pad_sequence(marks, batch_first=True, padding_value=-1)
        states = turns.together(
            self._network,
            [[alone[turn] for turn in row] for row in rows],
            self._speakers,
            places.to(self._speakers.device),
        )
        last = torch.tensor([len(row) - 1 for row in rows])
        for at, vector in zip(spoken, states[torch.arange(len(rows)), last].float().cpu(), strict=True):
            vectors[at] = vector.clone()  # or each would keep the whole batch alive
        return vectors

    @torch.inference_mode()
    def encode_dialogue(self, said: Sequence[Turn]) -> list[Tensor | None]:
        """Gives the vector of each turn of a dialogue with the turns before it as its past.

        The numbers are those of `encode`, but turns whose past begins at the same turn are read at once: nobody sees a
        later turn, so it makes no difference to them. Short dialogues cost a tenth.
        """
        vectors: list[Tensor | None] = [None] * len(said)
        groups: dict[int, list[int]] = {}
        windows = {}
        for at, turn in enumerate(said):
            begin = max(0, at - turns.PAST_TURNS)
            utterance = Utterance("", turn.speaker, 0, 1, transcript=Transcript(turn.text))
            if window := self._window(utterance, said[begin:at]):
                windows[at] = window
                # The past is a run of turns that ends here; those without a word are none of it.
                groups.setdefault(self._spoken_before(said, at) - len(window) + 1, []).append(at)
        for own in groups.values():
            row = windows[own[-1]]
            alone = self._alone([tokens for _, tokens in row])
            states = turns.together(
                self._network,
                [[alone[tokens] for _, tokens in row]],
                self._speakers,
                torch.tensor([turns.marks([speaker for speaker, _ in row])]).to(self._speakers.device),
            )[0]
            for at in own:
                vectors[at] = states[len(windows[at]) - 1].float().cpu().clone()
        return vectors

    @torch.inference_mode()
    def lower(self, utterances: Sequence[Utterance]) -> list[Tensor | None]:
        """Gives the mean state after the lower layers, of unit length, [768] float32 on the CPU; None as `encode`."""
        said = [tuple(self._words(utterance.text.strip())) for utterance in utterances]
        alone = self._alone([tokens for tokens in said if tokens])
        means = {tokens: functional.normalize(states.float().mean(0), dim=-1).cpu() for tokens, states in alone.items()}
        return [means[tokens].clone() if tokens else None for tokens in said]

    def forget(self) -> None:
        """Forgets the turns that were read."""
        self._recent.clear()

    def _spoken_before(self, said: Sequence[Turn], at: int) -> int:
        """How many turns with a known word there are before this one."""
        return sum(bool(self._words(turn.text.strip())) for turn in said[:at])

    def _window(self, utterance: Utterance, past: Sequence[Turn]) -> list[tuple[int | None, tuple[int, ...]]]:
        """Gives speaker and tokens of the turns that are read, oldest first; [] if nothing was said."""
        own = self._words(utterance.text.strip())
        if not own:
            return []
        kept = [(utterance.speaker, tuple(own))]
        left = turns.TOKEN_BUDGET - len(own)
        for turn in list(past)[: -turns.PAST_TURNS - 1 : -1]:
            tokens = self._words(turn.text.strip())
            left -= len(tokens)
            if left < 0:
                break
            if tokens:
                kept.append((turn.speaker, tuple(tokens)))
        return kept[::-1]

    def _alone(self, said: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
        """Gives the lower states of these turns, those that were read lately from memory."""
        found = {turn: self._recent[turn] for turn in said if turn in self._recent}
        new = sorted({turn for turn in said if turn not in found}, key=len)
        if new:
            states = turns.alone(self._network, new, self._pad)
            found |= {turn: own.clone() for turn, own in zip(new, states, strict=True)}
        for turn in said:
            self._recent[turn] = found[turn]
            self._recent.move_to_end(turn)
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        return found


def shared(device: str | Place = "auto", feature: str = HEARD) -> TextEmotionEncoder:
    """Gives the one encoder of the shipped adapters that features share, so that words are read once for all.

    Raises:
        WeightsError: the base has not been pulled, or something is unreadable or doesn't fit.
    """
    return _shared(Place.of(device), feature, weights.path("mpnet"), shipped.FOLDER)


@functools.cache
def _shared(place: Place, feature: str, base: Path, trained: Path) -> TextEmotionEncoder:
    return TextEmotionEncoder(place, feature=feature, base=base, trained=trained)


def parts(state: Mapping[str, Tensor], without: int | None) -> list[dict[str, Tensor]]:
    """Gives the adapters in what was shipped, their tensors by name; one only if `without` is given.

    They come in order: a file's tensors don't, and what is added up in another order is another number.

    Raises:
        WeightsError: there is no adapter that left this part out.
    """
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in sorted(state.items()):
        part, _, name = key.partition(".")
        found.setdefault(int(part), {})[name] = value
    if without is None:
        return list(found.values())
    if without not in found:
        raise WeightsError(f"no adapter was trained without part {without}: there are {len(found)}")
    return [found[without]]
