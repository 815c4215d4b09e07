"""Point tables as text without a fixed meaning of columns: .xyz, .txt, .asc, .csv.

Own code: Open3D keeps the first three columns alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bev.io.errors import FileError
from bev.io.points.columns import (
    Columns,
    join_wide,
    make_cloud,
    part_clashes,
    positions,
    read_bytes,
    split_wide,
    to_numpy,
    whole_file,
)
from bev.io.points.text import colour_or_columns, decode_lines, parse_rows, write_rows
from bev.structures import PointCloud

_TYPES = {np.dtype(t).name: np.dtype(t) for t in "? i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split()}
_NUMBER = re.compile(r"[-+.\d]|nan|inf", re.IGNORECASE)


def read_xyz(path: Path) -> PointCloud:
    """Read a table of points, a line each, separated by blanks, tabs, commas or semicolons.

    A header, a line of names or a comment (``#`` or ``//``) with as many names as there are columns, names the fields;
    a name may carry its type, ``intensity:float32``. Without one the columns are x, y, z, then ``intensity`` if there
    are four, ``rgb`` if there are six of which the last are bytes, and ``column_4`` ... else. Without a type: float64.

    Raises:
        FileError: no text, a value that is no number, lines of different lengths, or fewer than three columns.
    """
    path = Path(path)
    lines = [line for line in decode_lines(read_bytes(path), str(path)) if line]
    comments = [line.lstrip("#/ ").split() for line in lines if line.startswith(("#", "//"))]
    rows = [line for line in lines if not line.startswith(("#", "//"))]
    if rows and not _NUMBER.match(rows[0]):
        comments.append(rows.pop(0).split())
    width = len(rows[0].split()) if rows else 0
    headers = [words for words in comments if _names_axes(words) and (not rows or len(words) == width)]
    if headers:
        return _named(headers[-1], rows, path)
    if rows and width < 3:
        raise FileError(f"{path}: a line has {width} values, expected at least x, y, z")
    columns = parse_rows(rows, str(path)) if rows else [np.zeros(0)] * 3
    fields = {"intensity": columns[3]} if width == 4 else colour_or_columns(columns[3:], 4)
    return make_cloud(positions(*columns[:3]), fields)


def _names_axes(words: list[str]) -> bool:
    names = [word.split(":")[0] for word in words]
    axes = [name.lower() for name in names if name.lower() in ("x", "y", "z")]
    return sorted(axes) == ["x", "y", "z"] and len(set(names)) == len(names)


def _named(header: list[str], rows: list[str], path: Path) -> PointCloud:
    names, types, widths = [], [], dict[str, int]()
    for word in header:
        name, _, rest = word.partition(":")
        kind, _, width = rest.partition("*")
        part = re.fullmatch(r"(.+)_0", name)
        if part and width.isascii() and width.isdigit() and len(width) < 6:
            widths[part[1]] = int(width)
        names.append(name)
        types.append(_TYPES.get(kind, np.dtype(np.float64)))
    columns = dict(zip(names, parse_rows(rows, str(path), types)))
    axes = {name.lower(): name for name in names if name.lower() in ("x", "y", "z")}
    fields: Columns = {name: column for name, column in columns.items() if name not in axes.values()}
    return make_cloud(positions(*(columns[axes[a]] for a in "xyz")), join_wide(fields, widths))


def write_xyz(cloud: PointCloud, path: Path) -> None:
    """Write points as text, atomically: a comment that names the columns and their types, then a line a point.

    Raises:
        FileError: a field that a table cannot hold, see `xyz_losses`.
    """
    if losses := xyz_losses(cloud):
        raise FileError(f"{path}: a text table cannot hold {', '.join(losses.values())}")
    xyz, fields = to_numpy(cloud)
    narrow, widths = split_wide(fields)
    columns = {**dict(zip("xyz", xyz.T)), **narrow}
    first = {f"{name}_0": f"*{width}" for name, width in widths.items()}
    header = " ".join(f"{name}:{column.dtype.name}{first.get(name, '')}" for name, column in columns.items())
    with whole_file(path) as file:
        file.write(f"# {header}\n".encode())
        write_rows(file, list(columns.values()))


def xyz_losses(cloud: PointCloud) -> dict[str, str]:
    """What of a cloud a text table cannot hold, by field."""
    losses = {"grid_hw": f"rows and columns {cloud.grid_hw}"} if cloud.grid_hw else {}
    fields = to_numpy(cloud)[1]
    for name, column in fields.items():
        if column.dtype.name not in _TYPES:
            losses[name] = f"field {name!r} of type {column.dtype}"
        elif not name or name.lower() in ("x", "y", "z") or re.search(r"[\s,;:*]", name):
            losses[name] = f"a field named {name!r}"
    return {**losses, **part_clashes(fields)}
