"""Every encoder keeps the contract, our own and those that other packages bring."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import encoder_contract, needs

from mer_agent.encoders import base
from mer_agent.encoders.base import Encoder
from mer_agent.errors import CheckpointError

ROOT = Path(__file__).parents[2]
WEIGHTS = {
    "audio/ge2e@1": ("ge2e",),
    "audio/emotion@6": ("whisper-base",),
    "audio/overlap@1": ("ge2e",),
    "text/minilm@1": ("minilm",),
    "visual/ferplus@1": ("yunet",),
}
"""What has to be pulled; `mpnet` for the other texts."""
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def create(feature: str, device: str = "cpu") -> Encoder:
    for name in WEIGHTS.get(feature, ("mpnet",) if feature.startswith("text/mpnet") else ()):
        needs.weights(name)
    return base.create(feature, device)


@pytest.mark.real_weights
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("feature", base.features())
def test_keeps_the_contract(feature: str, device: str) -> None:
    encoder = create(feature, device)
    assert encoder.feature == feature
    encoder_contract.check(encoder)
    if device != "cpu":
        encoder_contract.check_devices(create(feature), encoder)


@pytest.mark.real_weights
@pytest.mark.parametrize("feature", ["text/minilm@1", "text/mpnet-tokens@1", "text/mpnet-emotion@1", "audio/ge2e@1"])
def test_half_the_precision_is_near_and_only_where_it_pays(feature: str) -> None:
    exact, coarse = create(feature), base.create(feature, "cpu", "bfloat16")
    some = encoder_contract.examples()
    for one, other in zip(exact.encode(some), coarse.encode(some), strict=True):
        assert one is not None
        assert other is not None
        assert other.dtype == torch.float32
        assert torch.allclose(one, other, rtol=0, atol=1e-5) is (exact.modality != "text")
        assert torch.nn.functional.cosine_similarity(one, other, 0) > 0.99


@pytest.mark.parametrize("feature", base.features())
def test_has_a_card(feature: str) -> None:
    cards = [path for path in (ROOT / "docs" / "cards").glob("*.md") if path.name != "README.md"]
    assert any(f"`{feature}`" in path.read_text(encoding="utf-8") for path in cards), f"no card names {feature}"


def test_an_unknown_feature_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(CheckpointError, match=r"no encoder makes text/nothing@1.*audio/prosody@1"):
        base.create("text/nothing@1")


_MODULE = """
import torch

class Loudness:
    feature = "audio/rms@1"
    modality = "audio"
    dimension = 1

    def __init__(self, device):
        self.device = device

    def encode(self, utterances, past_turns=()):
        sounds = [one.speech for one in utterances]
        return [None if s is None else self.level(torch.from_numpy(s.copy())) for s in sounds]

    def level(self, sound):
        clean = sound.nan_to_num(0, 0, 0).clamp(-1, 1)
        return clean.square().mean().sqrt().reshape(1) if len(clean) else torch.zeros(1)

def misnamed(device):
    return Loudness(device)

def broken(device):
    raise RuntimeError("no such chip")
"""
_PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "loud-encoders"
version = "1.0"
[tool.setuptools]
py-modules = ["loud_encoders"]
[project.entry-points."mer_agent.encoders"]
"audio/rms@1" = "loud_encoders:Loudness"
"audio/other@1" = "loud_encoders:misnamed"
"audio/broken@1" = "loud_encoders:broken"
"audio/gone@1" = "loud_encoders:gone"
"audio/ge2e@1" = "loud_encoders:Loudness"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "loud_encoders.py").write_text(_MODULE)
    (source / "pyproject.toml").write_text(_PROJECT)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return site


class TestOtherPackages:
    """A real distribution, installed into a folder of the test's own."""

    @pytest.fixture(autouse=True)
    def on_path(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(installed))
        importlib.invalidate_caches()

    def test_bring_encoders_that_keep_the_contract(self) -> None:
        assert "audio/rms@1" in base.features()
        encoder_contract.check(base.create("audio/rms@1", "cpu"))

    def test_can_t_take_the_place_of_ours(self) -> None:
        needs.weights("ge2e")
        assert base.create("audio/ge2e@1", "cpu").dimension == 256

    @pytest.mark.parametrize(
        ("feature", "message"),
        [
            ("audio/other@1", "is no encoder of audio/other@1"),
            ("audio/broken@1", "no such chip"),
            ("audio/gone@1", "mend or uninstall its package"),
        ],
    )
    def test_that_are_broken_are_named(self, feature: str, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            base.create(feature, "cpu")
