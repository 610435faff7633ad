import sys
from pathlib import Path

import pytest

from mer_agent import cli
from mer_agent.commands.export import Format

SESSION = Path(__file__).parents[2] / "sessions" / "two-voices"
BEGINNINGS = {
    "vtt": b"WEBVTT\n",
    "rttm": b"SPEAKER ",
    "ctm": b"s1 1 ",
    "csv": b"utterance,start_s",
    "eaf": b"<?xml",
    "emotionml": b"<?xml",
    "svg": b"<?xml",
    "png": b"\x89PNG",
    "view": b"<svg",
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mer-agent", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("kind", Format)
def test_a_session_is_written_in_every_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Format) -> None:
    output = tmp_path / "session"
    assert run(monkeypatch, "export", SESSION, "--to", kind.value, "-o", output) == 0
    assert output.read_bytes().startswith(BEGINNINGS[kind.value])


def test_a_file_of_predictions_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    predictions = tmp_path / "Zoë.jsonl"
    predictions.write_text((SESSION / "predictions.jsonl").read_text())
    assert run(monkeypatch, "export", predictions, "--to", "vtt") == 0
    assert capfdbinary.readouterr().out.count(b"-->") == 12
    assert run(monkeypatch, "export", predictions, "--to", "view") == 0
    assert b"audio-0" not in capfdbinary.readouterr().out, "nothing was heard"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["export", "{tmp}", "--to", "vtt"], "--record DIR` and `--output FILE` write predictions"),
        (["export", SESSION, "--to", "csv", "-o", SESSION / "words.jsonl"], "in the session itself"),
        (["export", SESSION, "--to", "csv", "-o", "{tmp}/no/where"], "can't be written"),
        (["--replay", SESSION, "--record", "{tmp}/new"], "a replay is a recording already"),
        (["--record", "{tmp}/new", "config"], "two things to do"),
        (["--replay", SESSION, "--json", "--quiet"], "--json prints and --quiet doesn't"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[object],
    complaint: str,
) -> None:
    words = (SESSION / "words.jsonl").read_text()
    assert run(monkeypatch, *(str(argument).replace("{tmp}", str(tmp_path)) for argument in arguments)) == 2
    err = capfd.readouterr().err.strip()
    assert err.startswith("mer-agent: ")
    assert complaint in err
    assert "\n" not in err
    assert (SESSION / "words.jsonl").read_text() == words
    assert not (tmp_path / "new").exists()


def test_without_matplotlib_the_error_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(monkeypatch, "export", SESSION, "--to", "png", "-o", tmp_path / "x.png") == 2
    assert "pip install 'mer-agent[train]'" in capfd.readouterr().err
