"""Pickles from outside: data comes through, programs do not."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.io import FileError
from bev.io.pickle import loads, read_pickle

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=15,
)


@given(_PLAIN, st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_plain_data_comes_through(value: Any, protocol: int) -> None:
    assert loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=">i4").reshape(3, 4)),
        np.array(["car", "traffic_cone"]),
        np.array(["car", None, 3], object),
        np.zeros((0, 7), np.float32),
        np.array([True, False]),
        np.array([b"ab", b"c"]),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_arrays_come_through(array: np.ndarray, protocol: int) -> None:
    back = loads(pickle.dumps({"a": array, "b": [array]}, protocol))
    trusted = pickle.loads(pickle.dumps(array, protocol))  # numpy turns foreign byte orders to its own
    for found in (back["a"], back["b"][0]):
        assert found.dtype == trusted.dtype and found.shape == array.shape
        np.testing.assert_array_equal(found, array)


def test_a_data_type_used_twice_keeps_its_byte_order() -> None:
    back = loads(pickle.dumps([np.arange(3, dtype=">i4"), np.arange(4, dtype=">i4")], 2))
    assert [a.tolist() for a in back] == [[0, 1, 2], [0, 1, 2, 3]]


@pytest.mark.parametrize("scalar", [np.float64(1.5), np.int64(-3), np.bool_(True), np.float32(2.5)])
def test_scalars_come_through(scalar: Any) -> None:
    back = loads(pickle.dumps(scalar, 2))
    assert back == scalar and type(back) is type(scalar)


class _Runs:
    """A pickle that calls a function when it is opened."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {path}"),
        (eval, "open('{path}', 'w').close()"),
        (open, "{path}", "w"),
        (getattr, "a", "upper"),
        (np.fromfile, "{path}"),
        (bytearray, 10**12),
    ],
    ids=lambda c: c[0].__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(tmp_path: Path, call: Any, protocol: int) -> None:
    target = tmp_path / "made"
    function, *arguments = call
    filled = [a.format(path=target) if isinstance(a, str) else a for a in arguments]
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps({"infos": [_Runs(function, *filled)]}, protocol))
    with pytest.raises(FileError, match=rf"infos\.pkl: refused: it names .*{function.__name__}"):
        read_pickle(path)
    assert not target.exists()


def test_state_that_would_make_bytes_pass_for_pointers_is_refused() -> None:
    dtype_with_fields = pickle.dumps(np.zeros(2, [("a", "O")]), 2)
    with pytest.raises(FileError, match="refused"):
        loads(dtype_with_fields)
    good = pickle.dumps(np.array([None, None], object), 2)
    assert loads(good).tolist() == [None, None]
    # The same array, but with a number where its list of objects was.
    state = (1, (2,), np.dtype(object), False, b"\x01" * 16)
    with pytest.raises(FileError, match="content does not fit"):
        loads(pickle.dumps(_State(state), 2))


class _State:
    """Pickles as an empty array that is given a state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return np.core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x04K\x01r\xff\xff\xff\xff.",  # a memo of 4 G entries
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"ab.",  # bytes of an exabyte
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"ab.",  # a text of four
        pickle.dumps(_State((1, (1 << 40,), np.dtype("f8"), False, b"12345678")), 2),
    ],
    ids=["memo", "bytes", "text", "array"],
)
def test_sizes_that_are_not_there_cost_nothing(bomb: bytes) -> None:
    if bomb.endswith(b"r\xff\xff\xff\xff."):
        assert loads(bomb) == 1
        return
    with pytest.raises(FileError):
        loads(bomb)


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_damage_is_a_clean_error_or_data(junk: bytes, position: int, value: int) -> None:
    whole = bytearray(pickle.dumps({"infos": [{"token": "a", "boxes": np.ones((2, 7))}], "n": np.float64(2)}, 2))
    whole[position % len(whole)] = value
    for data in (junk, bytes(whole), bytes(whole[:position])):
        try:
            loads(data)
        except FileError:
            pass


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nothing.pkl: cannot read"):
        read_pickle(tmp_path / "nothing.pkl")
