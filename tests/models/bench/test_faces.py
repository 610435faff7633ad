"""The bench of faces measures each stage on a real recording."""

from __future__ import annotations

import pytest
from support import needs

from mer_agent.models.bench import faces


@pytest.mark.real_weights
def test_each_stage_has_its_cost_and_following_is_cheaper_than_detecting() -> None:
    needs.weights("yunet")
    figures = faces.bench(needs.weights("sample-face") / "carphone_pristine.mp4", rate_hz=5)
    assert (figures["picture"], figures["pictures"], figures["faces_each"]) == ("176x144", 20, 1.0)
    assert all(figures[key] > 0 for key in ("decode_ms", "encode_ms", "encode_batch_ms"))
    assert 0 < figures["follow_ms"] < figures["detect_ms"]
    assert figures["ratio"] == pytest.approx(
        5 * (figures["decode_ms"] + figures["look_ms"] + figures["encode_batch_ms"]) / 1000, abs=0.002
    )
