"""What readers are told of the devices: how each one is, and whether the agent as a whole is the worse for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mer_agent.wire.schema import State

RECORDER = "recorder"
"""What a recording is called among the sources."""
WELL = frozenset({"opening", "capturing", "silent", "ended", "replay", "recording"})
"""States of a source with which nothing is wrong. A silent microphone may be muted on purpose."""


class Health:
    """Joins the states of all sources into the agent's own.

    Args:
        tell: takes the agent's state and the sources', whenever they change.
        watch: takes each source's new state, too.
    """

    def __init__(
        self, tell: Callable[[State, Mapping[str, str]], None], watch: Callable[[str, str], None] | None = None
    ) -> None:
        self._tell = tell
        self._watch = watch
        self._sources: dict[str, str] = {}

    @property
    def state(self) -> State:
        """`ready`, or `degraded` when a source is not what it should be."""
        return "ready" if WELL.issuperset(self._sources.values()) else "degraded"

    def report(self, source: str, state: str) -> None:
        """Takes the state of one source."""
        if self._sources.get(source) != state:
            self._sources[source] = state
            self._tell(self.state, dict(self._sources))
            if self._watch is not None:
                self._watch(source, state)
