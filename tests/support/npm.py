"""Packages of npm that tests run against: installed once, into a cache outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import platformdirs
from support import needs

PACKAGE = Path(__file__).parents[1] / "package.json"


def folder() -> Path:
    """A folder whose `node_modules` has what tests/package.json names; a changed list gets a folder of its own."""
    wanted = PACKAGE.read_bytes()
    found = Path(platformdirs.user_cache_dir("mer-agent-tests")) / f"npm-{hashlib.sha256(wanted).hexdigest()[:12]}"
    if not found.is_dir():
        # Next to it first: an install that was broken off is never taken for a whole one.
        building = found.with_name(f"{found.name}.{os.getpid()}")
        building.mkdir(parents=True)
        (building / PACKAGE.name).write_bytes(wanted)
        command = [needs.program("npm"), "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=building, capture_output=True, text=True, timeout=300)
        if done.returncode:
            shutil.rmtree(building)
            raise AssertionError(f"npm install failed: {done.stderr[-500:]}")
        building.rename(found)
    return found


def run(script: str, *arguments: str, timeout_s: float = 60) -> str:
    """Runs a script (an ES module) with node among those packages, and gives what it prints."""
    command = [needs.program("node"), "--input-type=module", "--eval", script, "--", *arguments]
    done = subprocess.run(command, cwd=folder(), capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout
