from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.fake_broker import FakeBroker
from support.messages import message
from support.virtual_time import run_virtual

from mer_agent.errors import BrokerError
from mer_agent.wire.connection import Backoff
from mer_agent.wire.endpoint import Endpoint
from mer_agent.wire.publisher import Publisher
from mer_agent.wire.schema import Topics

TOPIC = "mer/v1/desk/s1/emotion/speaker-0/final"
STATUS = "mer/v1/desk/status"


@asynccontextmanager
async def publishing(broker: FakeBroker, **options: Any) -> AsyncIterator[Publisher]:
    """A connected publisher, which must have been drained when the block ends."""
    publisher = Publisher(
        Endpoint("broker"), Topics("desk", "s1"), backoff=Backoff(random=lambda: 1.0), connect=broker.connect, **options
    )
    async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run())
        await publisher.wait_connected()
        yield publisher


def states(broker: FakeBroker) -> list[str]:
    return [json.loads(payload)["state"] for topic, payload, _, _ in broker.received if topic == STATUS]


def sequence(broker: FakeBroker) -> list[int]:
    return [json.loads(payload)["seq"] for topic, payload, _, _ in broker.received if topic != STATUS]


def test_predictions_go_out_in_order_to_their_topic_at_qos_1_and_unretained() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            for number in range(3):
                publisher.publish(message(number))
            await publisher.drain()
        assert sequence(broker) == [0, 1, 2]
        sent = [entry for entry in broker.received if entry[0] != STATUS]
        assert {(topic, qos, retain) for topic, _, qos, retain in sent} == {(TOPIC, 1, False)}
        assert publisher.counts.sent == 3
        assert publisher.counts.lost == 0

    run_virtual(main())


def test_a_partial_prediction_goes_to_its_own_topic_at_qos_0() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            publisher.publish(message(kind="partial"))
            await publisher.drain()
        assert (TOPIC.replace("final", "partial"), 0) in [(topic, qos) for topic, _, qos, _ in broker.received]

    run_virtual(main())


@pytest.mark.parametrize("publish_text", [True, False])
def test_the_words_leave_only_when_that_is_wanted(publish_text: bool) -> None:
    async def main() -> str:
        broker = FakeBroker()
        async with publishing(broker, publish_text=publish_text) as publisher:
            publisher.publish(message(text="the secret word"))
            await publisher.drain()
        return " ".join(payload for _, payload, _, _ in broker.received)

    assert ("secret" in run_virtual(main())) == publish_text


def test_the_status_is_retained_and_follows_the_agent_s_life() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            await asyncio.sleep(1)
            publisher.set_status("ready", {"audio-0": "ok"})
            await asyncio.sleep(1)
            publisher.set_status("degraded")
            await asyncio.sleep(1)
            await publisher.drain()
        assert states(broker) == ["starting", "ready", "degraded", "stopping", "offline"]
        statuses = [entry for entry in broker.received if entry[0] == STATUS]
        assert {(qos, retain) for _, _, qos, retain in statuses} == {(1, True)}
        assert json.loads(statuses[2][1])["sources"] == {"audio-0": "ok"}

    run_virtual(main())


def test_only_the_newest_status_counts() -> None:
    async def main() -> None:
        broker = FakeBroker(ack_s=1.0)
        async with publishing(broker) as publisher:
            publisher.set_status("ready")
            publisher.set_status("degraded")
            publisher.set_status("ready")
            await publisher.drain()
        assert states(broker).count("degraded") == 0

    run_virtual(main())


def test_the_last_will_is_offline_and_holds_nothing_personal() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            await publisher.drain()
        assert broker.will is not None
        assert broker.will.topic == STATUS
        will = json.loads(broker.will.payload)
        assert (will["state"], will["since"], will["sources"]) == ("offline", None, {})

    run_virtual(main())


def test_a_broker_that_can_t_be_reached_at_the_start_ends_the_run() -> None:
    async def main() -> None:
        broker = FakeBroker()
        broker.break_down()
        with pytest.raises(BrokerError, match="refused"):
            await Publisher(Endpoint("broker"), Topics("desk", "s1"), connect=broker.connect).run()
        assert len(broker.attempts_s) == 1

    run_virtual(main())


def test_an_outage_costs_nothing_that_is_young_enough() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, outbox_age_s=30) as publisher:
            publisher.publish(message(0))
            await asyncio.sleep(1)
            broker.break_down()
            for number in range(1, 11):
                publisher.publish(message(number))
                await asyncio.sleep(1)
            broker.come_back()
            await asyncio.sleep(20)
            assert sequence(broker) == list(range(11))
            assert states(broker) == ["starting", "starting"]
            await publisher.drain()
        assert publisher.counts.reconnects == 1
        assert publisher.counts.lost == 0

    run_virtual(main())


def test_what_grew_too_old_in_an_outage_is_counted_and_told() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, outbox_age_s=30) as publisher:
            broker.break_down()
            for number in range(60):
                publisher.publish(message(number))
                await asyncio.sleep(1)
            broker.come_back()
            await asyncio.sleep(20)
            await publisher.drain()
        arrived = sequence(broker)
        assert arrived == list(range(arrived[0], 60))
        assert publisher.counts.dropped_aged == arrived[0] > 20
        assert publisher.counts.sent == len(arrived)
        last = [payload for topic, payload, _, _ in broker.received if topic == STATUS][-1]
        assert json.loads(last)["messages_lost"] == arrived[0]

    run_virtual(main())


def test_the_outbox_is_bounded_and_the_newest_stay() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            broker.break_down()
            await asyncio.sleep(0.1)
            for number in range(100):
                publisher.publish(message(number))
            broker.come_back()
            await publisher.drain()
        assert sequence(broker) == list(range(36, 100))
        assert publisher.counts.dropped_full == 36

    run_virtual(main())


def test_partial_predictions_don_t_wait_for_a_lost_broker() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            broker.break_down()
            await asyncio.sleep(0.1)
            publisher.publish(message(0, kind="partial"))
            publisher.publish(message(1))
            broker.come_back()
            await publisher.drain()
        assert sequence(broker) == [1]
        assert publisher.counts.dropped_partial == 1

    run_virtual(main())


def test_an_unacknowledged_message_is_sent_again_byte_for_byte() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            await asyncio.sleep(1)
            broker.forget_acks = 1
            publisher.publish(message(0))
            publisher.publish(message(1))
            await asyncio.sleep(5)
            await publisher.drain()
        sent = [payload for topic, payload, _, _ in broker.received if topic == TOPIC]
        assert sequence(broker) == [0, 0, 1]
        assert sent[0] == sent[1]
        assert publisher.counts.sent == 2

    run_virtual(main())


def test_the_broker_is_looked_for_less_and_less_often() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            broker.break_down()
            await asyncio.sleep(120)
            gaps_s = [b - a for a, b in zip(broker.attempts_s[1:], broker.attempts_s[2:], strict=False)]
            assert gaps_s == sorted(gaps_s)
            assert gaps_s[0] == pytest.approx(0.5, abs=0.05)
            assert gaps_s[-1] == pytest.approx(15, abs=0.05)
            await publisher.drain()

    run_virtual(main())


def test_backoff_is_jittered_and_bounded() -> None:
    assert {Backoff().delay_s(3) for _ in range(20)} != {Backoff().delay_s(3)}
    assert all(7.5 <= Backoff().delay_s(99_999) <= 15 for _ in range(20))


def test_publish_wait_drops_nothing_on_a_slow_broker() -> None:
    async def main() -> None:
        broker = FakeBroker(ack_s=0.2)
        async with publishing(broker, outbox_limit=4) as publisher:
            for number in range(200):
                await publisher.publish_wait(message(number))
            await publisher.drain()
        assert sequence(broker) == list(range(200))
        assert publisher.counts.lost == 0

    run_virtual(main())


def test_publish_wait_ends_when_the_broker_stays_away() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, outbox_limit=4, outbox_age_s=5) as publisher:
            broker.break_down()
            for number in range(12):
                await publisher.publish_wait(message(number))
            await publisher.drain(deadline_s=1)
        assert publisher.counts.dropped_aged == 8

    run_virtual(main())


def test_draining_sends_what_waits_and_says_goodbye() -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            for number in range(20):
                publisher.publish(message(number))
            await publisher.drain()
            assert sequence(broker) == list(range(20))
            assert states(broker)[-2:] == ["stopping", "offline"]
            await publisher.drain()  # once more does nothing

    run_virtual(main())


def test_draining_is_bounded_when_the_broker_is_away(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker) as publisher:
            broker.break_down()
            await asyncio.sleep(10)
            publisher.publish(message())
            before_s = asyncio.get_running_loop().time()
            await publisher.drain(deadline_s=3)
            assert asyncio.get_running_loop().time() - before_s == pytest.approx(3, abs=0.1)
        assert publisher.counts.waiting == 1

    run_virtual(main())
    assert "1 predictions unsent" in caplog.text


def test_draining_is_bounded_when_the_broker_is_too_slow() -> None:
    async def main() -> None:
        broker = FakeBroker(ack_s=0.0)
        async with publishing(broker) as publisher:
            await asyncio.sleep(1)
            broker.ack_s = 60.0
            publisher.publish(message())
            before_s = asyncio.get_running_loop().time()
            await publisher.drain(deadline_s=3)
            assert asyncio.get_running_loop().time() - before_s < 4.5

    run_virtual(main())


def test_an_agent_that_is_cancelled_still_says_offline() -> None:
    async def main() -> None:
        broker = FakeBroker()
        publisher = Publisher(Endpoint("broker"), Topics("desk", "s1"), connect=broker.connect)
        running = asyncio.create_task(publisher.run())
        await publisher.wait_connected()
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert states(broker) == ["starting", "offline"]

    run_virtual(main())


def test_the_log_holds_no_words(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        broker = FakeBroker()
        async with publishing(broker, publish_text=True) as publisher:
            broker.forget_acks = 1
            publisher.publish(message(text="the secret word"))
            await asyncio.sleep(1)
            broker.break_down()
            await asyncio.sleep(60)
            broker.come_back()
            await asyncio.sleep(60)
            await publisher.drain()

    with caplog.at_level(logging.DEBUG):
        run_virtual(main())
    assert "trying again" in caplog.text
    assert "secret" not in caplog.text


class SwallowingBroker(FakeBroker):
    """A broker whose acknowledgement comes together with a cancellation, which `wait_for` then swallows."""

    async def publish(self, *what: Any, **how: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await super().publish(*what, **how)


def test_a_cancellation_that_an_acknowledgement_swallowed_stops_it_all_the_same() -> None:
    async def main() -> None:
        broker = SwallowingBroker(ack_s=1.0)
        publisher = Publisher(Endpoint("broker"), Topics("desk", "s1"), connect=broker.connect)
        running = asyncio.create_task(publisher.run())
        await publisher.wait_connected()
        await asyncio.sleep(0.5)  # its first status waits for the acknowledgement
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=60)
        assert done
        assert running.cancelled()

    run_virtual(main())
