from pathlib import Path

import pytest
from support import needs

from mer_agent.bench import throughput as bench
from mer_agent.config.settings import ModelSettings, Settings
from mer_agent.errors import FaultError, MediaError

SESSION = Path(__file__).parents[2] / "sessions" / "two-voices"


@pytest.mark.real_weights
def test_throughput_measures_a_fresh_process() -> None:
    for name in needs.AGENT:
        needs.weights(name)
    figures = bench.throughput(Settings(), SESSION, runs=1)
    (run,) = figures["runs"]
    assert figures["ratio"] == run["work_s"] / run["media_s"] > 0
    assert figures["media_s"] == pytest.approx(26.3, abs=0.5)
    assert figures["utterances"] >= 8
    assert figures["cold_start_s"] > 0
    assert figures["peak_memory_mb"] > 300  # torch alone takes that much
    assert sum(figures["stage_share"].values()) == pytest.approx(1)
    assert {"words", "text/mpnet", "fusion"} <= {
        stage.partition("@")[0].split("-")[0] for stage in figures["stage_share"]
    }


def test_a_recording_that_cannot_be_played_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"nothing\.wav"):
        bench.throughput(Settings(), tmp_path / "nothing.wav", runs=1)


def test_a_run_that_fails_says_why() -> None:
    settings = Settings(model=ModelSettings(checkpoint="nobody"))
    with pytest.raises(FaultError, match="no checkpoint is called 'nobody'"):
        bench.throughput(settings, SESSION, runs=1)
