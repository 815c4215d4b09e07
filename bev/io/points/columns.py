"""Between the columns of a file (numpy, one array a name) and a PointCloud (torch)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from bev.io.errors import FileError
from bev.structures import PointCloud

Columns = dict[str, np.ndarray]
# From here on neighbouring float32 are further apart than 1 mm.
_FLOAT32_MILLIMETRES_M = 1 << 14
_CHUNK_ROWS = 1 << 15

# Units by field name, where the name leaves no doubt; a format adds those that its specification states.
UNITS = {
    "gps_time": "s",
    "time": "s",
    "time_s": "s",
    "ring": "index",
    "return_number": "index",
    "number_of_returns": "count",
    "classification": "class",
    "vx": "m/s",
    "vy": "m/s",
    "vz": "m/s",
    "rgb": "colour",
    "alpha": "colour",
}


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the points: {error.strerror or error}") from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when it is complete; its folder is made."""
    path = Path(path)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_tensor(column: np.ndarray) -> torch.Tensor:
    """numpy -> torch without a copy where torch can hold the memory as it lies."""
    # numpy has two 64-bit integers, of which torch knows one; the type's text names that one.
    native = np.dtype(column.dtype.newbyteorder("=").str)
    column = column.astype(native) if native.char != column.dtype.char or not column.dtype.isnative else column
    whole_strides = all(stride >= 0 and stride % max(column.itemsize, 1) == 0 for stride in column.strides)
    if not column.flags.writeable or not whole_strides or not column.flags.aligned:
        column = column.copy()
    return torch.from_numpy(column)


def xyz_of_records(records: np.ndarray, names: tuple[str, str, str]) -> np.ndarray:
    """(P, 3) positions of a structured array: a view where x, y, z are one after the other and of one float type."""
    dtype = records.dtype
    parts, offsets = [dtype[n] for n in names], [dtype.fields[n][1] for n in names] if dtype.fields else []
    size = parts[0].itemsize
    adjacent = offsets[1] == offsets[0] + size and offsets[2] == offsets[1] + size
    if parts[0] == parts[1] == parts[2] and parts[0].kind == "f" and size >= 4 and adjacent and len(records):
        table: np.ndarray = np.ndarray((len(records), 3), parts[0], records, offsets[0], (records.strides[0], size))
        return table
    return positions(*(records[n] for n in names))


def positions(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(P, 3) of three columns in the smallest float type that holds all of them exactly (64-bit integers: float64)."""
    wide = np.result_type(x.dtype, y.dtype, z.dtype, np.float32)
    return np.stack([x, y, z], 1).astype(np.float32 if wide.itemsize <= 4 else np.float64, copy=False)


def narrow_text(xyz: np.ndarray) -> np.ndarray:
    """Positions from text as float32, as the header states, but for map coordinates: their digits float32 cuts off."""
    largest = np.abs(xyz[np.isfinite(xyz)]).max(initial=0)
    return xyz if largest >= _FLOAT32_MILLIMETRES_M else xyz.astype(np.float32)


def make_cloud(
    xyz_m: np.ndarray,
    fields: Mapping[str, np.ndarray],
    frame: str = "lidar",
    units: Mapping[str, str] | None = None,
    grid_hw: tuple[int, int] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> PointCloud:
    """A PointCloud of numpy columns; ``units`` add to those that field names imply."""
    known = {**UNITS, **(units or {})}
    return PointCloud(
        to_tensor(xyz_m),
        {name: to_tensor(column) for name, column in fields.items()},
        frame,
        {name: known[name] for name in fields if name in known},
        grid_hw,
        dict(meta or {}),
    )


def to_numpy(cloud: PointCloud) -> tuple[np.ndarray, Columns]:
    """(P, 3) positions, at least float32, and the fields of a cloud on any device; bfloat16 as float32."""

    def convert(tensor: torch.Tensor) -> np.ndarray:
        array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()
        return array

    xyz = convert(cloud.xyz_m)
    return xyz.astype(np.result_type(xyz, np.float32), copy=False), {
        name: convert(column) for name, column in cloud.fields.items()
    }


def cast_exactly(column: np.ndarray, dtype: np.dtype | type | str) -> np.ndarray | None:
    """The column in another type, or None where a value would change (NaN stays NaN)."""
    if column.dtype == dtype:
        return column
    with np.errstate(all="ignore"):
        cast = column.astype(dtype)
        back = cast.astype(column.dtype)
    # Equality of the way back alone would pass a float too large for an integer that wraps around twice.
    same = np.array_equal(back, column, equal_nan=column.dtype.kind == "f")
    if not same or (cast.dtype.kind in "iu" and column.dtype.kind == "f" and not _within(column, cast.dtype)):
        return None
    if cast.dtype.kind in "iu" and column.dtype.kind in "iu" and not _within(column, cast.dtype):
        return None
    return cast


def _within(column: np.ndarray, dtype: np.dtype) -> bool:
    info = np.iinfo(dtype)
    return not column.size or (int(column.min()) >= info.min and int(column.max()) <= info.max)


def write_records(file: BinaryIO, columns: Sequence[np.ndarray], record: np.dtype) -> None:
    """Write C columns, (P,) or (P, K), as P records.

    Columns that already lie in memory as such records are written from there; others are put together piece by piece
    in one small buffer, which stays in the cache and spares a second copy of the cloud.

    Args:
        record: packed, with a field for each column in their order.
    """
    if (table := _table_under(columns, record)) is not None:
        file.write(table.data)
        return
    names = record.names or ()
    flat = [column.reshape(len(column), *record[name].shape) for name, column in zip(names, columns)]
    piece = np.empty(min(len(flat[0]), _CHUNK_ROWS), record)
    for begin in range(0, len(flat[0]), _CHUNK_ROWS):
        rows = min(len(flat[0]) - begin, _CHUNK_ROWS)
        for name, column in zip(names, flat):
            piece[name][:rows] = column[begin : begin + rows]
        file.write(piece[:rows].view(np.uint8).data)


def _table_under(columns: Sequence[np.ndarray], record: np.dtype) -> np.ndarray | None:
    """The (P, C) table whose columns these are, where they are and it holds what the records would."""
    types = {record[k] for k in range(len(columns))}
    row, first = record.itemsize, columns[0]
    start = first.__array_interface__["data"][0]
    for k, column in enumerate(columns):
        at = start + k * first.itemsize
        if column.strides != (row,) or column.__array_interface__["data"][0] != at or {column.dtype} != types:
            return None
    return np.lib.stride_tricks.as_strided(first, (len(first), len(columns)), (row, first.itemsize))


def split_wide(fields: Columns) -> tuple[Columns, dict[str, int]]:
    """(P, K) columns as K columns ``name_0`` ...: for formats whose columns are single numbers.

    Returns:
        The single columns, and K by the name of each column that was split: what `join_wide` needs.
    """
    narrow: Columns = {}
    widths: dict[str, int] = {}
    for name, column in fields.items():
        if column.ndim == 1:
            narrow[name] = column
            continue
        widths[name] = int(np.prod(column.shape[1:]))
        narrow.update({f"{name}_{k}": c for k, c in enumerate(column.reshape(len(column), widths[name]).T)})
    return narrow, widths


def join_wide(fields: Columns, widths: Mapping[str, int]) -> Columns:
    """What `split_wide` split, put together where every part is there and of one type."""
    fields = dict(fields)
    for name, width in widths.items():
        if not 1 <= width <= len(fields):
            continue
        parts = [f"{name}_{k}" for k in range(width)]
        if name not in fields and all(p in fields for p in parts) and len({fields[p].dtype for p in parts}) == 1:
            fields = {**fields, name: np.stack([fields[p] for p in parts], 1)}
            for part in parts:
                del fields[part]
    return fields


def part_clashes(fields: Columns) -> dict[str, str]:
    """Fields of several numbers whose parts, as `split_wide` names them, would meet a field of that name."""
    single = {name for name, column in fields.items() if column.ndim == 1}
    wide = [name for name, column in fields.items() if column.ndim > 1]
    clash = [name for name in wide if single & split_wide({name: fields[name]})[0].keys()]
    return {name: f"field {name!r} beside one named like a part of it" for name in clash}
