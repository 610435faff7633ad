"""The catalogue that ships is whole and honest, and a broken one is refused."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from mer_agent.encoders import catalogue
from mer_agent.encoders.catalogue import Wheel, parse
from mer_agent.errors import WeightsError

ENTRIES = list(catalogue.load().values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_says_what_it_is_and_what_its_bytes_must_be(entry):
    assert entry.description
    assert entry.role
    assert entry.origin
    assert re.fullmatch(r"MIT|Apache-2\.0|BSD-3-Clause|LicenseRef-[a-z-]+", entry.licence)
    assert entry.files
    assert entry.wheels or entry.hub, "nobody has it"
    for file in entry.files:
        if not entry.wheels:  # the hub's own: pinned at the first pull
            assert file.sha256 is None
            continue
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.size > 0
        assert bool(file.parts) != bool(file.member), "either parts of wheels or a member of the archive"
        assert not file.member or entry.archive


def test_what_is_pulled_without_names_is_what_the_agent_and_the_demo_need():
    assert [entry.name for entry in ENTRIES if entry.default] == [
        "whisper-base",
        "mpnet",
        "ge2e",
        "yunet",
        "sample-conversation",
    ]


def test_pickles_are_only_ever_kept_as_safetensors():
    for entry in ENTRIES:
        for file in entry.files:
            assert not file.name.endswith((".pt", ".ckpt", ".pkl", ".pth"))
            if file.original:
                assert file.name.endswith(".safetensors")
                assert re.fullmatch(r"[0-9a-f]{64}", file.kept_sha256)
                assert file.kept_size > 0


def test_every_wheel_is_pinned_to_one_version_and_no_host_is_named():
    for entry in ENTRIES:
        for wheel in entry.wheels.values():
            assert re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", wheel.requirement)
            assert wheel.size > 0
    assert "://" not in resources.files("mer_agent.encoders").joinpath("catalogue.toml").read_text(encoding="utf-8")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(WeightsError, match="'whisper-bas'; did you mean whisper-base"):
        catalogue.find("whisper-bas")
    with pytest.raises(WeightsError, match="weights list"):
        catalogue.find("zzzzzz")


HEAD = 'description = "d"\nrole = "r"\nlicence = "MIT"\norigin = "o"\n'


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "C:evil", ""])
def test_a_file_name_that_leaves_its_folder_is_refused(name):
    with pytest.raises(WeightsError, match="not a plain file name"):
        parse(f'[x]\n{HEAD}[[x.files]]\nname = "{name}"\n')


def test_a_part_of_an_undeclared_wheel_is_refused():
    with pytest.raises(WeightsError, match="undeclared wheel"):
        parse(f'[x]\n{HEAD}[[x.files]]\nname = "f"\nparts = ["w:path"]\n')


@pytest.mark.parametrize(
    ("filename", "same"),
    [
        ("all_mpnet_part_001-0.0.1-py3-none-any.whl", True),
        ("All.mpnet_part_001-0.0.1-1-py3-none-any.whl", True),
        ("all_mpnet_part_001-0.0.2-py3-none-any.whl", False),
        ("all_mpnet_part_002-0.0.1-py3-none-any.whl", False),
        ("all_mpnet_part_001-0.0.1.tar.gz", False),
        ("all_mpnet_part_001.whl", False),
    ],
)
def test_a_wheel_is_known_by_name_and_version_whatever_the_spelling(filename, same):
    assert Wheel("all-mpnet-part-001==0.0.1", 1).is_file(filename) is same


def test_sizes_add_up_and_are_unknown_where_only_the_hub_knows():
    base = catalogue.find("whisper-base")
    assert base.size == 145_217_532 + 2_309 + 2_203_239 + 459_861
    assert base.download_size == 66_273_783 + 67_069_883
    large = catalogue.find("roberta-large")
    assert large.size is None
    assert large.download_size is None
