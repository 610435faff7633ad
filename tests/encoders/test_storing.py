"""A name never stands for something half written, unverified or able to run code."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import subprocess
import sys
import textwrap

import pytest

from mer_agent.encoders import storing
from mer_agent.encoders.catalogue import WeightFile
from mer_agent.encoders.storing import RefusedError, fingerprint, locked, store

DATA = b"weights " * 1000
FILE = WeightFile("w.bin", sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA))


def keep(chunks, target, file=FILE, convert=False):
    return store(chunks, target, file, convert=convert, report=lambda done: None)


def test_the_right_bytes_are_kept_and_measured(tmp_path):
    heard = []
    target = tmp_path / "w.bin"
    stored = store([DATA[:3000], DATA[3000:]], target, FILE, convert=False, report=heard.append)
    assert target.read_bytes() == DATA
    assert (stored.size, stored.sha256) == (FILE.size, FILE.sha256)
    assert fingerprint(target) == stored
    assert heard == [3000, 8000]


def test_wrong_bytes_are_refused_with_name_expected_and_got_and_leave_nothing(tmp_path):
    wrong = b"W" + DATA[1:]
    with pytest.raises(RefusedError) as caught:
        keep([wrong], tmp_path / "w.bin")
    assert "w.bin" in str(caught.value)
    assert FILE.sha256 in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_short_bytes_are_refused_and_an_older_file_stays(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"older")
    with pytest.raises(RefusedError, match=r"\(7999 bytes\)"):
        keep([DATA[:-1]], tmp_path / "w.bin")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


def test_endless_bytes_are_refused_before_they_fill_the_disk(tmp_path):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield bytes(4000)

    with pytest.raises(RefusedError, match="longer than the 8000 bytes"):
        keep(endless(), tmp_path / "w.bin")
    assert len(taken) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storing.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        keep([DATA], tmp_path / "w.bin")
    assert list(tmp_path.iterdir()) == []


def pickled(path, content):
    torch = pytest.importorskip("torch")
    torch.save(content, path)
    data = path.read_bytes()
    path.unlink()
    return data


def test_a_pickle_of_tensors_becomes_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    shared = torch.arange(6.0).reshape(2, 3)
    state = {"a": shared, "b": shared.T, "steps": torch.tensor(7)}  # views of one storage, as LSTM weights can be
    data = pickled(tmp_path / "x.pt", {"step": 3, "state": state})
    file = WeightFile(
        "w.safetensors", sha256=hashlib.sha256(data).hexdigest(), size=len(data), original="x.pt", state="state"
    )
    stored = keep([data], tmp_path / "w.safetensors", file, convert=True)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    assert stored == fingerprint(tmp_path / "w.safetensors")
    loaded = load_file(tmp_path / "w.safetensors")
    assert loaded.keys() == state.keys()
    for key, tensor in state.items():
        assert torch.equal(loaded[key], tensor)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, wrapped):
    proof, cache = tmp_path / "it-ran", tmp_path / "cache"
    cache.mkdir()
    data = pickled(tmp_path / "x.pt", {"state": Hostile(proof)}) if wrapped else pickle.dumps(Hostile(proof))
    # The hash is right, as it would be if the catalogue itself had been led astray.
    file = WeightFile("w.safetensors", sha256=hashlib.sha256(data).hexdigest(), size=len(data), original="x.pt")
    with pytest.raises(RefusedError, match=r"x\.pt can't be opened as plain tensors"):
        keep([data], cache / "w.safetensors", file, convert=True)
    assert not proof.exists()
    assert list(cache.iterdir()) == []


def test_a_pickle_without_the_promised_state_is_refused(tmp_path):
    data = pickled(tmp_path / "x.pt", {"other": {}})
    file = WeightFile("w.safetensors", sha256=hashlib.sha256(data).hexdigest(), original="x.pt", state="state")
    with pytest.raises(RefusedError, match="plain tensors"):
        keep([data], tmp_path / "w.safetensors", file, convert=True)


def test_the_lock_keeps_a_second_program_waiting_until_the_first_is_gone(tmp_path):
    # The holder never lets go: it is killed, and the system drops the lock.
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import pathlib, sys, time
                from mer_agent.encoders.storing import locked
                with locked(pathlib.Path(sys.argv[1]), lambda: None):
                    print("held", flush=True)
                    time.sleep(60)
            """),
            str(tmp_path / "lock"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    waited = []

    def waiting():
        waited.append(1)
        if len(waited) == 3:
            holder.kill()

    with holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with locked(tmp_path / "lock", waiting):
                assert len(waited) >= 3
        finally:
            holder.kill()
