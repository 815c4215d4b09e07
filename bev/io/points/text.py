"""Tables of numbers as text: what ASCII PCD and PLY, .xyz, .pts and .ptx have in common."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import chain
from typing import BinaryIO

import msgspec
import numpy as np

from bev.io.errors import FileError
from bev.io.points.columns import Columns, cast_exactly

_TO_SPACE = bytes.maketrans(b",;\t\v\f", b"     ")
_CHUNK_ROWS = 1 << 16
_PARSED_ROWS = 1 << 13
_MAX_FAST_COLUMNS = 64
_NEGATIVE_ZERO = re.compile(r"(?<=[,\[])-0(?=[,\]])")


def decode_lines(data: bytes, where: str) -> list[str]:
    """Lines of any line ending, separators (commas, semicolons, tabs) as spaces, without surrounding blanks.

    Raises:
        FileError: bytes that are no text.
    """
    if b"\0" in data:
        raise FileError(f"{where}: byte {data.index(0)} is zero: this is not text")
    if any(blank in data for blank in b",;\t\v\f"):
        if b",," in data.translate(None, b" \t"):
            raise FileError(f"{where}: a value between two commas is missing")
        data = data.translate(_TO_SPACE)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{where}: byte {error.start} is not text") from error
    lines = (text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text).split("\n")
    blanks = not text.isascii() or " \n" in text or "\n " in text or "\r" in text or text[:1] == " " or text[-1:] == " "
    return [line.strip() for line in lines] if blanks else lines


def parse_rows(lines: Sequence[str], where: str, types: Sequence[np.dtype] | None = None) -> list[np.ndarray]:
    """Columns of the lines that are not empty.

    Args:
        where: file and part, for messages.
        types: of each column; without them all are float64 and there are as many as the first line has.

    Raises:
        FileError: a line with another number of values, a value that is no number or does not fit its type.
    """
    rows = [line for line in lines if line]
    if types is None:
        types = [np.dtype(np.float64)] * (len(rows[0].split()) if rows else 0)
    if not rows:
        return [np.zeros(0, dtype) for dtype in types]
    # float64 holds every integer of up to 32 bits; 64-bit integers are read as what they are.
    parsed = [dtype if dtype.kind in "iu" and dtype.itemsize == 8 else np.dtype(np.float64) for dtype in types]
    if all(dtype.kind == "f" for dtype in parsed) and (plain := _load_plain(rows, len(types))) is not None:
        return [_cast(plain[:, k], dtype, k, where) for k, dtype in enumerate(types)]
    table = _load(rows, np.dtype([(f"c{k}", dtype) for k, dtype in enumerate(parsed)]), where)
    return [_cast(table[f"c{k}"], dtype, k, where) for k, dtype in enumerate(types)]


def _load_plain(rows: Sequence[str], width: int) -> np.ndarray | None:
    """(R, width) float64 of lines with one blank between numbers that JSON would write; None of others.

    msgspec's JSON decoder rounds correctly, as numpy's reader does, in half its time.
    """
    if not 0 < width <= _MAX_FAST_COLUMNS:
        return None
    decoder = msgspec.json.Decoder(list[tuple[(float,) * width]])  # type: ignore[misc]
    table = np.empty((len(rows), width))
    for start in range(0, len(rows), _PARSED_ROWS):
        chunk = rows[start : start + _PARSED_ROWS]
        text = "[[" + "],[".join(chunk).replace(" ", ",") + "]]"
        if any(zero in text for zero in (",-0,", "[-0,", ",-0]")):
            text = _NEGATIVE_ZERO.sub("-0.0", text)  # as a whole number it would lose its sign
        try:
            found = decoder.decode(text)
        except msgspec.DecodeError:
            return None
        if len(found) != len(chunk):
            return None
        part = table[start : start + len(chunk)]
        part[:] = np.fromiter(chain.from_iterable(found), np.float64, part.size).reshape(part.shape)
    return table


def _load(rows: Sequence[str], dtype: np.dtype, where: str) -> np.ndarray:
    width = len(dtype.names or ())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.loadtxt(rows, dtype, comments=None, ndmin=1)
    except (ValueError, OverflowError, DeprecationWarning) as error:
        for number, row in enumerate(rows, 1):
            if len(row.split()) != width:
                found = f"line {number} of the data has {len(row.split())} values, expected {width}"
                raise FileError(f"{where}: {found}") from error
        raise FileError(f"{where}: {error}") from error


def _cast(column: np.ndarray, dtype: np.dtype, index: int, where: str) -> np.ndarray:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return column.astype(dtype)
    cast = cast_exactly(column, dtype)
    if cast is None:
        raise FileError(f"{where}: column {index + 1} has a value that is not a whole number of type {dtype}")
    return cast


def write_rows(file: BinaryIO, columns: Sequence[np.ndarray]) -> None:
    """Lines of numbers with one space between them, each with the digits that read back to the same value."""
    if not columns:
        return
    row = " ".join(_format(column.dtype) for column in columns) + "\n"
    for start in range(0, len(columns[0]), _CHUNK_ROWS):
        parts = [column[start : start + _CHUNK_ROWS].tolist() for column in columns]
        values = [value for line in zip(*parts) for value in line]
        file.write((row * len(parts[0]) % tuple(values)).encode())


def _format(dtype: np.dtype) -> str:
    if dtype.kind in "iub":
        return "%d"
    return {2: "%.5g", 4: "%.9g"}.get(dtype.itemsize, "%.17g")


def whole_numbers(column: np.ndarray, low: int, high: int) -> bool:
    """Whether a column has nothing but integers of [low, high]; an empty one does not."""
    inside = (column >= low) & (column <= high) & (column == np.floor(column))
    return bool(len(column)) and bool(inside.all())


def colour_or_columns(columns: Sequence[np.ndarray], first_name: int) -> Columns:
    """Three columns of bytes are ``rgb`` (P, 3) uint8; others keep their place in the file as name (``column_4``)."""
    if len(columns) == 3 and all(whole_numbers(c, 0, 255) for c in columns):
        return {"rgb": np.stack(columns, 1).astype(np.uint8)}
    return {f"column_{first_name + k}": column for k, column in enumerate(columns)}
