"""Leica PTS: a count, then lines of x y z [intensity] [r g b]; several scans may follow each other.

Own code: Open3D drops the intensity and reads one scan.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bev.io.errors import FileError
from bev.io.points.columns import Columns, cast_exactly, make_cloud, positions, read_bytes, to_numpy, whole_file
from bev.io.points.text import decode_lines, parse_rows, whole_numbers, write_rows
from bev.structures import PointCloud

_INT32 = np.iinfo(np.int32)


def read_pts(path: Path) -> PointCloud:
    """Read a PTS file; of several scans the points follow each other, and ``scan`` (int32) says which they are of.

    A file without any count, whose first line is a point, is one scan of all its lines.
    Positions are float64; ``intensity`` is int32 where all values are whole; ``rgb`` is (P, 3) uint8.

    Raises:
        FileError: neither a count nor a point in front, fewer or more lines than stated, or other than 3, 4, 6 or 7
            values a line.
    """
    path = Path(path)
    lines = [line for line in decode_lines(read_bytes(path), str(path)) if line]
    if not lines:
        raise FileError(f"{path}: the file is empty, expected a count of points")
    rows: list[str] = []
    counts: list[int] = []
    at = 0
    if len(lines[0].replace(",", " ").split()) >= 3:  # a point: the count was left out, as many programs do
        rows, counts, at = lines, [len(lines)], len(lines)
    while at < len(lines):
        count = _count(lines[at], at, path)
        if at + 1 + count > len(lines):
            raise FileError(f"{path}: {count} points are stated, {len(lines) - at - 1} lines follow")
        rows += lines[at + 1 : at + 1 + count]
        counts.append(count)
        at += 1 + count
    columns = parse_rows(rows, str(path)) if rows else [np.zeros(0)] * 3
    fields = intensity_and_colour(columns[3:], path)
    if len(counts) > 1:
        fields["scan"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return make_cloud(positions(*columns[:3]), fields)


def _count(line: str, at: int, path: Path) -> int:
    if not (line.isascii() and line.isdigit() and len(line) <= 18):
        raise FileError(f"{path}: line {at + 1} is {line[:40]!r}, expected a count of points")
    return int(line)


def intensity_and_colour(columns: list[np.ndarray], path: Path) -> Columns:
    """The fields behind x, y, z of PTS and PTX: 0, 1, 3 or 4 columns.

    Raises:
        FileError: another number of columns, or colours that are no bytes.
    """
    if len(columns) not in (0, 1, 3, 4):
        raise FileError(f"{path}: a line has {len(columns) + 3} values, expected x y z [intensity] [r g b]")
    fields: Columns = {}
    if len(columns) in (1, 4):
        whole = whole_numbers(columns[0], _INT32.min, _INT32.max)
        fields["intensity"] = columns[0].astype(np.int32) if whole else columns[0]
    if len(columns) >= 3:
        if len(columns[-1]) and not all(whole_numbers(c, 0, 255) for c in columns[-3:]):
            raise FileError(f"{path}: a colour is not made of whole numbers from 0 to 255")
        fields["rgb"] = np.stack(columns[-3:], 1).astype(np.uint8)
    return fields


def as_float64(column: np.ndarray) -> np.ndarray:
    """A column for formats whose numbers have no type: floats with all the digits of float64, integers as they are."""
    return column.astype(np.float64) if column.dtype.kind == "f" else column


def write_pts(cloud: PointCloud, path: Path) -> None:
    """Write a PTS file, atomically; a field ``scan`` that rises from 0 makes several scans.

    Raises:
        FileError: a field that PTS cannot hold, see `pts_losses`.
    """
    if losses := pts_losses(cloud):
        raise FileError(f"{path}: PTS cannot hold {', '.join(losses.values())}")
    xyz, fields = to_numpy(cloud)
    # As float64, which is what is read back: a float32 written short would come back as another number.
    columns = [*xyz.T.astype(np.float64), *(as_float64(fields[n]) for n in ("intensity",) if n in fields)]
    columns += list(fields["rgb"].T) if "rgb" in fields else []
    scan = fields.get("scan", np.zeros(len(cloud), np.int32))
    with whole_file(path) as file:
        if not len(cloud):
            file.write(b"0\n")
        edges = [0, *(np.flatnonzero(np.diff(scan)) + 1).tolist(), len(cloud)]
        for start, end in zip(edges, edges[1:]):
            if end > start:
                file.write(f"{end - start}\n".encode())
                write_rows(file, [c[start:end] for c in columns])


def pts_losses(cloud: PointCloud) -> dict[str, str]:
    """What of a cloud PTS cannot hold, by field."""
    losses = {"grid_hw": f"rows and columns {cloud.grid_hw}"} if cloud.grid_hw else {}
    fields = to_numpy(cloud)[1]
    for name, column in fields.items():
        if name == "scan" and len(column) and set(np.diff(column).tolist()) <= {0, 1} and column[0] == 0:
            if column[-1] > 0 and cast_exactly(column, np.int32) is not None:
                continue
        if name == "intensity" and column.ndim == 1 and column.dtype.kind in "iufb":
            continue
        if name == "rgb" and column.dtype == np.uint8 and column.shape[1:] == (3,):
            continue
        losses[name] = f"field {name!r} of type {column.dtype}"
    return losses
