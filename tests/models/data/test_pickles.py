"""A pickle gives arrays and nothing else; one that wants to run something is refused before it can."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import subprocess

import numpy as np
import pytest

from mer_agent.errors import DataError
from mer_agent.models.data.pickles import ALLOWED, read_pickle

CONTENT = {
    "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "big-endian": np.array([1.5, -2.0], dtype=">f8"),
    "empty": np.zeros((0, 7), np.float32),
    "words": np.array(["uh", "hm"]),
    "scalar": np.float64(2.5),
    "flag": np.bool_(True),
    "plain": [("a", 1, 2.5, None, True), {"x", "y"}, frozenset({1})],
    "objects": np.array([[1, 2], None, "three"], dtype=object),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_things_come_back(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol))
    found = read_pickle(path)
    assert list(found) == list(CONTENT)
    for name in ("numbers", "turned", "big-endian", "empty", "words"):
        assert found[name].tolist() == CONTENT[name].tolist()
        assert found[name].shape == CONTENT[name].shape
        assert found[name].dtype == CONTENT[name].dtype
    assert (found["scalar"], found["flag"], found["plain"]) == (2.5, True, CONTENT["plain"])
    assert found["objects"].tolist() == CONTENT["objects"].tolist()


def test_what_python_2_and_numpy_1_wrote_is_read(tmp_path):
    # The program that Python 2's cPickle writes for {'Ses01': array([[1., 2.]])}: byte strings and older names.
    content = np.array([[1.0, 2.0]]).tobytes()
    raw = b"U" + bytes([len(content)]) + content
    program = (
        b"\x80\x02}q\x01U\x05Ses01q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
        b"K\x00\x85U\x01b\x87R(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + raw + b"tbs."
    )
    pickletools.dis(program, out=io.StringIO())  # it is a proper pickle
    (tmp_path / "a.pkl").write_bytes(program)
    assert read_pickle(tmp_path / "a.pkl")["Ses01"].tolist() == [[1.0, 2.0]]


class Call:
    """Pickled, it asks the reader to call `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.plan = (function, arguments)

    def __reduce__(self):
        return self.plan


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: ({"Ses01": [evil]},) * 9])
def test_a_pickle_that_would_run_a_command_runs_nothing(tmp_path, protocol, wrap):
    mark, path = tmp_path / "was-run", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(wrap(Call(os.system, f"touch {mark}")), protocol))
    with pytest.raises(DataError, match=r"was not run: .*(posix|nt)\.system"):
        read_pickle(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # noqa: S301  # the proof that it is a live one
    assert mark.exists()


@pytest.mark.parametrize(
    "evil",
    [
        Call(eval, "1/0"),
        Call(exec, "raise SystemExit"),
        Call(getattr, "a", "upper"),
        Call(__import__, "os"),
        Call(open, "a", "w"),
        Call(subprocess.Popen, ["true"]),
        Call(np.load, "a.npy", None, True),
        Call(np.zeros, 10**12),
        Call(np.ndarray, (10**12,)),
        Call(bytearray, 10**12),
        Call(bytes, 10**12),
        Call(np.dtype, [("a", "f4")]),
    ],
    ids=lambda evil: evil.plan[0].__name__,
)
def test_no_other_function_is_called(tmp_path, evil):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(evil))
    with pytest.raises(DataError, match="was not run"):
        read_pickle(tmp_path / "a.pkl")


def test_an_array_may_not_lie_about_its_size(tmp_path):
    program = pickle.dumps(np.zeros((3, 5), np.float32), 2).replace(b"K\x03K\x05\x86", b"K\x7fK\x7f\x86")
    (tmp_path / "a.pkl").write_bytes(program)
    with pytest.raises(DataError, match="another size"):
        read_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04.", pickle.dumps(CONTENT)[:-20]])
def test_a_damaged_one_is_a_clear_error(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.pkl is no pickle"):
        read_pickle(tmp_path / "a.pkl")
    with pytest.raises(DataError, match="can't read"):
        read_pickle(tmp_path / "b.pkl")


def test_one_that_holds_itself_is_refused(tmp_path):
    endless = []
    endless.append(endless)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(endless))
    with pytest.raises(DataError, match="was not run"):
        read_pickle(tmp_path / "a.pkl")


def test_the_list_of_names_is_short():
    assert {module.split(".")[0] for module, _ in ALLOWED} == {"numpy", "_codecs", "builtins", "__builtin__"}
    assert len(ALLOWED) == 15
