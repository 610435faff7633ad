"""The emotion while it is spoken: guesses from what is there, published when they have moved; never after the end.

A guess leaves no trace in the conversation. It takes the models only when nothing else wants them: it is skipped while
another guess is under way, while an utterance that has ended waits for its judgement, and in a pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from mer_agent.aligner import with_words
from mer_agent.conversation import Conversation
from mer_agent.inference import Inference
from mer_agent.perception import Cut
from mer_agent.streams.partial_words import PartialWords
from mer_agent.streams.types import Prediction, Segment, Transcript


class Provisional:
    """Guesses the emotions of open utterances.

    Args:
        conversation: judges, without remembering.
        inference: where it does.
        publish: takes each guess that is worth it.
        threshold: how far the distribution must have moved (total variation, 0..1) since the last published guess.
        words: finds the words so far; None does without.

    Attributes:
        skipped: guesses that were due while the models were busy.
        unmoved: guesses that were like the one before.
    """

    def __init__(
        self,
        conversation: Conversation,
        inference: Inference,
        publish: Callable[[Prediction], Awaitable[None]],
        *,
        threshold: float = 0.1,
        words: PartialWords | None = None,
    ) -> None:
        self._conversation = conversation
        self._inference = inference
        self._publish = publish
        self._threshold = threshold
        self._words = words
        self._published: dict[str, Mapping[str, float]] = {}  # open utterance -> its last guess
        self._guessing: asyncio.Task[None] | None = None
        self._paused: set[str] = set()
        self.skipped = self.unmoved = 0

    def begin(self, utterance_id: str) -> None:
        """Says that an utterance is open."""
        self._published[utterance_id] = {}

    def pause(self, utterance_id: str) -> None:
        """Says that it may be over: its final prediction comes first."""
        self._paused.add(utterance_id)

    def resume(self, utterance_id: str, found: tuple[Segment, Transcript] | None) -> None:
        """Says that it goes on; what was said up to the pause, if that was found, is known for the next guess."""
        self._paused.discard(utterance_id)
        if self._words is not None and found is not None:
            self._words.found(utterance_id, *found)

    def end(self, utterance_id: str) -> None:
        """Says that it is over; no more guesses."""
        self._published.pop(utterance_id, None)
        self._paused.discard(utterance_id)

    def look(
        self, cut: Cut, start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]], *, busy: bool = False
    ) -> None:
        """Guesses the emotion of an open utterance as it is now, in a task of `start`, unless something is `busy`."""
        if busy or (self._guessing is not None and not self._guessing.done()):
            self.skipped += 1
            return
        if self._words is not None:
            transcript = self._words.follow(cut.utterance.id, cut.segment, start)
            if transcript is not None:
                cut = replace(cut, utterance=with_words(cut.utterance, transcript))
        self._guessing = start(self._guess(cut))

    async def _guess(self, cut: Cut) -> None:
        utterance = cut.utterance
        heard = await self._inference.run(self._conversation.hear, utterance)
        if not self._wanted(utterance.id):
            return
        guess = await self._inference.run(self._conversation.preview, utterance, heard)
        if not self._wanted(utterance.id) or not guess.distribution:
            return
        if _moved(self._published[utterance.id], guess.distribution) < self._threshold:
            self.unmoved += 1
            return
        self._published[utterance.id] = guess.distribution
        await self._publish(guess)

    def _wanted(self, utterance_id: str) -> bool:
        return utterance_id in self._published and utterance_id not in self._paused


def _moved(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Total variation between two distributions, 0..1; 1 if there was none before."""
    return sum(abs(p - before.get(label, 0.0)) for label, p in now.items()) / 2 if before else 1.0
