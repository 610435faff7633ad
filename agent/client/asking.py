"""How a dialogue system gets an answer: a turn or a command goes out, and again until the agent has answered.

The agent knows the same id again, so that asking twice does nothing twice. Whom to ask stands in the retained status.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from mer_agent.errors import AnswerError, BrokerError, ConfigError, RefusedError
from mer_agent.wire.connection import Connection, Details
from mer_agent.wire.contract import AnswerMessage, CommandMessage, TurnMessage
from mer_agent.wire.schema import StatusMessage, Topics, matches

AGAIN_S = 0.5
"""Without an answer for so long, and then twice as long, the question is sent again: the agent may just have found the
broker again."""


class Asker:
    """Asks one agent; the reader of the connection tells it what arrives.

    Args:
        topics: of the agent and the session to ask; `+` for either means the only one that is there.
        answer_s: how long to wait for an answer.
    """

    def __init__(self, topics: Topics, answer_s: float) -> None:
        self._topics = topics
        self._answer_s = answer_s
        self._name = f"bot-{secrets.token_hex(4)}"
        self._waiting: dict[str, asyncio.Future[AnswerMessage]] = {}
        self._connection: Connection | None = None
        self._asked_for: set[str] = set()
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()

    def new_id(self) -> str:
        """An id that no turn and no command had before."""
        return secrets.token_hex(8)

    @contextlib.asynccontextmanager
    async def using(self, connection: Connection) -> AsyncIterator[None]:
        """Asks by this connection inside the block."""
        self._connection, self._asked_for = connection, set()
        self.look_again()
        try:
            yield
        finally:
            self._connection = None

    def expects(self, topic: str) -> bool:
        """Whether answers come on this topic."""
        return any(matches(pattern, topic) for pattern in self._asked_for)

    def hear(self, answer: AnswerMessage) -> None:
        """Takes an answer, somebody else's too."""
        waiting = self._waiting.get(answer.id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def look_again(self) -> None:
        """A status has changed, or the connection."""
        self._changed.set()

    async def ask(self, message: TurnMessage | CommandMessage, statuses: Mapping[str, StatusMessage]) -> AnswerMessage:
        """Sends it until it is answered.

        Raises:
            AnswerError: the agent refuses, or there is no answer in time.
            ConfigError: several agents are there, and none was named.
        """
        assert message.id is not None  # noqa: S101  # see new_id
        answered: asyncio.Future[AnswerMessage] = asyncio.get_running_loop().create_future()
        if message.id in self._waiting:
            raise ConfigError("that id is being asked already; wait for its answer")
        self._waiting[message.id] = answered
        again_s, trouble = AGAIN_S, "no agent is ready"
        try:
            async with asyncio.timeout(self._answer_s):
                while True:
                    self._changed.clear()
                    topics, connection = self._addressee(statuses), self._connection
                    if topics is None or connection is None:
                        trouble = "no agent is ready" if connection else "the broker is away"
                        await self._changed.wait()
                        continue
                    trouble = "the agent doesn't answer; may this client write turns and commands there?"
                    with contextlib.suppress(BrokerError):
                        await self._send(connection, message, topics)
                    done, _ = await asyncio.wait({answered}, timeout=again_s)
                    if done:
                        break
                    again_s *= 2
        except TimeoutError:
            raise AnswerError(f"no answer within {self._answer_s:g} s: {trouble}") from None
        finally:
            del self._waiting[message.id]
        answer = answered.result()
        if not answer.ok:
            raise AnswerError(f"the agent refused: {answer.reason}")
        return answer

    def _addressee(self, statuses: Mapping[str, StatusMessage]) -> Topics | None:
        """The agent to ask, and its session, as soon as it is ready."""
        there = [
            Topics(status.agent, status.session, self._topics.prefix)
            for status in statuses.values()
            if status.session is not None
            and status.state in ("ready", "degraded")
            and self._topics.agent in ("+", status.agent)
            and self._topics.session in ("+", status.session)
        ]
        if len(there) > 1:
            names = ", ".join(sorted(topics.agent for topics in there))
            raise ConfigError(f"several agents are there ({names}); name one with agent=")
        return there[0] if there else None

    async def _send(self, connection: Connection, message: TurnMessage | CommandMessage, topics: Topics) -> None:
        own = topics.answer(self._name)
        async with self._sending:
            if missing := [topic for topic in (topics.answer(), own) if topic not in self._asked_for]:
                await connection.subscribe(*missing)
                self._asked_for.update(missing)
            try:
                if isinstance(message, TurnMessage):
                    # Anew each time: the agent takes the difference to its own clock from it.
                    sent = message.model_copy(update={"sent_at": datetime.now(UTC)})
                    await connection.publish(topics.turn, sent.to_json(), qos=1, details=Details(response_topic=own))
                else:
                    sent_command = message.model_copy(update={"answer_to": own})
                    await connection.publish(topics.command, sent_command.to_json(), qos=1)
            except RefusedError as error:
                raise AnswerError(str(error)) from error
