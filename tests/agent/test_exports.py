"""Every export is read again by a public reader of its format, and says there what the predictions say."""

import csv
import io
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webvtt
from pyannote.database.util import load_rttm
from support.messages import message
from support.needs import program

from mer_agent.errors import MediaError
from mer_agent.exports import Judged, read, to_csv, to_ctm, to_rttm, to_vtt, who
from mer_agent.streams.session import Manifest, Spoken, SpokenWord, write_session
from mer_agent.wire.schema import EmotionMessage

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"


def said(number: int, **changes: Any) -> EmotionMessage:
    return message(number).model_copy(update=changes)


@pytest.fixture
def judged() -> Judged:
    return read(SESSION)


@pytest.fixture
def awkward() -> Judged:
    """Names, words and times that formats don't like."""
    odd = said(
        1, overlap=True, text='<v Bob> & "so" --> on\nand on', speaker_name="Ann Ü. <b>", start_ns=10**9, end_ns=10**9
    )
    failed = said(2, distribution={}, label=None, confidence=0.0, degraded="the model failed", text=None)
    return Judged("s1", (odd, failed), {})


def test_a_reader_of_subtitles_finds_speakers_words_and_emotions(judged: Judged) -> None:
    captions = webvtt.from_string(to_vtt(judged)).captions
    assert len(captions) == len(judged.utterances)
    for caption, wanted in zip(captions, judged.utterances, strict=True):
        assert caption.identifier == wanted.utterance
        assert caption.voice == who(wanted)
        assert caption.text.split("\n") == [wanted.text, f"[{wanted.label} {wanted.confidence:.0%}]"]
        assert caption.start_in_seconds == wanted.start_ns // 10**9
        assert caption.raw_text.startswith(f"<v.{wanted.label} ")


def test_subtitles_can_say_anything(awkward: Judged) -> None:
    text = to_vtt(awkward)
    captions = webvtt.from_string(text).captions
    assert len(captions) == 2
    assert '&lt;v Bob&gt; &amp; "so" --&gt; on and on' in text
    assert captions[0].start != captions[0].end, "a cue that ends when it begins is none"
    assert "[not sure 0%]" in captions[1].text


def test_a_reader_of_rttm_finds_who_spoke_when(judged: Judged, awkward: Judged, tmp_path: Path) -> None:
    file = tmp_path / "two-voices.rttm"
    file.write_text(to_rttm(judged))
    turns = load_rttm(file)[judged.name]
    assert [label for _, _, label in turns.itertracks(yield_label=True)] == [who(each) for each in judged.utterances]
    for segment, wanted in zip(turns.itersegments(), judged.utterances, strict=True):
        assert segment.start == pytest.approx(wanted.start_ns / 1e9, abs=1e-3)
        assert segment.end == pytest.approx(wanted.end_ns / 1e9, abs=2e-3)
    file.write_text(to_rttm(awkward))
    assert all(len(line.split()) == 10 for line in file.read_text().splitlines())


def test_words_have_the_times_that_were_recorded_or_none_that_look_so(tmp_path: Path) -> None:
    utterance = said(1, text="good morning", start_ns=10**9, end_ns=3 * 10**9)
    words = (
        SpokenWord(text="good", start_ns=1_100_000_000, end_ns=1_500_000_000, probability=0.5),
        SpokenWord(text="morning", start_ns=1_600_000_000, end_ns=2_900_000_000, probability=0.25),
    )
    turn = Spoken(speaker="speaker-0", text="good morning", start_ns=10**9, end_ns=3 * 10**9, words=words)
    write_session(tmp_path, Manifest(), [turn])
    (tmp_path / "predictions.jsonl").write_text(utterance.to_json() + "\n")
    lines = [line.split() for line in to_ctm(read(tmp_path)).splitlines()]
    session = utterance.session
    assert lines == [
        [session, "1", "1.100", "0.400", "good", "0.500"],
        [session, "1", "1.600", "1.300", "morning", "0.250"],
    ]
    spread = [line.split() for line in to_ctm(read(tmp_path / "predictions.jsonl")).splitlines()]
    assert spread == [[session, "1", "1.000", "1.000", "good"], [session, "1", "2.000", "1.000", "morning"]]


@pytest.mark.parametrize(("late_s", "found"), [(0, True), (30, False)])
def test_the_scorer_of_nist_finds_every_word_of_ctm_in_its_turn(
    judged: Judged, tmp_path: Path, late_s: int, found: bool
) -> None:
    (tmp_path / "words.ctm").write_text(to_ctm(judged))
    turns = [
        f"{judged.name} 1 {who(each)} {each.start_ns / 1e9 + late_s:.3f} {each.end_ns / 1e9 + late_s:.3f} {each.text}\n"
        for each in judged.utterances
    ]
    (tmp_path / "turns.stm").write_text("".join(turns))
    command = [program("sctk"), "sclite", "-r", "turns.stm", "stm", "-h", "words.ctm", "ctm", "-o", "sum", "stdout"]
    scored = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    words = sum(len((each.text or "").split()) for each in judged.utterances)
    total = next(line for line in scored.splitlines() if "Sum/Avg" in line)
    turn_count, word_count, correct = total.replace("|", " ").split()[1:4]
    assert (int(turn_count), int(word_count)) == (len(turns), words)
    assert (correct == "100.0") is found


def test_words_are_in_order_of_time(judged: Judged) -> None:
    starts = [float(line.split()[2]) for line in to_ctm(judged).splitlines()]
    assert starts == sorted(starts)
    assert len(starts) == sum(len((each.text or "").split()) for each in judged.utterances)


def test_the_table_has_every_probability(judged: Judged, awkward: Judged) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(judged))))
    assert [row["label"] for row in rows] == [each.label for each in judged.utterances]
    for row, wanted in zip(rows, judged.utterances, strict=True):
        assert {label: float(row[f"p_{label}"]) for label in judged.labels} == dict(wanted.distribution)
        assert row["text"] == wanted.text
    odd, failed = csv.DictReader(io.StringIO(to_csv(awkward)))
    assert odd["text"] == awkward.utterances[0].text
    assert (odd["overlap"], failed["overlap"]) == ("1", ""), "empty where nobody can tell"
    assert rows[0]["language"] == "en"
    assert failed["degraded"] == "the model failed"


def test_the_last_judgement_of_an_utterance_counts_and_guesses_do_not(tmp_path: Path) -> None:
    final = said(0)
    lines = [
        said(0, kind="partial", label=None),
        final,
        said(1, start_ns=5, end_ns=9),
        final.model_copy(update={"kind": "revision", "revision": 1, "text": "better"}),
        said(7, kind="partial", utterance="u9"),
    ]
    path = tmp_path / "out.jsonl"
    path.write_text("".join(line.to_json() + "\n" for line in lines) + '{"cut off')
    found = read(path).utterances
    assert [each.text for each in found if each.utterance == final.utterance] == ["better"]
    assert len(found) == 2
    assert [each.start_ns for each in found] == sorted(each.start_ns for each in found)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "holds no prediction, so there is nothing to export"),
        ('{"half', "was never finished"),
        ('{"text": "my secret"}\n', "line 1: is no prediction"),
    ],
)
def test_what_is_no_prediction_is_refused_but_not_repeated(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(content)
    with pytest.raises(MediaError, match=complaint) as caught:
        read(path)
    assert "secret" not in str(caught.value)
    with pytest.raises(MediaError, match="--record DIR"):
        read(tmp_path)


def test_times_are_the_clocks_of_the_recording(judged: Judged) -> None:
    assert replace(judged, utterances=judged.utterances[3:]).started_at == judged.started_at
