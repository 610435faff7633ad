import re
import subprocess
import sys

import pytest
from support import needs

LINE = re.compile(r"^(speaker-\d|unknown)  (\w+)  (\d\.\d\d)  (\d+) ms  (.+)$")


@pytest.mark.real_weights
@pytest.mark.realtime
def test_the_demo_prints_what_a_second_process_received() -> None:
    for name in (*needs.AGENT, "sample-conversation"):
        needs.weights(name)
    done = subprocess.run(
        [sys.executable, "-m", "mer_agent.cli", "demo"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [LINE.match(line) for line in done.stdout.splitlines()]
    assert len(lines) >= 8
    assert all(lines), done.stdout
    found = [line.groups() for line in lines if line is not None]
    assert {"speaker-0", "speaker-1"} <= {speaker for speaker, *_ in found}
    assert all(0 < float(confidence) <= 1 for _, _, confidence, _, _ in found)
    assert "Do you hear me?" in {words for *_, words in found}
    # Words, voice and emotion arrive while the conversation goes on, not at its end. Shared machines stall at times.
    delays_ms = sorted(int(delay) for _, _, _, delay, _ in found)
    assert 300 < delays_ms[len(delays_ms) // 2] < 5000
