"""`EmotionStream` for programs without asyncio: the same, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from mer_agent.client.emotion_stream import MOOD_S, EmotionStream
from mer_agent.client.mood import Mood
from mer_agent.wire.contract import AnswerMessage, CommandName
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.schema import EmotionMessage, StatusMessage

Result = TypeVar("Result")


class SyncEmotionStream:
    """Emotions as they arrive; use it in a `with` block, and iterate or ask for the `latest`.

    Args:
        url: `mqtt://HOST:PORT`, `mqtts://HOST:PORT`, or an `Endpoint`.
        **options: those of `EmotionStream`.
    """

    def __init__(self, url: str | Endpoint, **options: Any) -> None:
        self._stream = EmotionStream(url, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="emotions", daemon=True)

    def __enter__(self) -> Self:
        """Connects.

        Raises:
            BrokerError: the broker can't be reached.
        """
        self._thread.start()
        try:
            self._do(self._stream.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnects."""
        try:
            self._do(self._stream.__aexit__(kind, error, trace))
        finally:
            self._end()

    def __iter__(self) -> Iterator[EmotionMessage]:
        while True:
            emotion = self.next()
            assert emotion is not None  # noqa: S101  # without a time limit there is always one
            yield emotion

    @property
    def statuses(self) -> dict[str, StatusMessage]:
        """The newest status of each agent."""
        return dict(self._stream.statuses)

    def next(self, timeout_s: float | None = None) -> EmotionMessage | None:
        """The next emotion; None: there was none within the time.

        Raises:
            BrokerError: a lost broker wasn't back within `patience_s`.
        """
        return self._do(self._next(timeout_s))

    def latest(self, speaker: str | None = None) -> EmotionMessage | None:
        """See `EmotionStream.latest`."""

        async def latest() -> EmotionMessage | None:
            return self._stream.latest(speaker)

        return self._do(latest())

    def mood(self, speaker: str | None = None, seconds: float = MOOD_S) -> Mood | None:
        """See `EmotionStream.mood`."""

        async def mood() -> Mood | None:
            return self._stream.mood(speaker, seconds)

        return self._do(mood())

    def send_turn(self, text: str, **options: Any) -> str:
        """See `EmotionStream.send_turn`."""
        return self._do(self._stream.send_turn(text, **options))

    def command(self, command: CommandName, *, speaker: str | None = None, name: str | None = None) -> AnswerMessage:
        """See `EmotionStream.command`."""
        return self._do(self._stream.command(command, speaker=speaker, name=name))

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("use it in a `with` block")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # after Ctrl-C nobody waits for it any more
            raise

    async def _next(self, timeout_s: float | None) -> EmotionMessage | None:
        try:
            async with asyncio.timeout(timeout_s):
                while not isinstance(message := await self._stream.next_event(), EmotionMessage):
                    pass
                return message
        except TimeoutError:
            return None

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
