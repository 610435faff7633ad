"""A bounded mailbox: the only way in which work is handed from one task to another.

An unbounded queue turns a slow consumer into an ever growing lag, so every mailbox has a capacity and a stated rule for
the moment when it is full:

    block         the sender waits for room (replay, final transcripts)
    drop_oldest   the oldest waiting item goes, the new one comes in (microphone)
    latest        only the newest item is kept (camera); the same as drop_oldest with room for one
    refuse        the new item is turned away and the sender is told (utterances)

For use inside one event loop. Another thread goes through `loop.call_soon_threadsafe(mailbox.put_nowait, item)`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Literal, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Overflow = Literal["block", "drop_oldest", "latest", "refuse"]


class MailboxClosedError(Exception):
    """The mailbox is closed: nothing more goes in, or nothing more comes out. A signal, not a fault."""


class Sink(Protocol[T_contra]):
    """The sending side of a mailbox: what a source needs to know of it."""

    async def put(self, item: T_contra) -> bool:
        """Hands over an item."""
        ...

    def close(self) -> None:
        """Says that nothing more will come."""
        ...


class Mailbox(Generic[T]):
    """Holds at most `capacity` items between tasks; `async for item in mailbox` ends once it is closed and drained.

    Items of one sender come out in the order in which they went in. A cancelled `put` or `get` neither loses nor
    doubles an item, and never swallows a wake-up that another task waits for.

    Attributes:
        accepted: items that were let in, so far.
        lost: items that were dropped or refused because there was no room, so far.
    """

    def __init__(self, capacity: int, overflow: Overflow, name: str = "mailbox") -> None:
        if capacity < 1:
            raise ValueError(f"{name}: a mailbox needs room for at least one item, not {capacity}")
        if overflow == "latest" and capacity != 1:
            raise ValueError(f"{name}: 'latest' keeps one item, so its capacity is 1, not {capacity}")
        self.capacity = capacity
        self.overflow = overflow
        self.name = name
        self.accepted = 0
        self.lost = 0
        self._items: deque[T] = deque()
        self._closed = False
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._senders: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._items)

    def __bool__(self) -> bool:
        """Always true: an empty mailbox is still a mailbox, and `if video:` must not depend on timing."""
        return True

    @property
    def closed(self) -> bool:
        """Whether `close` was called; waiting items can still be taken."""
        return self._closed

    @property
    def full(self) -> bool:
        """Whether the next item meets the overflow rule."""
        return len(self._items) >= self.capacity

    async def put(self, item: T) -> bool:
        """Hands over `item`; tells whether it was let in. Only "block" ever waits.

        Raises:
            MailboxClosedError: the mailbox is closed, or was closed while this sender waited.
        """
        while self.overflow == "block" and self.full and not self._closed:
            await self._wait(self._senders)
        return self.put_nowait(item)

    def put_nowait(self, item: T) -> bool:
        """Hands over `item` without waiting; tells whether it was let in.

        A full "block" mailbox answers False and counts nothing: the sender still has the item.

        Raises:
            MailboxClosedError: the mailbox is closed.
        """
        if self._closed:
            raise MailboxClosedError(f"{self.name} is closed")
        if self.full:
            if self.overflow == "block":
                return False
            self.lost += 1
            if self.overflow == "refuse":
                return False
            self._items.popleft()
        self._items.append(item)
        self.accepted += 1
        self._wake(self._receivers)
        return True

    async def get(self) -> T:
        """Takes the oldest item, waiting for one when there is none.

        Raises:
            MailboxClosedError: the mailbox is closed and empty.
        """
        while not self._items:
            if self._closed:
                raise MailboxClosedError(f"{self.name} is closed and empty")
            await self._wait(self._receivers)
        item = self._items.popleft()
        self._wake(self._senders)
        return item

    def close(self) -> None:
        """Lets nothing more in; what waits can still be taken. Closing twice is closing once."""
        self._closed = True
        for waiters in (self._receivers, self._senders):
            while waiters:
                self._wake(waiters)

    def __aiter__(self) -> Mailbox[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.get()
        except MailboxClosedError:
            raise StopAsyncIteration from None

    async def _wait(self, waiters: deque[asyncio.Future[None]]) -> None:
        """Waits for a wake-up meant for one of `waiters`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in waiters:
                waiters.remove(waiter)
            elif not waiter.cancelled():
                self._wake(waiters)  # this task was woken and cancelled at once: the wake-up is for somebody else
            raise

    @staticmethod
    def _wake(waiters: deque[asyncio.Future[None]]) -> None:
        """Wakes the first of `waiters` that still waits."""
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
