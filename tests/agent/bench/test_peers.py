import subprocess
import sys
from pathlib import Path

import pytest

from mer_agent.bench import peers
from mer_agent.errors import FaultError

NAMES = tuple(peers.PEERS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peers, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(peers, "PEERS", {"nobody": (("--no-index", "pip"),), "broken": (("--no-such-option",),)})
    return tmp_path / "mer-agent" / "peers"


def test_an_environment_is_made_once_and_is_not_ours(cache: Path) -> None:
    said: list[str] = []
    python = peers.python("nobody", said.append)
    where = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(where.stdout.strip()).resolve() == (cache / "nobody").resolve() != Path(sys.prefix).resolve()
    assert peers.python("nobody", said.append) == python
    assert len(said) == 1
    assert str(cache / "nobody") in said[0]


def test_what_cannot_be_installed_is_said_and_tried_again(cache: Path) -> None:
    with pytest.raises(FaultError, match=r"broken can't be installed into .*no such option.*--no-peer"):
        peers.python("broken")
    assert not (cache / "broken" / "installed").exists()


def test_every_peer_has_its_script() -> None:
    assert all(peers.script(name).is_file() for name in NAMES)
