"""PLY files: the points (element ``vertex``) of ASCII and of binary files of either byte order.

Own code: plyfile is under the GPL, and Open3D keeps only the properties it knows.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

from bev.io.errors import FileError
from bev.io.points.columns import (
    Columns,
    join_wide,
    make_cloud,
    narrow_text,
    part_clashes,
    positions,
    read_bytes,
    split_wide,
    to_numpy,
    whole_file,
    write_records,
    xyz_of_records,
)
from bev.io.points.ply_header import (
    ENCODINGS,
    NAMES,
    ByteOrder,
    Element,
    Encoding,
    PLYHeader,
    Property,
    format_header,
    parse_header,
)
from bev.io.points.text import decode_lines, parse_rows, write_rows
from bev.structures import PointCloud

_COLOUR = ("red", "green", "blue")
# Comments in which the writer notes what PLY has no words for: columns of several numbers, rows of an organised cloud.
_WIDE, _GRID = "comment columns_of ", "comment grid_hw "


def read_ply(path: Path) -> PointCloud:
    """Read the points of a PLY file.

    Properties keep their names and types; ``red``, ``green``, ``blue`` of one type become ``rgb`` (P, 3). What is no
    point (faces, edges) is left out with a warning that names it. ``meta["ply"]`` has the encoding and the comments.

    Raises:
        FileError: not a PLY file, no vertices with x, y, z, a vertex with a list, or fewer data than stated.
    """
    path = Path(path)
    data = read_bytes(path)
    header = parse_header(data, path)
    vertex = next((e for e in header.elements if e.name == "vertex"), None)
    if vertex is None or not {"x", "y", "z"} <= {p.name for p in vertex.properties}:
        raise FileError(f"{path}: no element 'vertex' with properties x, y, z")
    if vertex.has_lists:
        raise FileError(f"{path}: a vertex has a list property, which points cannot have")
    others = [f"{e.count} {e.name}" for e in header.elements if e is not vertex and e.count]
    if others:
        warnings.warn(f"{path}: only the points are read, not {', '.join(others)}", stacklevel=2)
    fields: Columns
    if header.encoding == "ascii":
        fields = _read_ascii(data, header, vertex, path)
        xyz = positions(*(fields[axis] for axis in "xyz"))
        if max(p.dtype.itemsize for p in vertex.properties if p.name in ("x", "y", "z")) <= 4:
            xyz = narrow_text(xyz)
    else:
        records = _read_binary(data, header, vertex, path)
        xyz = xyz_of_records(records, ("x", "y", "z"))
        fields = {p.name: records[p.name] for p in vertex.properties}
    fields = {name: column for name, column in fields.items() if name not in ("x", "y", "z")}
    return _cloud(xyz, fields, header)


def _cloud(xyz: np.ndarray, fields: Columns, header: PLYHeader) -> PointCloud:
    comments, grid = [], None
    for comment in header.comments:
        if comment.startswith(_WIDE) and _note(comment[len(_WIDE) :]):
            fields = join_wide(fields, {str(k): v for k, v in _note(comment[len(_WIDE) :]).items()})
        elif comment.startswith(_GRID):
            words = comment[len(_GRID) :].split()
            if len(words) == 2 and all(w.isdigit() for w in words) and int(words[0]) * int(words[1]) == len(xyz):
                grid = int(words[0]), int(words[1])
        else:
            comments.append(comment)
    if all(c in fields for c in _COLOUR) and len({fields[c].dtype for c in _COLOUR}) == 1 and "rgb" not in fields:
        fields["rgb"] = np.stack([fields.pop(c) for c in _COLOUR], 1)
    return make_cloud(xyz, fields, grid_hw=grid, meta={"ply": {"encoding": header.encoding, "comments": comments}})


def _note(text: str) -> dict[str, int]:
    """The widths that the writer noted; none where a comment only looks like a note."""
    try:
        note = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(note, dict) and all(isinstance(v, int) and v > 0 for v in note.values())
    return note if whole else {}


def _read_ascii(data: bytes, header: PLYHeader, vertex: Element, path: Path) -> Columns:
    lines = [line for line in decode_lines(data[header.data_offset :], str(path)) if line]
    start = 0
    for element in header.elements[: header.elements.index(vertex)]:
        start += element.count
    total = sum(e.count for e in header.elements)
    if len(lines) != total:
        raise FileError(f"{path}: {total} records are stated, {len(lines)} lines follow")
    types = [np.dtype("f8") if p.name in ("x", "y", "z") else p.dtype for p in vertex.properties]
    columns = parse_rows(lines[start : start + vertex.count], str(path), types)
    return {p.name: column for p, column in zip(vertex.properties, columns)}


def _read_binary(data: bytes, header: PLYHeader, vertex: Element, path: Path) -> np.ndarray:
    order: ByteOrder = "<" if header.encoding == "binary_little_endian" else ">"
    at, after = header.data_offset, header.elements.index(vertex)
    for element in header.elements[:after]:
        at = _skip(data, at, element, order, path)
    record = vertex.record(order)
    stated, there = vertex.count * record.itemsize, len(data) - at
    if there < stated:
        raise FileError(f"{path}: {vertex.count} points of {record.itemsize} bytes are stated, {there} bytes follow")
    if after == len(header.elements) - 1 and there - stated >= record.itemsize:
        raise FileError(f"{path}: {there - stated} bytes follow the {vertex.count} points that are stated")
    # Into memory of their own: behind a header of any length numbers would lie unaligned.
    if record == vertex.record("="):
        return np.fromfile(path, record, vertex.count, offset=at)
    return np.frombuffer(data, record, vertex.count, at).astype(vertex.record("="))


def _skip(data: bytes, at: int, element: Element, order: ByteOrder, path: Path) -> int:
    """Offset behind an element that starts at ``at``."""
    if not element.has_lists:
        end = at + element.count * element.record(order).itemsize
    else:
        end = at
        if element.count > len(data):
            raise FileError(f"{path}: {element.count} {element.name} are stated, the file has {len(data)} bytes")
        for _ in range(element.count):
            for item in element.properties:
                end = _skip_property(data, end, item, order)
            if end > len(data):
                break
    if end > len(data):
        raise FileError(f"{path}: the file ends within element {element.name!r}")
    return end


def _skip_property(data: bytes, at: int, item: Property, order: str) -> int:
    if item.count is None:
        return at + item.dtype.itemsize
    size = item.count.itemsize
    count = int.from_bytes(data[at : at + size], "little" if order == "<" else "big")
    return at + size + count * item.dtype.itemsize


def write_ply(cloud: PointCloud, path: Path, encoding: Encoding | None = None) -> None:
    """Write a PLY file atomically.

    Args:
        encoding: default: that of the file the cloud was read from, else ``binary_little_endian``.

    Raises:
        FileError: a field that PLY cannot hold, see `ply_losses`.
        ValueError: an encoding that PLY does not have.
    """
    own = cloud.meta.get("ply", {})
    encoding = encoding or own.get("encoding", "binary_little_endian")
    if encoding not in ENCODINGS:
        raise ValueError(f"PLY encoding {encoding!r} is none of {', '.join(ENCODINGS)}")
    if losses := ply_losses(cloud):
        raise FileError(f"{path}: PLY cannot hold {', '.join(losses.values())}")
    columns, widths = _ply_columns(cloud)
    comments = list(own.get("comments", []))
    comments += [_WIDE + json.dumps(widths)] if widths else []
    comments += [_GRID + f"{cloud.grid_hw[0]} {cloud.grid_hw[1]}"] if cloud.grid_hw else []
    order: ByteOrder = ">" if encoding == "binary_big_endian" else "<"
    vertex = Element("vertex", len(cloud), [Property(n, c.dtype.newbyteorder("<")) for n, c in columns.items()])
    with whole_file(path) as file:
        file.write(format_header(PLYHeader(encoding, [vertex], comments, 0)))
        if encoding == "ascii":
            write_rows(file, list(columns.values()))
            return
        write_records(file, list(columns.values()), vertex.record(order))


def _ply_columns(cloud: PointCloud) -> tuple[Columns, dict[str, int]]:
    xyz, fields = to_numpy(cloud)
    columns: Columns = dict(zip("xyz", xyz.T))
    rgb = fields.get("rgb")
    if rgb is not None and rgb.shape[1:] == (3,) and not any(c in fields for c in _COLOUR):
        columns.update(zip(_COLOUR, fields.pop("rgb").T))
    narrow, widths = split_wide({n: c.astype(np.uint8) if c.dtype == bool else c for n, c in fields.items()})
    return {**columns, **narrow}, widths


def ply_losses(cloud: PointCloud) -> dict[str, str]:
    """What of a cloud PLY cannot hold, by field: integers of 64 bits, half precision, names with blanks."""
    _, fields = to_numpy(cloud)
    losses: dict[str, str] = {}
    for name, column in fields.items():
        kind = np.dtype(np.uint8) if column.dtype == bool else column.dtype
        if kind.str[1:] not in NAMES:
            losses[name] = f"field {name!r} of type {column.dtype}"
        elif not name.isascii() or not name or name in ("x", "y", "z") or any(c.isspace() for c in name):
            losses[name] = f"a field named {name!r}"
    return {**losses, **part_clashes(fields)}
