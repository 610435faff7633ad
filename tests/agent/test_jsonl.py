import json
from pathlib import Path

import pytest
from support.messages import message

from mer_agent.errors import FaultError, InputError
from mer_agent.jsonl import JsonLines
from mer_agent.wire.schema import EmotionMessage


def test_each_message_is_one_line_that_reads_back(tmp_path: Path) -> None:
    messages = [message(0, text="first\nwith a break"), message(1, text=None)]
    with JsonLines(tmp_path / "out.jsonl") as lines:
        for one in messages:
            lines(one)
            # A line is in the file at once, not when the session ends.
            assert (tmp_path / "out.jsonl").read_text().count("\n") == one.seq + 1
    written = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [EmotionMessage.from_json(line) for line in written] == messages
    assert "text" not in json.loads(written[1])


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be written"):
        JsonLines(tmp_path / "missing" / "out.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_stops_the_file_and_not_the_session(caplog: pytest.LogCaptureFixture) -> None:
    lines = JsonLines(Path("/dev/full"))
    for seq in range(3):
        lines(message(seq, text="a secret"))
    with pytest.raises(FaultError, match="3 lines are missing"):
        lines.close()
    assert "secret" not in caplog.text


def test_what_was_there_stays_until_there_is_something_to_write(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("an earlier session\n")

    def fail() -> None:
        with JsonLines(path):
            raise RuntimeError("no broker")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "an earlier session\n"
    with JsonLines(path) as lines:
        lines(message(0))
    assert EmotionMessage.from_json(path.read_text()) == message(0)
    with JsonLines(path):
        pass
    assert path.read_text() == ""
