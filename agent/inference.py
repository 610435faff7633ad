"""Where models run: never on the event loop, and never on asyncio's shared pool of threads.

One dedicated thread serves one device, in order, so that two models don't fight for the same cores and a slow call
can't starve anything else. Tests run the same calls inline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Inference(Protocol):
    """Runs a blocking call for the event loop; calls of one instance run one after the other."""

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Gives what `call(*args, **kwargs)` gives; whatever it raises is raised here."""
        ...

    def close(self) -> None:
        """Takes no more calls; the one that runs is left to finish by itself."""
        ...


class ThreadInference:
    """One dedicated thread."""

    def __init__(self, name: str = "inference") -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs the call in the thread, while the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Takes no more calls and returns at once, so that shutting down is bounded."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class InlineInference:
    """The event loop itself: for tests, where models are fakes that take no time."""

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs the call here and now."""
        return call(*args, **kwargs)

    def close(self) -> None:
        """Nothing to close."""
