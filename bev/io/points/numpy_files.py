"""``.npy`` and ``.npz``: a table or a structured array, and everything a PointCloud has as named arrays.

Own reader of the header, since `numpy.load` allocates what a header states before it looks at the file. Pickled objects
are refused.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from bev.io.errors import FileError
from bev.io.points.columns import Columns, make_cloud, positions, read_bytes, to_numpy, whole_file
from bev.structures import PointCloud

_TABLE = ("intensity", "ring")
_FACTS = "cloud.json"


def read_npy(path: Path) -> PointCloud:
    """Read points from a structured array with fields x, y, z, or from a (P, C >= 3) table.

    Of a table the columns are x, y, z, ``intensity``, ``ring``, ``column_6`` ...

    Raises:
        FileError: no .npy file, fewer data than its header states, no numbers, or no x, y, z.
    """
    path = Path(path)
    array = _parse(read_bytes(path), str(path))
    if array.dtype.names is None:
        if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "iuf":
            raise FileError(f"{path}: shape {array.shape} of {array.dtype}, expected (points, 3 or more) numbers")
        fields = {_column_name(k): array[:, k].copy() for k in range(3, array.shape[1])}
        return make_cloud(positions(*array[:, :3].T), fields)
    names = {name.lower(): name for name in array.dtype.names}
    if array.ndim != 1 or not {"x", "y", "z"} <= names.keys():
        raise FileError(f"{path}: shape {array.shape}, fields {array.dtype.names}: expected one axis and x, y, z")
    axes = [names[axis] for axis in "xyz"]
    if any(array.dtype[axis].kind not in "iuf" or array[axis].ndim != 1 for axis in axes):
        raise FileError(f"{path}: x, y, z are not one number each")
    columns = {name: _numbers(array[name].copy(), name, path) for name in array.dtype.names if name not in axes}
    return make_cloud(positions(*(array[axis] for axis in axes)), columns)


def _column_name(k: int) -> str:
    return _TABLE[k - 3] if k - 3 < len(_TABLE) else f"column_{k + 1}"


def _numbers(column: np.ndarray, name: str, path: Path) -> np.ndarray:
    if column.dtype.kind not in "iufb" or column.dtype.itemsize > 8:
        raise FileError(f"{path}: field {name!r} of type {column.dtype} is not made of numbers")
    return column


def _parse(data: bytes, where: str) -> np.ndarray:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # The header is a Python literal: its parser raises whatever Python's does.
        raise FileError(f"{where}: not a .npy file: {type(error).__name__}: {error}") from error
    there, stated = len(data) - stream.tell(), math.prod(shape) * dtype.itemsize
    if dtype.hasobject or there != stated or min(shape, default=0) < 0:
        raise FileError(f"{where}: shape {shape} of {str(dtype)[:200]} is {stated} bytes, {there} follow")
    flat = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def write_npy(cloud: PointCloud, path: Path) -> None:
    """Write a structured array with fields x, y, z and the cloud's own, atomically; raises FileError."""
    if losses := npy_losses(cloud):
        raise FileError(f"{path}: .npy cannot hold {', '.join(losses.values())}")
    xyz, fields = to_numpy(cloud)
    columns = {**dict(zip("xyz", xyz.T)), **fields}
    record = np.empty(len(cloud), [(name, c.dtype, c.shape[1:]) for name, c in columns.items()])
    for name, column in columns.items():
        record[name] = column
    with whole_file(path) as file:
        np.save(file, record, allow_pickle=False)


def npy_losses(cloud: PointCloud) -> dict[str, str]:
    """What of a cloud .npy cannot hold, by field."""
    losses = {"grid_hw": f"rows and columns {cloud.grid_hw}"} if cloud.grid_hw else {}
    bad = [name for name in cloud.fields if not name or name.lower() in ("x", "y", "z")]
    return {**losses, **{name: f"a field named {name!r}" for name in bad}}


def read_npz(path: Path) -> PointCloud:
    """Read what `write_npz` wrote, or any archive with ``xyz_m``, ``xyz`` or ``points`` (P, 3 or more) in it.

    Other arrays of P rows are fields. Raises FileError: no archive, damaged, too large once unpacked, or no positions.
    """
    path = Path(path)
    arrays, facts = _members(read_bytes(path), path)
    name = next((n for n in ("xyz_m", "xyz", "points") if n in arrays), None)
    if name is None:
        raise FileError(f"{path}: arrays {', '.join(arrays)[:200]}: expected one named xyz_m, xyz or points")
    table = arrays.pop(name)
    if table.ndim != 2 or table.shape[1] < 3 or table.dtype.kind != "f" and table.dtype.kind not in "iu":
        raise FileError(f"{path}: {name} has shape {table.shape} of {table.dtype}, expected (points, 3 or more)")
    xyz = table[:, :3].copy() if table.dtype in (np.float32, np.float64) else positions(*table[:, :3].T)
    fields = {_column_name(k): table[:, k].copy() for k in range(3, table.shape[1])}
    for key, array in arrays.items():
        if array.ndim < 1 or len(array) != len(table):
            raise FileError(f"{path}: array {key!r} has shape {array.shape}, expected {len(table)} rows")
        fields[key.removeprefix("field.")] = _numbers(array.copy(), key, path)
    return _with_facts(xyz, fields, facts, path)


def _with_facts(xyz: np.ndarray, fields: Columns, facts: dict[str, Any], path: Path) -> PointCloud:
    grid = facts.get("grid_hw")
    try:
        units = {str(k): str(v) for k, v in dict(facts.get("units", {})).items()}
        whole = None if grid is None else (int(grid[0]), int(grid[1]))
        frame = str(facts.get("frame", "lidar"))
        return make_cloud(xyz, fields, frame, units, whole, dict(facts.get("meta", {})))
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise FileError(f"{path}: {_FACTS} is damaged: {error}") from error


def _members(data: bytes, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and facts of an archive whose stated sizes deflate could reach (it packs 1032 to 1 at best)."""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > 1032 * len(data):
                raise FileError(f"{path}: {total} bytes cannot be packed into {len(data)}")
            for info in archive.infolist():
                content = archive.read(info)
                if info.filename == _FACTS:
                    facts = dict(json.loads(content))
                else:
                    arrays[info.filename.removesuffix(".npy")] = _parse(content, f"{path}: {info.filename}")
    except FileError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise FileError(f"{path}: not a readable .npz archive: {error}") from error
    return arrays, facts


def write_npz(cloud: PointCloud, path: Path) -> None:
    """Write positions, fields, frame, units, grid and those facts of ``meta`` that JSON holds, packed, atomically."""
    xyz, fields = to_numpy(cloud)
    facts = {"frame": cloud.frame, "units": cloud.units, "grid_hw": cloud.grid_hw, "meta": _plain(cloud.meta)}
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, column in {"xyz_m": xyz, **{f"field.{n}": c for n, c in fields.items()}}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(column), allow_pickle=False)
        archive.writestr(_FACTS, json.dumps(facts))


def _plain(value: Any) -> Any:
    """Lists, numbers and texts of a value; an object of a library becomes its name."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool)) or value is None else type(value).__name__
