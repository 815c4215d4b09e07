"""LZF: the plain form against liblzf, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bev.io.points import lzf

REPETITIVE = st.lists(st.sampled_from([b"abc", b"a" * 300, b"\0", b"point", bytes(range(64))]), max_size=60).map(
    b"".join
)


@given(st.one_of(st.binary(max_size=400), REPETITIVE))
def test_plain_python_undoes_itself_and_the_library(data: bytes) -> None:
    packed = lzf._compress(data)
    assert lzf._decompress(packed, len(data)) == data
    assert lzf.decompress(lzf.compress(data), len(data)) == data
    library = lzf._library()
    if library and data:
        assert library.decompress(packed, len(data)) == data
        assert lzf._decompress(library.compress(data, len(data) * 2 + 64), len(data)) == data


def test_repetition_is_packed() -> None:
    assert len(lzf._compress(b"0123456789" * 1000)) < 200


@pytest.mark.parametrize("packed", [b"\x05abc", b"\xe0", b"\x20\x10", b"\x00a\x20\x05", b"\x02abc"])
@pytest.mark.parametrize("size", [6, 10000])
def test_damaged_data_raise(packed: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut in a run or a copy, a copy from before the start, too few bytes; with and without liblzf."""
    for library in (lzf._library, lambda: None):
        monkeypatch.setattr(lzf, "_library", library)
        with pytest.raises(ValueError):
            lzf.decompress(packed, size)
