import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_agent.streams.mailbox import Mailbox, MailboxClosedError, Overflow


async def spin(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def rest(mailbox: Mailbox[int]) -> list[int]:
    mailbox.close()
    return [item async for item in mailbox]


async def test_items_come_out_in_order_and_iteration_ends_after_the_last() -> None:
    mailbox = Mailbox[int](3, "block")
    for item in (1, 2, 3):
        assert await mailbox.put(item)
    assert len(mailbox) == 3
    assert mailbox.full
    assert await rest(mailbox) == [1, 2, 3]
    assert (mailbox.accepted, mailbox.lost) == (3, 0)


async def test_block_waits_for_room() -> None:
    mailbox = Mailbox[int](1, "block")
    await mailbox.put(1)
    assert not mailbox.put_nowait(2)
    sender = asyncio.create_task(mailbox.put(2))
    await spin()
    assert not sender.done()
    assert await mailbox.get() == 1
    assert await asyncio.wait_for(sender, 1)
    assert await rest(mailbox) == [2]
    assert (mailbox.accepted, mailbox.lost) == (2, 0)


async def test_drop_oldest_keeps_the_newest_and_counts_the_others() -> None:
    mailbox = Mailbox[int](2, "drop_oldest")
    for item in range(5):
        assert await mailbox.put(item)
    assert (mailbox.accepted, mailbox.lost) == (5, 3)
    assert await rest(mailbox) == [3, 4]


async def test_latest_keeps_one() -> None:
    mailbox = Mailbox[int](1, "latest")
    for item in range(3):
        await mailbox.put(item)
    assert (mailbox.accepted, mailbox.lost) == (3, 2)
    assert await rest(mailbox) == [2]


async def test_refuse_tells_the_sender() -> None:
    mailbox = Mailbox[int](1, "refuse")
    assert await mailbox.put(1)
    assert not await mailbox.put(2)
    assert (mailbox.accepted, mailbox.lost) == (1, 1)
    assert await rest(mailbox) == [1]


async def test_nothing_goes_into_a_closed_mailbox_and_what_waits_comes_out() -> None:
    mailbox = Mailbox[int](2, "refuse", "ears")
    await mailbox.put(1)
    mailbox.close()
    mailbox.close()
    assert mailbox.closed
    with pytest.raises(MailboxClosedError, match="ears"):
        await mailbox.put(2)
    assert await mailbox.get() == 1
    with pytest.raises(MailboxClosedError, match="ears"):
        await mailbox.get()
    assert (mailbox.accepted, mailbox.lost) == (1, 0)


async def test_closing_wakes_everyone_who_waits() -> None:
    empty, full = Mailbox[int](1, "block"), Mailbox[int](1, "block")
    await full.put(1)
    waiting = [asyncio.create_task(empty.get()) for _ in range(3)]
    waiting += [asyncio.create_task(full.put(2)) for _ in range(3)]
    await spin()
    empty.close()
    full.close()
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 1)
    assert all(isinstance(end, MailboxClosedError) for end in ended)
    assert [item async for item in full] == [1]
    assert full.accepted == 1


async def test_an_empty_mailbox_is_still_true() -> None:
    assert Mailbox[int](1, "block")


async def test_a_cancelled_receiver_loses_no_item() -> None:
    mailbox = Mailbox[int](4, "block")
    first, second = asyncio.create_task(mailbox.get()), asyncio.create_task(mailbox.get())
    await spin()
    mailbox.put_nowait(7)  # wakes the first receiver ...
    first.cancel()  # ... which is cancelled before it runs
    assert await asyncio.wait_for(second, 1) == 7
    assert first.cancelled() or await asyncio.wait({first})
    assert len(mailbox) == 0


async def test_a_cancelled_sender_leaves_nothing_behind_and_passes_its_turn_on() -> None:
    mailbox = Mailbox[int](1, "block")
    await mailbox.put(1)
    first, second = asyncio.create_task(mailbox.put(2)), asyncio.create_task(mailbox.put(3))
    await spin()
    assert await mailbox.get() == 1  # wakes the first sender ...
    first.cancel()  # ... which is cancelled before it runs
    assert await asyncio.wait_for(second, 1)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await rest(mailbox) == [3]
    assert mailbox.accepted == 2


async def test_a_cancelled_waiter_in_the_middle_is_passed_over() -> None:
    mailbox = Mailbox[int](4, "block")
    receivers = [asyncio.create_task(mailbox.get()) for _ in range(3)]
    await spin()
    receivers[0].cancel()
    await spin()
    mailbox.put_nowait(1)
    mailbox.put_nowait(2)
    assert await asyncio.wait_for(asyncio.gather(*receivers[1:]), 1) == [1, 2]


@pytest.mark.parametrize(("capacity", "overflow"), [(0, "block"), (-1, "refuse"), (2, "latest")])
def test_impossible_mailboxes_are_refused(capacity: int, overflow: Overflow) -> None:
    with pytest.raises(ValueError, match="ears"):
        Mailbox[int](capacity, overflow, "ears")


@given(
    overflow=st.sampled_from(["block", "drop_oldest", "refuse"]),
    capacity=st.integers(1, 4),
    steps=st.lists(st.sampled_from(["put", "get", "cancelled get", "cancelled put"]), max_size=40),
)
def test_every_item_is_taken_waiting_or_lost(overflow: Overflow, capacity: int, steps: list[str]) -> None:
    async def run() -> None:
        mailbox = Mailbox[int](capacity, overflow)
        offered, refused, taken = 0, 0, []
        for step in steps:
            if step == "put":
                offered += 1
                refused += not mailbox.put_nowait(offered)
            elif step == "get":
                if len(mailbox):
                    taken.append(await mailbox.get())
            elif step == "cancelled get":
                if not len(mailbox):
                    waiting = asyncio.create_task(mailbox.get())
                    await asyncio.sleep(0)
                    waiting.cancel()
                    await asyncio.wait({waiting})
            elif overflow == "block" and mailbox.full:
                waiting_put = asyncio.create_task(mailbox.put(-1))
                await asyncio.sleep(0)
                waiting_put.cancel()
                await asyncio.wait({waiting_put})
            assert len(mailbox) <= capacity
        dropped = mailbox.lost if overflow == "drop_oldest" else 0
        assert mailbox.accepted == offered - refused
        assert mailbox.accepted == len(taken) + len(mailbox) + dropped
        taken += await rest(mailbox)
        assert taken == sorted(taken)
        assert -1 not in taken

    asyncio.run(run())
