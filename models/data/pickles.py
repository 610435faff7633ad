"""Reads a pickle without running anything in it.

A pickle is a small program that may call any function by its name. Published features come as pickles all the same, so
this reader admits only the names by which numpy arrays and plain sets are stored (`ALLOWED`), and it lets none of them
do its own work: each is answered by a small stand-in here, which checks what it is given. Any other name, such as
`os.system`, is refused when it is looked up, before it could be called.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mer_agent.errors import DataError

_KINDS = frozenset("biufSUO?")


class _Dtype:
    """Stands for `numpy.dtype`: the kind and size of numbers and strings, nothing structured."""

    def __init__(self, code: object, *_: object) -> None:
        if isinstance(code, bytes):
            code = code.decode("latin1")
        if not isinstance(code, str) or code[:1] not in _KINDS or not (code[1:] or "1").isdigit():
            raise pickle.UnpicklingError(f"an array of {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of structures")
        self.value = self.value.newbyteorder("=" if order == "|" else order)


class _Array:
    """Stands for an array until `_plain` puts the array in its place."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype("f4")
        self.content: Any = b""
        self.is_fortran = False

    def __setstate__(self, state: Any) -> None:
        shape, dtype, is_fortran, content = state[-4:]
        self.fill(shape, dtype, content, bool(is_fortran))

    def fill(self, shape: Any, dtype: Any, content: Any, is_fortran: bool) -> None:
        if not isinstance(dtype, _Dtype) or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise pickle.UnpicklingError("a malformed array")
        self.shape, self.dtype, self.content, self.is_fortran = tuple(shape), dtype.value, content, is_fortran
        if self.dtype.kind == "O":
            matches = isinstance(content, list) and len(content) == math.prod(self.shape)
        else:
            self.content = content.encode("latin1") if isinstance(content, str) else bytes(content)
            matches = len(self.content) == math.prod(self.shape) * self.dtype.itemsize
        if not matches:
            raise pickle.UnpicklingError("an array of another size than it says")

    def value(self) -> Any:
        """Gives the array; nested lists for an array of objects."""
        if self.dtype.kind == "O":
            flat: Any = np.empty(len(self.content), dtype=object)
            flat[:] = [_plain(item) for item in self.content]
        else:
            flat = np.frombuffer(self.content, self.dtype)
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")


_NDARRAY = "numpy.ndarray"  # a word, so that nobody can call it


def _reconstruct(subtype: object, _shape: object, _code: object) -> _Array:
    if subtype is not _NDARRAY:
        raise pickle.UnpicklingError("an array of another class")
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: str) -> _Array:
    array = _Array()
    array.fill(shape, dtype, content, order == "F")
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    array = _Array()
    array.fill((), dtype, content, False)
    if array.dtype.kind == "O":
        raise pickle.UnpicklingError("a malformed number")
    return array.value()[()].item()


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Answers for `bytes()`, as which older pickles write the content of an empty array."""
    return b""


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,  # how Python 3 writes bytes for Python 2, and so the content of an array
}
"""Module and name in a pickle -> what answers for it here."""
for _module in ("numpy.core", "numpy._core"):  # before and since numpy 2
    ALLOWED[f"{_module}.multiarray", "_reconstruct"] = _reconstruct
    ALLOWED[f"{_module}.multiarray", "scalar"] = _scalar
    ALLOWED[f"{_module}.numeric", "_frombuffer"] = _from_buffer
for _module in ("builtins", "__builtin__"):  # Python 3 and 2
    ALLOWED[_module, "bytes"] = _no_bytes
    ALLOWED[_module, "set"] = set
    ALLOWED[_module, "frozenset"] = frozenset


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no file of features needs") from None


def read_pickle(path: Path) -> Any:
    """Gives what a pickle holds: dicts, lists, tuples, sets, strings, numbers and numpy arrays.

    Byte strings of Python 2 are read as latin1.

    Raises:
        DataError: it can't be read, is damaged, or names anything else; nothing of it was run.
    """
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file, encoding="latin1").load())
    except OSError as error:
        raise DataError(f"can't read {path}: {error}") from error
    except Exception as error:  # a damaged pickle fails in any way at all; that none is let through is the point
        raise DataError(f"{path} is no pickle of plain features and was not run: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, str | bytes | int | float | bool | set | frozenset):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__}")
