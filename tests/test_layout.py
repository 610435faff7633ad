"""The structure that the documentation promises: who may import whom, what is in the wheel, what `--help` loads."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"agent": "mer_agent", **{name: f"mer_agent.{name}" for name in ("config", "streams", "encoders", "models")}}

# Imports run downward only: each layer may import those before it.
LAYERS = ("config", "streams", "encoders", "models", "agent")
LEAVES = {"mer_agent.errors", "mer_agent.streams.types"}
HEAVY = {"torch": {"encoders", "models"}, "transformers": {"encoders"}, "torch_geometric": {"models"}}
# They judge the whole agent as models are judged; `evaluate` and `bench` alone load them.
JUDGES = "agent/judging/"
ONE_PLACE = {
    "sounddevice": {"streams/microphone.py"},
    "cv2": {"streams/camera.py", "streams/faces.py"},  # it opens cameras, and it brings the face detector
    "aiomqtt": {"agent/wire/mqtt.py", "agent/bench/mqtt.py"},  # the bench compares us with it
    "amqtt": {"agent/wire/broker.py"},
    "faster_whisper": {"streams/transcriber.py", "encoders/whisper_layers.py"},  # the words, and Whisper's log-mel
}
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every absolute name that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the import in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return part if part in LAYERS else "agent"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward_only(path: Path) -> None:
    mine = LAYERS.index(path.relative_to(ROOT).parts[0])
    for name in imports(path):
        if name.split(".")[0] != "mer_agent" or any(name.startswith(leaf) for leaf in LEAVES):
            continue
        assert LAYERS.index(layer(name)) <= mine, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_and_platform_bound_packages_stay_in_their_place(path: Path) -> None:
    relative = path.relative_to(ROOT)
    packages = {name.split(".")[0] for name in imports(path)}
    for package, folders in HEAVY.items():
        if package == "torch" and str(relative).startswith(JUDGES):
            continue
        assert package not in packages or relative.parts[0] in folders, f"{relative} imports {package}"
    for package, files in ONE_PLACE.items():
        assert package not in packages or str(relative) in files, f"{relative} imports {package}"


@pytest.mark.parametrize("arguments", [["--help"], ["config"], ["listen", "--help"]], ids=" ".join)
def test_the_command_line_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from mer_agent.cli import main\n"
        f"sys.argv = ['mer-agent', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'cv2', 'faster_whisper', 'onnxruntime', 'numpy', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    # From a copy: a build leaves its folder behind, and old files in it would end up in the next wheel.
    copy = tmp_path / "source"
    copy.mkdir()
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(copy)], check=True)
    done = subprocess.run([*build, str(copy)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder)}"
                assert name in inside, f"{name} is missing from the wheel"
    tops = {name.split("/")[0] for name in inside}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mer_agent"}


def test_each_test_file_mirrors_a_source_file() -> None:
    for folder in FOLDERS:
        for test in (ROOT / "tests" / folder).rglob("test_*.py"):
            # test_publisher_brokers.py: more of test_publisher.py; test_client.py: of the folder client
            name = test.stem.removeprefix("test_")
            sources = {path.stem for path in (ROOT / test.parent.relative_to(ROOT / "tests")).glob("*")}
            assert any(name == source or name.startswith(f"{source}_") for source in sources), f"{test} mirrors nothing"
