import json
import shutil
from pathlib import Path

import pytest

from mer_agent.errors import MediaError
from mer_agent.streams.session import Manifest, Recorded, Spoken, read_manifest, read_words, write_session

SESSION = Path(__file__).parents[1] / "sessions" / "two-voices"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session whose recordings are mere names."""
    manifest = Manifest(
        language="en",
        audio=(Recorded(file="audio-0.flac"), Recorded(file="audio-1.flac", start_ns=250)),
        video=(Recorded(file="video-0.mkv", start_ns=7),),
    )
    words = [
        Spoken(speaker="Ben", text="Good morning, Zoë", start_ns=0, end_ns=10),
        Spoken(speaker="Zoë", text="Hm", start_ns=20, end_ns=30, label="sad"),
    ]
    write_session(tmp_path, manifest, words)
    for name in ("audio-0.flac", "audio-1.flac", "video-0.mkv"):
        (tmp_path / name).touch()
    return tmp_path


def test_what_is_written_is_read_again(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert [(audio.source, audio.start_ns) for audio in manifest.audio] == [("audio-0", 0), ("audio-1", 250)]
    assert [(video.source, video.start_ns) for video in manifest.video] == [("video-0", 7)]
    assert manifest.language == "en"
    words = read_words(folder)
    assert [(spoken.speaker, spoken.text, spoken.label) for spoken in words] == [
        ("Ben", "Good morning, Zoë", None),
        ("Zoë", "Hm", "sad"),
    ]
    assert "label" not in (folder / "words.jsonl").read_text(encoding="utf-8").splitlines()[0]


def test_a_session_without_words_has_none(folder: Path) -> None:
    (folder / "words.jsonl").unlink()
    assert read_words(folder) == []


def test_keys_of_a_newer_version_do_no_harm(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weather": "fine"}))
    assert read_manifest(folder).language == "en"


def test_a_folder_without_a_manifest_is_no_session(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"without manifest\.json is no recorded session"):
        read_manifest(tmp_path)
    with pytest.raises(MediaError, match="no such file or folder"):
        read_manifest(tmp_path / "nowhere")


def test_a_file_that_the_manifest_names_must_be_there(folder: Path) -> None:
    (folder / "audio-1.flac").unlink()
    with pytest.raises(MediaError, match=r"names audio-1\.flac, which is missing"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "content"),
        ('{"format": "mer-agent/session@9", "audio": [{"file": "audio-0.flac"}]}', "format"),
        ('{"audio": []}', "names no sound"),
        ('{"audio": [{"file": "../../etc/passwd"}]}', r"audio\.0\.file"),
        ('{"audio": [{"file": "audio-0.flac", "start_ns": -1}]}', r"audio\.0\.start_ns"),
    ],
)
def test_a_malformed_manifest_is_refused_in_one_line(folder: Path, content: str, complaint: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(MediaError, match=rf"manifest\.json: .*{complaint}|{complaint}") as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


def test_a_malformed_line_is_named_but_not_repeated(folder: Path) -> None:
    with (folder / "words.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"speaker": "Ben", "text": "my secret", "start_ns": "soon", "end_ns": 40}\n')
    with pytest.raises(MediaError, match=r"words\.jsonl, line 3: start_ns") as caught:
        read_words(folder)
    assert "secret" not in str(caught.value)


def test_a_manifest_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MediaError, match="can't be read as text"):
        read_manifest(folder)


def test_the_committed_session_is_in_order_and_small(tmp_path: Path) -> None:
    shutil.copytree(SESSION, tmp_path / "copy")
    manifest = read_manifest(tmp_path / "copy")
    assert [audio.source for audio in manifest.audio] == ["audio-0"]
    words = read_words(SESSION)
    assert {spoken.speaker for spoken in words} == {"Anna", "Ben"}
    assert [spoken.start_ns for spoken in words] == sorted(spoken.start_ns for spoken in words)
    assert sum(file.stat().st_size for file in SESSION.glob("*.[fm][lk]*")) < 300_000
