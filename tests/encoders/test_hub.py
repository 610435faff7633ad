"""Files from the model hub are taken only as the hub itself vouches for them."""

from __future__ import annotations

import hashlib
import sys
import threading
import types

import pytest

from mer_agent.encoders import hub
from mer_agent.encoders.carriers import SourceError
from mer_agent.encoders.catalogue import Entry, Hub, WeightFile
from mer_agent.encoders.hub import chunks_from_hub

DATA = b"from the hub"
FILE = WeightFile("w.safetensors", original="w.pt")
ENTRY = Entry("x", "d", "r", "MIT", "o", (FILE,), hub=Hub("someone/x", "main"))
SHA256 = hashlib.sha256(DATA).hexdigest()
GIT = hashlib.sha1(b"blob 12\0" + DATA, usedforsecurity=False).hexdigest()


class FakeHub:
    """Stands in for the package `huggingface_hub`."""

    def __init__(self):
        self.etag = SHA256
        self.error = None
        self.asked = []
        self.may_finish = threading.Event()
        self.may_finish.set()

    def hf_hub_url(self, repo, filename, revision):
        return f"{repo}/{revision}/{filename}"

    def get_hf_file_metadata(self, url):
        assert url == "someone/x/main/w.pt"
        return types.SimpleNamespace(etag=self.etag, size=len(DATA), commit_hash="c0ffee")

    def hf_hub_download(self, repo, filename, revision, local_dir):
        self.asked.append((repo, filename, revision))
        if self.error:
            raise self.error
        local_dir.mkdir(parents=True)
        path = local_dir / filename
        path.write_bytes(DATA[:5])
        assert self.may_finish.wait(10)
        path.write_bytes(DATA)
        return str(path)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeHub()
    module = types.ModuleType("huggingface_hub")
    utils = types.ModuleType("huggingface_hub.utils")
    utils.disable_progress_bars = lambda: None
    for name in ("hf_hub_url", "get_hf_file_metadata", "hf_hub_download"):
        setattr(module, name, getattr(fake, name))
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", utils)
    return fake


def read(folder, entry=ENTRY, report=lambda done, total: None):
    return b"".join(chunks_from_hub(entry, FILE, folder, report))


@pytest.mark.parametrize("etag", [SHA256, f'"{SHA256}"', GIT])
def test_a_file_with_the_hash_that_the_hub_names_is_taken_from_one_commit(tmp_path, fake, etag):
    fake.etag = etag
    assert read(tmp_path) == DATA
    assert fake.asked == [("someone/x", "w.pt", "c0ffee")]


@pytest.mark.parametrize(("etag", "message"), [("0" * 64, "must have 0000"), ("0" * 40, "must have"), ("", "no hash")])
def test_other_bytes_are_refused_and_removed(tmp_path, fake, etag, message):
    fake.etag = etag
    with pytest.raises(SourceError, match=message):
        read(tmp_path)
    assert not (tmp_path / "hub" / "w.pt").exists()


def test_an_unreachable_hub_is_one_line(tmp_path, fake):
    fake.error = ConnectionError("name resolution failed\nlots of detail")
    with pytest.raises(SourceError, match=r"^the hub didn't give it \(ConnectionError: name resolution failed\)$"):
        read(tmp_path)


def test_a_full_disk_is_not_taken_for_the_network(tmp_path, fake):
    fake.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        read(tmp_path)


def test_progress_is_heard_while_the_download_goes_on(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(hub, "POLL_S", 0.01)
    fake.may_finish.clear()
    heard = []

    def report(done, total):
        heard.append((done, total))
        if done == 5:
            fake.may_finish.set()

    assert read(tmp_path, report=report) == DATA
    assert (5, 12) in heard


def test_without_the_package_or_a_repository_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SourceError, match="pip install huggingface_hub"):
        read(tmp_path)
    with pytest.raises(SourceError, match="not on the hub"):
        read(tmp_path, Entry("x", "d", "r", "MIT", "o", (FILE,)))
