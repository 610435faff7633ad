"""What was verified is remembered, and nothing that merely looks like it counts."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from mer_agent.encoders import manifest
from mer_agent.encoders.catalogue import Entry, WeightFile
from mer_agent.encoders.storing import Stored

DATA = b"12345"
SHA256 = hashlib.sha256(DATA).hexdigest()
FILE = WeightFile("w.bin", sha256=SHA256, size=5)
ENTRY = Entry("x", "d", "r", "MIT", "o", (FILE, WeightFile("v.bin", sha256="0" * 64, size=1)))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "w.bin").write_bytes(DATA)
    manifest.add(tmp_path, ENTRY, FILE, Stored(5, SHA256), "somewhere")
    return tmp_path


def names(folder, entry=ENTRY):
    return [file.name for file in manifest.missing(folder, entry)]


def test_a_recorded_file_is_there_and_the_others_are_missing(folder):
    assert names(folder) == ["v.bin"]
    assert manifest.read(folder)["w.bin"] == {"sha256": SHA256, "size": 5, "pin": SHA256, "source": "somewhere"}


def test_a_file_of_another_length_is_missing(folder):
    (folder / "w.bin").write_bytes(DATA[:4])
    assert names(folder) == ["w.bin", "v.bin"]


def test_a_removed_file_is_missing(folder):
    (folder / "w.bin").unlink()
    assert names(folder) == ["w.bin", "v.bin"]


def test_a_file_of_an_older_release_is_missing(folder):
    newer = dataclasses.replace(ENTRY, files=(dataclasses.replace(FILE, sha256="1" * 64),))
    assert names(folder, newer) == ["w.bin"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": []}', '{"files": {"w.bin": 3}}', '{"files": {"w.bin": {}}}']
)
def test_a_manifest_that_is_broken_counts_as_empty(folder, text):
    (folder / manifest.NAME).write_text(text)
    assert names(folder) == ["w.bin", "v.bin"]
