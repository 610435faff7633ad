"""What a real test needs: skipped with a reason where it is missing, failed in CI, where nothing may be skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

AGENT = ("whisper-base", "mpnet", "ge2e", "yunet")
"""Weights that the agent needs with the checkpoint that it takes by default."""


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have everything: {reason}")
    pytest.skip(reason)


def program(name: str) -> str:
    """Path of an installed program."""
    # Debian puts daemons such as mosquitto where a plain user's PATH doesn't look.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        _missing(f"the program {name} is not installed")
    return str(found)


def weights(name: str) -> Path:
    """Folder of pulled, verified weights."""
    from mer_agent.encoders import weights as catalogue
    from mer_agent.errors import WeightsError

    try:
        return catalogue.path(name)
    except WeightsError as error:
        _missing(str(error))
        raise  # never reached: `_missing` always ends the test
