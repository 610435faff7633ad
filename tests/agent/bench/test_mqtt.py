from __future__ import annotations

import pytest

from mer_agent.bench.mqtt import bench


@pytest.mark.broker
async def test_it_measures_both_ways_at_every_broker() -> None:
    said: list[str] = []
    figures = await bench(rounds=20, messages=20, day_s=60, say=said.append)
    assert set(figures["brokers"]) == {"mosquitto", "embedded"}, said
    for by_qos in figures["brokers"].values():
        for ways in by_qos.values():
            for way in ("ours", "plain"):
                assert 0 < ways[way]["p50_ms"] <= ways[way]["p95_ms"] <= ways[way]["p99_ms"]
                assert ways[way]["per_s"] > 0
            assert ways["ratio"] == pytest.approx(ways["ours"]["p50_ms"] / ways["plain"]["p50_ms"])
    assert figures["ratio"] == max(ways["ratio"] for by_qos in figures["brokers"].values() for ways in by_qos.values())
    assert (figures["day"]["utterances"], figures["day"]["lost"]) == (20, 0)
    assert figures["day"]["growth_after_first_hour_mb"] >= 0
