"""PCD files of the Point Cloud Library: ASCII, binary and LZF-compressed, any field types and counts, organised clouds.

Own code: Open3D and pypcd4 are slower, and neither checks a header against the file before it allocates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bev.io.errors import FileError
from bev.io.points import lzf
from bev.io.points.columns import Columns, make_cloud, narrow_text, positions, xyz_of_records
from bev.io.points.pcd_header import PCDHeader, parse_header
from bev.io.points.text import decode_lines, parse_rows
from bev.structures import PointCloud

_HEADER_BYTES = 1 << 16


def read_pcd(path: Path) -> PointCloud:
    """Read a PCD file.

    Fields keep their names and types. ``rgb`` and ``rgba``, four bytes of which PCL makes one number, become ``rgb``
    (P, 3) uint8 and, where the fourth byte is used, ``alpha`` (P,) uint8. Fields ``_`` are padding and left out. Points
    without a value (NaN) stay, so that organised clouds keep their rows. ``meta["pcd"]``: viewpoint and encoding.

    Raises:
        FileError: not a PCD file, a contradiction in its header, more or fewer data than it states, or no x, y, z.
    """
    path = Path(path)
    header = _read_header(path)
    names = {name.lower(): k for k, name in enumerate(header.names)}
    if not {"x", "y", "z"} <= names.keys():
        raise FileError(f"{path}: fields {' '.join(header.names)[:200]} have no x, y, z")
    x, y, z = (names[axis] for axis in "xyz")
    if any(header.counts[k] != 1 or header.dtypes[k].kind == "V" for k in (x, y, z)):
        raise FileError(f"{path}: x, y, z must be one number each")
    columns: dict[int, np.ndarray] | np.ndarray
    if header.encoding == "binary":
        records = _read_binary(path, header)
        xyz = xyz_of_records(records, (f"f{x}", f"f{y}", f"f{z}"))
        columns = {k: records[f"f{k}"] for k in range(len(header.names))}
    else:
        columns = (_read_ascii if header.encoding == "ascii" else _read_compressed)(path, header)
        xyz = positions(columns[x], columns[y], columns[z])
        if header.encoding == "ascii" and max(header.dtypes[k].itemsize for k in (x, y, z)) <= 4:
            xyz = narrow_text(xyz)
    fields: Columns = {}
    for k, name in enumerate(header.names):
        if k not in (x, y, z) and name != "_":
            fields.update(_field(name, columns[k]))
    grid = (header.height, header.width) if header.height != 1 else None
    meta = {"pcd": {"viewpoint": header.viewpoint, "encoding": header.encoding}}
    return make_cloud(xyz, fields, grid_hw=grid, meta=meta)


def _read_header(path: Path) -> PCDHeader:
    try:
        with open(path, "rb") as file:
            data = file.read(_HEADER_BYTES)
            if b"DATA" not in data:
                data += file.read(_HEADER_BYTES * 15)
    except OSError as error:
        raise FileError(f"{path}: cannot read the points: {error.strerror or error}") from error
    return parse_header(data, path)


def _rest(path: Path, header: PCDHeader) -> bytes:
    with open(path, "rb") as file:
        file.seek(header.data_offset)
        return file.read()


def _read_binary(path: Path, header: PCDHeader) -> np.ndarray:
    record = header.record
    there, stated = path.stat().st_size - header.data_offset, header.points * record.itemsize
    if there < stated:
        raise FileError(f"{path}: {header.points} points of {record.itemsize} bytes are stated, {there} bytes follow")
    if there - stated >= record.itemsize and any(_rest(path, header)[stated:]):
        raise FileError(f"{path}: {there - stated} bytes follow the {header.points} points that are stated")
    # Read into its own memory, not cut out of the file's: behind a header of any length numbers would lie unaligned.
    return np.fromfile(path, record, header.points, offset=header.data_offset)


def _read_compressed(path: Path, header: PCDHeader) -> dict[int, np.ndarray]:
    there = path.stat().st_size - header.data_offset - 8
    if there < 0:
        raise FileError(f"{path}: the sizes of the compressed data are cut off")
    with open(path, "rb") as file:
        file.seek(header.data_offset)
        packed, size = (int(n) for n in np.frombuffer(file.read(8), "<u4"))
        stated = header.points * header.record.itemsize
        if size != stated:
            raise FileError(f"{path}: {size} bytes uncompressed, but {header.points} points need {stated}")
        if there < packed:
            raise FileError(f"{path}: {packed} compressed bytes are stated, {there} follow")
        data = file.read(packed)
    try:
        plain = lzf.decompress(data, size)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error
    columns, at = {}, 0
    for k, (dtype, count) in enumerate(zip(header.dtypes, header.counts)):
        column = np.frombuffer(plain, dtype, header.points * count, at)
        columns[k] = column.reshape(header.points, count) if count > 1 else column
        at += column.nbytes
    return columns


def _read_ascii(path: Path, header: PCDHeader) -> dict[int, np.ndarray]:
    lines = [line for line in decode_lines(_rest(path, header), str(path)) if line]
    if len(lines) != header.points:
        raise FileError(f"{path}: {header.points} points are stated, {len(lines)} lines follow")
    pairs = zip(header.dtypes, header.counts)
    types = [np.dtype("f8") if d.kind == "V" else d for d, count in pairs for _ in range(count)]
    at = np.cumsum((0, *header.counts))
    for k, name in enumerate(header.names):
        if name.lower() in ("x", "y", "z"):
            types[at[k]] = np.dtype("f8")
    if len(lines) and len(types) > len(lines[0]):
        raise FileError(f"{path}: a line has fewer than {len(types)} values")
    parsed, columns = parse_rows(lines, str(path), types), {}
    for k, count in enumerate(header.counts):
        columns[k] = np.stack(parsed[:count], 1) if count > 1 else parsed[0]
        parsed = parsed[count:]
    return columns


def _field(name: str, column: np.ndarray) -> Columns:
    """A field as it is, or the bytes of a packed colour."""
    if name not in ("rgb", "rgba") or column.ndim > 1 or column.itemsize != 4:
        return {name: column}
    bgra = np.ascontiguousarray(column).view(np.uint8).reshape(-1, 4)
    colour = {"rgb": np.ascontiguousarray(bgra[:, 2::-1])}
    return {**colour, "alpha": bgra[:, 3].copy()} if name == "rgba" or bgra[:, 3].any() else colour
