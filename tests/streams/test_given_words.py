"""Words from elsewhere: each segment gets its own, and waits for what is late."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from support.streams_fakes import a_segment

from mer_agent.config.settings import TranscriberSettings
from mer_agent.errors import MediaError
from mer_agent.streams import engines
from mer_agent.streams.given_words import Given, GivenWord, GivenWords

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"
S = 1_000_000_000
SECOND = np.zeros(16_000, np.float32)


async def test_the_words_of_a_session_go_to_the_segments_in_which_they_were_spoken() -> None:
    words = engines.create(TranscriberSettings(engine="text", file=SESSION / "words.jsonl"), lambda name: Path(name))
    await words.warm_up()
    found = await words.transcribe(a_segment(0.6, np.zeros(16_000 * 2, np.float32)))
    assert found.text == "Hello my friend. How was your day?"
    assert (await words.transcribe(a_segment(0.0, SECOND[:3000]))).text == ""
    words.close()


async def test_words_with_times_are_cut_where_the_segments_are() -> None:
    words = GivenWords()
    timed = tuple(GivenWord(text=f"w{at}", start_ns=at * S // 2, end_ns=(at + 1) * S // 2) for at in range(4))
    words.hear(Given(text="w0 w1 w2 w3", start_ns=0, end_ns=2 * S, words=timed))
    assert (await words.transcribe(a_segment(0.0, SECOND))).text == "w0 w1"
    assert (await words.transcribe(a_segment(1.0, SECOND))).text == "w2 w3"


async def test_a_segment_waits_for_its_words_but_not_for_ever() -> None:
    words = GivenWords(patience_s=0.05)
    waiting = asyncio.create_task(words.transcribe(a_segment(0.0, SECOND)))
    await asyncio.sleep(0)
    words.hear(Given(text="somebody else's", start_ns=5 * S, end_ns=6 * S))
    await asyncio.sleep(0)
    words.hear(Given(text="late but here", start_ns=0, end_ns=S))
    assert (await waiting).text == "late but here"
    assert (await words.transcribe(a_segment(2.0, SECOND))).text == ""


@pytest.mark.parametrize("line", ["{", '{"text": "secret"}', '{"text": "secret", "start_ns": 5, "end_ns": 1}'])
def test_a_broken_file_is_refused_without_quoting_it(tmp_path: Path, line: str) -> None:
    path = tmp_path / "words.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(MediaError, match="line 1") as caught:
        GivenWords(path)
    assert "secret" not in str(caught.value)
