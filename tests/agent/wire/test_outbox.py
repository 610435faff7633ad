from __future__ import annotations

import asyncio

import pytest
from support.virtual_time import run_virtual

from mer_agent.wire.outbox import Outbox


def taken(outbox: Outbox) -> list[str]:
    found = []
    while parcel := outbox.take():
        found.append(parcel.payload)
    return found


def test_first_in_first_out() -> None:
    async def main() -> None:
        outbox = Outbox(3, age_s=30)
        for payload in "abc":
            outbox.put("t", payload, 1)
        assert taken(outbox) == ["a", "b", "c"]
        assert outbox.take() is None

    run_virtual(main())


def test_without_room_the_oldest_goes_and_is_counted() -> None:
    async def main() -> None:
        outbox = Outbox(2, age_s=30)
        for payload in "abcd":
            outbox.put("t", payload, 1)
        assert taken(outbox) == ["c", "d"]
        assert (outbox.dropped_full, outbox.dropped_aged) == (2, 0)

    run_virtual(main())


def test_what_is_too_old_is_dropped_and_counted() -> None:
    async def main() -> None:
        outbox = Outbox(8, age_s=30)
        outbox.put("t", "old", 1)
        await asyncio.sleep(29)
        outbox.put("t", "young", 1)
        await asyncio.sleep(1)
        assert taken(outbox) == ["young"]
        assert (outbox.dropped_full, outbox.dropped_aged) == (0, 1)

    run_virtual(main())


def test_what_is_put_back_is_next_and_keeps_its_age() -> None:
    async def main() -> None:
        outbox = Outbox(8, age_s=30)
        outbox.put("t", "a", 1)
        outbox.put("t", "b", 1)
        parcel = outbox.take()
        assert parcel is not None
        outbox.put_back(parcel)
        assert taken(outbox) == ["a", "b"]
        outbox.put_back(parcel)
        await asyncio.sleep(31)
        assert outbox.take() is None
        assert outbox.dropped_aged == 1

    run_virtual(main())


def test_put_wait_waits_until_something_is_taken() -> None:
    async def main() -> None:
        outbox = Outbox(1, age_s=30)
        outbox.put("t", "a", 1)
        waiting = asyncio.create_task(outbox.put_wait("t", "b", 1))
        await asyncio.sleep(5)
        assert not waiting.done()
        assert outbox.take() is not None
        await waiting
        assert taken(outbox) == ["b"]
        assert outbox.dropped_full == outbox.dropped_aged == 0

    run_virtual(main())


@pytest.mark.parametrize("age_s", [0.1, 30.0, 1e-3])
def test_put_wait_never_waits_longer_than_the_age_limit(age_s: float) -> None:
    async def main() -> None:
        outbox = Outbox(1, age_s)
        outbox.put("t", "a", 1)
        before_s = asyncio.get_running_loop().time()
        await outbox.put_wait("t", "b", 1)
        assert asyncio.get_running_loop().time() - before_s == pytest.approx(age_s, abs=0.01)
        assert outbox.dropped_aged == 1

    run_virtual(main())
