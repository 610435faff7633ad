"""What can go wrong, as one small tree.

    MerError                      anything the agent itself reports; the command line prints it as one line
    ├── InputError                the user can mend it: exit code 2
    │   ├── ConfigError           an unknown key, a value out of range
    │   ├── DeviceError           a microphone or camera that is unknown or can't be opened
    │   ├── MediaError            a file that is missing, not media, or without sound
    │   ├── WeightsError          weights that are absent, of the wrong hash or unknown
    │   ├── CheckpointError       a checkpoint that is broken or expects other features
    │   ├── DataError             training data that are missing or malformed
    │   └── MissingExtraError     a package of an extra is not installed
    ├── RegressionError           a new checkpoint is worse than the shipped one: exit code 1
    └── FaultError                the world failed: exit code 1
        ├── AnswerError           an agent refused what it was asked, or didn't answer
        └── BrokerError           the MQTT broker refused or can't be reached
            └── RefusedError      it lets us in, but not read or write a topic

Each message says what happened *and* what to do about it. This module imports nothing.
"""

from __future__ import annotations


class MerError(Exception):
    """Any error that is reported to the user as one line, without a traceback."""

    exit_code = 1


class InputError(MerError):
    """What was asked for can't be done as asked; the user can mend it."""

    exit_code = 2


class ConfigError(InputError):
    """A setting is unknown or has a value that it can't have."""


class DeviceError(InputError):
    """A microphone or camera is unknown, busy, gone, or can't be opened as asked."""


class MediaError(InputError):
    """A recording is missing, is not media, is damaged from the start, or holds no sound."""


class WeightsError(InputError):
    """Pretrained weights are unknown, not pulled yet, or differ from their sha256."""


class CheckpointError(InputError):
    """A checkpoint is damaged, or was trained on features of another recipe."""


class DataError(InputError):
    """A data set is missing, incomplete or malformed."""


class MissingExtraError(InputError):
    """A Python package that belongs to one of the project's extras is not installed."""


class RegressionError(MerError):
    """A new checkpoint judges worse than the shipped one by more than chance."""


class FaultError(MerError):
    """Something outside the program failed while it ran."""


class AnswerError(FaultError):
    """An agent refused a turn or a command, or didn't answer in time."""


class BrokerError(FaultError):
    """The MQTT broker refused the connection or can't be reached."""


class RefusedError(BrokerError):
    """The MQTT broker doesn't let us read or write a topic."""
