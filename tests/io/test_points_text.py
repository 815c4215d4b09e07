"""Text tables: the fast reader gives what numpy's gives, bit for bit, and leaves to it what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.io import FileError
from bev.io.points.text import _load_plain, decode_lines, parse_rows

NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda x: f"{x:.9g}"),
    st.sampled_from(["-0", "0", "-0.0", "1e5", "1E-05", "123456789012345678901", "9007199254740993"]),
)


@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=20))
@settings(deadline=None)
def test_plain_lines_are_what_numpy_reads(rows: list[tuple[str, str, str]]) -> None:
    lines = [" ".join(row) for row in rows]
    fast, slow = _load_plain(lines, 3), np.loadtxt(lines, ndmin=2)
    assert fast is not None and fast.tobytes() == slow.tobytes()  # also the sign of a zero


ODD = ["nan", "inf", "+1", ".5", "1.", "007", "1e999", "1  2", "1\u00a02", "true", '"1"', "1]"]


@pytest.mark.parametrize("odd", ODD)
def test_other_lines_are_left_to_numpy(odd: str) -> None:
    assert _load_plain(["1 2 3", f"{odd} 5 6"], 3) is None


def test_brackets_are_no_lines() -> None:
    for lines in (["1 2],[3 4", "5 6"], ["1 2],[3 4"]):
        assert _load_plain(lines, 2) is None
        with pytest.raises(FileError, match="line 1 of the data has 3 values, expected 2"):
            parse_rows(lines, "a.xyz", [np.dtype("f8")] * 2)


def test_lines_are_stripped_whatever_their_ends() -> None:
    for data in (b"1 2\n3 4", b" 1 2 \r\n3 4\r\n", b"1,2\r3;4\r", "\ufeff1\t2\n\u00a03 4\n".encode()):
        assert [line for line in decode_lines(data, "x") if line] == ["1 2", "3 4"]
