"""Column files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.io import FileError
from bev.io.columns import Strings, open_columns, write_columns


@given(st.lists(st.text()))
@settings(deadline=None)
def test_texts_round_trip(texts: list[str]) -> None:
    packed = Strings.pack(texts)
    assert list(packed) == texts and [packed[i] for i in range(len(packed))] == texts
    with pytest.raises(IndexError):
        packed[len(texts)]


def test_columns_round_trip_mapped_and_read_only(tmp_path: Path) -> None:
    columns = {
        "a": np.arange(6.0).reshape(2, 3),
        "empty": np.zeros((0, 4), np.int16),
        "flag": np.array([True, False, True]),
        "turned": np.arange(6).reshape(2, 3).T,
    }
    write_columns(tmp_path / "x.columns", columns, {"format": 3})
    back, meta = open_columns(tmp_path / "x.columns")
    assert meta == {"format": 3} and set(back) == set(columns)
    for name, column in columns.items():
        assert back[name].dtype == column.dtype
        np.testing.assert_array_equal(back[name], column)
    with pytest.raises(ValueError):
        back["a"][0, 0] = 1
    assert list(tmp_path.iterdir()) == [tmp_path / "x.columns"]


@pytest.mark.parametrize("keep", [0, 5, 20, 150, -60])
def test_a_cut_file_is_an_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.columns"
    write_columns(path, {"a": np.arange(100.0)}, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match="x.columns"):
        open_columns(path)
