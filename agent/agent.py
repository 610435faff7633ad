"""The agent: sound and pictures -> segments -> utterances -> predictions, as stages of one TaskGroup.

    source --chunks, frames--> cut --utterances--> understand --percepts--> judge --predictions--> publish

Every arrow but the last is a bounded mailbox. Each stage closes the mailbox behind it when it ends, so the end of the
stream runs through the stages, and each drains before the next one ends. A bug in any stage ends them all. What is
guessed while somebody speaks (`provisional`) goes past the mailboxes, and is dropped rather than waited for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, Literal, Protocol

from mer_agent.aligner import Aligner, with_words
from mer_agent.conversation import Conversation
from mer_agent.inference import Inference
from mer_agent.overlap import Floor
from mer_agent.own_speech import OwnSpeech, Said
from mer_agent.percept import Percept
from mer_agent.perception import Cut, Perceived, Perception
from mer_agent.provisional import Provisional
from mer_agent.segmenter import Cutter, Speech
from mer_agent.streams.mailbox import Mailbox, Sink
from mer_agent.streams.types import AudioChunk, Prediction, Segment, Transcript, Utterance, VideoFrame

CAPTURED = 64
"""How many chunks and frames may wait: two seconds of sound."""
UTTERANCES = 8
"""How many utterances may wait between two stages."""

Echo = Literal["attribute", "mute", "hear"]


class Source(Protocol):
    """Fills mailboxes with what it captures, and closes them at its end (`streams.replay`)."""

    async def run(self, audio: Sink[AudioChunk], video: Sink[VideoFrame] | None = None) -> None:
        """Runs until the stream ends, or until somebody closes a mailbox."""
        ...


class Agent:
    """Hears a source and publishes what it finds: the whole path from sound to emotion.

    Args:
        source: what is heard and, where an encoder reads pictures, seen.
        cutter: cuts the sound into segments of speech.
        aligner: makes an utterance of a segment, with the pictures taken while it was spoken.
        perception: finds the words, voice and face of an utterance.
        conversation: everything that the session remembers, and the models that judge.
        inference: where the encoders and the fusion model run.
        publish: takes each final prediction, in the order in which the utterances ended, and each revision.
        look: finds the faces in a picture when it arrives; without it, whole pictures are kept until they are encoded.
        provisional: guesses while an utterance is open; None doesn't.
        over: tells from the words up to a pause, and their sound, whether the sentence is plainly over; the end of the
            utterance is then declared sooner. None never asks, and so never waits for the words.
        own_speech: what the dialogue system says aloud; None: there is none.
        echo: what becomes of an utterance that is the system's own voice.
        tap: takes every chunk and picture before anything is made of it, and gives it on; for a recording or a view.
            While the agent is paused it gets nothing.
    """

    def __init__(
        self,
        source: Source,
        cutter: Cutter,
        aligner: Aligner,
        perception: Perception,
        conversation: Conversation,
        inference: Inference,
        publish: Callable[[Prediction], Awaitable[None]],
        look: Callable[[VideoFrame], Awaitable[VideoFrame]] | None = None,
        provisional: Provisional | None = None,
        over: Callable[[Transcript, Segment], bool] | None = None,
        own_speech: OwnSpeech | None = None,
        echo: Echo = "attribute",
        tap: Callable[[AudioChunk | VideoFrame], AudioChunk | VideoFrame] | None = None,
    ) -> None:
        self._source = source
        self._cutter = cutter
        self._aligner = aligner
        self._perception = perception
        self._conversation = conversation
        self._inference = inference
        self._publish = publish
        self._look = look
        self._provisional = provisional
        self._over = over
        self._own_speech = own_speech
        self._echo: Echo = echo
        self._tap = tap
        self._paused = False
        self._floor = Floor()
        self._numbers = itertools.count(1)
        self._waiting = 0  # utterances that have ended and are not yet judged
        self._open: dict[tuple[str, int], str] = {}  # source and start of an open utterance -> its id
        self._captured = Mailbox[AudioChunk | VideoFrame](CAPTURED, "block", "captured")

    def stop(self) -> None:
        """Hears no more; what was heard already is still judged and published, then `run` returns."""
        self._captured.close()

    def pause(self) -> None:
        """Hears and sees nothing until `resume`; what was said up to here still counts."""
        self._paused = True

    def resume(self) -> None:
        """Hears again."""
        self._paused = False

    async def run(self) -> None:
        """Runs until the source has ended and the last prediction is handed over."""
        cuts = Mailbox[Cut](UTTERANCES, "block", "utterances")
        percepts = Mailbox[Perceived](UTTERANCES, "block", "percepts")
        # One mailbox for sound and pictures keeps them in order of capture, at any speed.
        frames = self._captured if self._conversation.sees or self._tap else None
        async with asyncio.TaskGroup() as stages:
            self._start: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]] = stages.create_task
            stages.create_task(self._source.run(self._captured, frames), name="source")
            stages.create_task(self._cut(cuts), name="cut")
            stages.create_task(self._understand(cuts, percepts), name="understand")
            stages.create_task(self._judge(percepts), name="judge")

    async def _cut(self, cuts: Mailbox[Cut]) -> None:
        """Cuts utterances out of the sound and joins them with the pictures."""
        deaf = False
        async for captured in self._captured:
            if self._paused:
                if not deaf:
                    for segment in self._cutter.finish():
                        await self._follow(Speech("closed", segment), cuts)
                deaf = True
                continue
            deaf = False  # the chunks left out are missed by their numbers, and the stream begins anew
            if self._tap is not None:
                captured = self._tap(captured)
            if isinstance(captured, VideoFrame):
                if self._conversation.sees and self._aligner.wants(captured):
                    self._aligner.see(await self._look(captured) if self._look else captured)
                continue
            self._floor.open(captured.source)
            for speech in self._cutter.follow(captured):
                await self._follow(speech, cuts)
        for segment in self._cutter.finish():
            await self._follow(Speech("closed", segment), cuts)
        cuts.close()

    async def _follow(self, speech: Speech, cuts: Mailbox[Cut]) -> None:
        """Does what the news of an utterance asks for; one that is closed goes on to the next stage."""
        segment = speech.segment
        self._floor.note(speech)
        key = (segment.source, segment.start_ns)
        if speech.stage == "begun":
            self._open[key] = f"u{next(self._numbers):06d}"
        id_ = self._open.get(key) or f"u{next(self._numbers):06d}"
        found = self._perception.drop(segment.source) if speech.stage == "resumed" else None
        if self._provisional is not None:
            match speech.stage:
                case "begun":
                    self._provisional.begin(id_)
                case "paused":
                    self._provisional.pause(id_)
                case "resumed":
                    self._provisional.resume(id_, found)
                case "closed":
                    self._provisional.end(id_)
        if speech.stage in ("begun", "resumed"):
            return
        utterance = self._aligner.utterance(id_, segment)
        cut = Cut(segment, replace(utterance, overlap=self._floor.shared(segment)))
        if speech.stage == "open" and self._provisional is not None:
            self._provisional.look(cut, self._start, busy=self._waiting > 0)
        elif speech.stage == "paused":
            self._perception.begin(cut, self._start)
            if self._over is not None:
                # To wait here costs nothing: the utterance can't be judged before its words are known. And it makes
                # the answer a matter of the sound alone, whatever the speed of the machine.
                transcript = await self._perception.words_ahead(segment.source)
                if transcript is not None and self._over(transcript, segment):
                    self._cutter.over(segment.source)
        elif speech.stage == "closed":
            self._open.pop(key, None)
            self._waiting += 1
            await cuts.put(replace(cut, ahead=self._perception.take(segment)))

    async def _understand(self, cuts: Mailbox[Cut], percepts: Mailbox[Perceived]) -> None:
        """Finds the words and, meanwhile, encodes voice and face."""
        async for cut in cuts:
            await percepts.put(await self._perception.perceive(cut, self._start))
        percepts.close()

    async def _judge(self, percepts: Mailbox[Perceived]) -> None:
        """Grows the graph by one node for each utterance and hands its prediction over."""
        async for perceived in percepts:
            said = await self._system(perceived)
            if said is not None and self._echo == "mute":
                self._waiting -= 1
                continue
            utterance, percept = perceived.utterance, perceived.percept
            if said is not None:
                judging = self._inference.run(self._conversation.echo, utterance, percept, said.speaker)
            else:
                if self._own_speech is not None and self._own_speech.speaks(utterance):
                    utterance = replace(utterance, overlap=True)
                judging = self._inference.run(self._conversation.judge, utterance, percept)
            await self._publish(await judging)
            self._waiting -= 1
            if perceived.late is not None and said is None:
                self._start(self._revise(perceived.utterance, perceived.late))

    async def _system(self, perceived: Perceived) -> Said | None:
        """The dialogue system's turn that was heard; None if it was somebody else, as mostly."""
        if self._own_speech is None or self._echo == "hear" or not self._own_speech.overlaps(perceived.utterance):
            return None
        utterance = perceived.utterance
        if perceived.late is not None:  # the words decide, so here they are worth waiting for
            transcript, _ = await perceived.late
            utterance = replace(utterance, transcript=transcript)
        return self._own_speech.match(utterance)

    async def _revise(self, utterance: Utterance, late: asyncio.Task[tuple[Transcript, float]]) -> None:
        """Judges an utterance again when the words that it had to do without are there."""
        transcript, _ = await late
        heard = await self._inference.run(self._conversation.listen, with_words(utterance, transcript))
        await self.correct(utterance.id, transcript=transcript, heard=heard)

    async def correct(
        self,
        utterance_id: str,
        *,
        transcript: Transcript | None = None,
        speaker: int | None = None,
        heard: Percept | None = None,
    ) -> None:
        """Takes words, a speaker or features that came late, and publishes a revision if that changes anything."""

        def revise() -> Prediction | None:
            return self._conversation.revise(utterance_id, transcript=transcript, speaker=speaker, heard=heard)

        revision = await self._inference.run(revise)
        if revision is not None:
            await self._publish(revision)
