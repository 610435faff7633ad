import asyncio
import threading

import pytest

from mer_agent.inference import InlineInference, ThreadInference


async def test_calls_run_in_order_in_one_thread_that_is_not_the_loops() -> None:
    inference = ThreadInference()
    seen: list[int] = []

    def call(number: int) -> int:
        seen.append(number)
        return threading.get_ident()

    threads = await asyncio.gather(*(inference.run(call, number) for number in range(20)))
    inference.close()
    assert seen == list(range(20))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_the_loop_goes_on_while_a_call_blocks() -> None:
    inference = ThreadInference()
    release = threading.Event()
    blocked = asyncio.create_task(inference.run(release.wait, 10))
    await asyncio.sleep(0)  # would never return if the call blocked the loop
    assert not blocked.done()
    release.set()
    assert await blocked
    inference.close()


@pytest.mark.parametrize("kind", [ThreadInference, InlineInference])
async def test_what_the_call_raises_is_raised_to_the_caller(kind: type[ThreadInference | InlineInference]) -> None:
    def fail() -> None:
        raise ValueError("broken")

    inference = kind()
    with pytest.raises(ValueError, match="broken"):
        await inference.run(fail)
    inference.close()


async def test_closing_does_not_wait_for_the_call_that_runs() -> None:
    inference = ThreadInference()
    started, release = threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        release.wait(10)

    task = asyncio.create_task(inference.run(call))
    while not started.is_set():
        await asyncio.sleep(0)
    inference.close()
    assert not task.done()
    release.set()
    await task
