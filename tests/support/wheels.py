"""Small wheels that real pip accepts, a catalogue that points at them, and a stand-in for pip that logs its calls."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path


def build_wheel(folder: Path, name: str, version: str, files: Mapping[str, bytes], tag: str = "py3-none-any") -> Path:
    """Writes a valid wheel that holds `files`."""
    info = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in content.items()
    ]
    content[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in content.items():
            archive.writestr(member, data)
    return path


def pin(data: bytes) -> str:
    """The lines of a catalogue that say what a file's bytes are."""
    return f'size = {len(data)}\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'


_PIP = """
import json, os, pathlib, shutil, sys, time
place = pathlib.Path(__file__).parent
orders = json.loads((place / "orders.json").read_text())
arguments = sys.argv[1:]
requirement = arguments[1]
with (place / "calls.jsonl").open("a") as log:
    call = {"arguments": arguments, "index": os.environ.get("PIP_INDEX_URL"), "pid": os.getpid()}
    log.write(json.dumps(call) + "\\n")
order = orders.get(requirement, {})
wheel = next(pathlib.Path(orders["shelf"]).glob(requirement.replace("-", "_").replace("==", "-") + "-*.whl"))
data = wheel.read_bytes()
scratch = pathlib.Path(os.environ["TMPDIR"]) / "pip-unpack-1"
scratch.mkdir()
half = scratch / wheel.name
half.write_bytes(data[: len(data) // 2])
time.sleep(order.get("seconds", 0))
if "fails" in order:
    print(order["fails"])
    sys.exit(1)
half.write_bytes(data)
landing = pathlib.Path(arguments[arguments.index("--dest") + 1])
landing.mkdir()
shutil.copy(half, landing)
"""


class FakePip:
    """A program that is called like pip and takes its wheels from `shelf`.

    `orders` maps a requirement to how it behaves: `seconds` that it takes, `fails` with this output.
    """

    def __init__(self, folder: Path, shelf: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.shelf = shelf
        self.order({})
        (folder / "pip.py").write_text(_PIP)

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, str(self.folder / "pip.py"))

    def order(self, orders: Mapping[str, Mapping[str, object]]) -> None:
        (self.folder / "orders.json").write_text(json.dumps({"shelf": str(self.shelf), **orders}))

    def calls(self) -> list[dict[str, object]]:
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def fetched(self) -> list[str]:
        """The requirements that were asked for, in order."""
        return [call["arguments"][1] for call in self.calls()]  # type: ignore[index]
