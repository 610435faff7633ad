"""What a user may call a microphone or a camera, and which one is meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mer_agent.errors import DeviceError

DEFAULT = "default"
"""Stands for the device that the system prefers."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One microphone or camera of this machine."""

    index: int
    name: str
    format: str
    """What it gives by default, for people: `2 channels, 44100 Hz`, `640x480, 30 Hz`."""
    default: bool = False
    rate_hz: float = 0.0
    channels: int = 0


def choose(devices: Sequence[DeviceInfo], wanted: str, kind: str) -> DeviceInfo:
    """Gives the device that `wanted` means: `default`, an index, a name, or a part of one name (in any case).

    Args:
        devices: those that there are.
        wanted: what the user typed.
        kind: `microphone` or `camera`, for the message.

    Raises:
        DeviceError: there is none at all, none of that name, or more than one.
    """
    if not devices:
        raise DeviceError(f"no {kind} was found; is one connected, and may this user open it?")
    if wanted.isdecimal():
        found = [device for device in devices if device.index == int(wanted)]
    else:
        found = [device for device in devices if device.name.casefold() == wanted.casefold()]
        if not found and wanted == DEFAULT:
            found = [device for device in devices if device.default] or list(devices[:1])
        if not found:
            found = [device for device in devices if wanted.casefold() in device.name.casefold()]
    if len(found) > 1:
        names = ", ".join(f"{device.index} {device.name}" for device in found)
        raise DeviceError(f"more than one {kind} is called {wanted!r}: {names}; name it by its number")
    if not found:
        near = difflib.get_close_matches(wanted, [device.name for device in devices], n=1, cutoff=0.5)
        listed = ", ".join(f"{device.index} {device.name}" for device in devices)
        hint = f"did you mean {near[0]!r}?" if near else f"there is: {listed}."
        raise DeviceError(f"there is no {kind} {wanted!r}; {hint} `mer-agent devices` lists all")
    return found[0]
