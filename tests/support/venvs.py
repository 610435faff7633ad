"""A virtual environment for packages that must not stand beside ours: made once, in a cache outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

import mer_agent

PACKAGES = Path(__file__).parents[1] / "integrations.txt"
EXAMPLES = Path(__file__).parents[2] / "examples"


def folder() -> Path:
    """An environment that has what tests/integrations.txt names; a changed list gets one of its own."""
    wanted = PACKAGES.read_bytes() + sys.version.encode()
    found = Path(platformdirs.user_cache_dir("mer-agent-tests")) / f"venv-{hashlib.sha256(wanted).hexdigest()[:12]}"
    whole = found / "whole"
    if not whole.exists():
        # An install that was broken off is never taken for a whole one.
        shutil.rmtree(found, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(found)], check=True)
        command = [str(found / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*command, "-r", str(PACKAGES)], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-500:]
        whole.touch()
    return found


def run(script: str, *arguments: str, timeout_s: float = 120) -> str:
    """Runs a script there, with our package and the examples on its path, and gives what it prints."""
    path = os.pathsep.join([str(Path(mer_agent.__file__).parents[1]), str(EXAMPLES)])
    command = [str(folder() / "bin/python"), "-c", script, *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
