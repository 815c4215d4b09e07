"""Tables of float32 without a header: KITTI's ``.bin`` (4 columns) and nuScenes' ``.pcd.bin`` (5 columns).

Own code: one `numpy.fromfile`, which no library beats.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bev.io.errors import FileError
from bev.io.points.columns import UNITS, cast_exactly, to_numpy, to_tensor, whole_file, write_records
from bev.structures import PointCloud

KITTI = ("intensity",)
NUSCENES = ("intensity", "ring")
_UNITS = {KITTI: {"intensity": "0..1"}, NUSCENES: {"intensity": "0..255"}}
_MAX_RINGS = 256


def read_bin(path: Path, columns: Sequence[str] | None = None) -> PointCloud:
    """Read x, y, z (m) and further float32 columns, LiDAR frame.

    Args:
        columns: names behind x, y, z. Default: `NUSCENES` for names that end in ``.pcd.bin`` and for sizes or contents
            that fit only it (a fifth column of whole numbers below 256), else `KITTI`.

    Raises:
        FileError: cannot be read, or is not a whole number of points.
    """
    path = Path(path)
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            table = np.fromfile(file, "<f4")
    except OSError as error:
        raise FileError(f"{path}: cannot read the points: {error.strerror or error}") from error
    names = tuple(columns) if columns is not None else _guess(path, size, table)
    width = 3 + len(names)
    if size % (4 * width):
        raise FileError(f"{path}: {size} bytes is not a multiple of {4 * width}, {width} float32 a point")
    rows = to_tensor(table.reshape(-1, width))
    known = {**UNITS, **_UNITS.get(names, {})}
    units = {name: known[name] for name in names if name in known}
    return PointCloud(rows[:, :3], {name: rows[:, 3 + k] for k, name in enumerate(names)}, units=units)


def _guess(path: Path, size: int, table: np.ndarray) -> tuple[str, ...]:
    if path.name.lower().endswith(".pcd.bin"):
        return NUSCENES
    if size % 20:
        return KITTI
    # The first points almost always tell; all of them are looked at only where they do not.
    rings = size % 16 or _has_rings(table[4:5000:5]) and _has_rings(table[4::5])
    return NUSCENES if rings else KITTI


def _has_rings(column: np.ndarray) -> bool:
    return bool(len(column)) and bool(((column >= 0) & (column < _MAX_RINGS) & (column == np.floor(column))).all())


def write_bin(cloud: PointCloud, path: Path, columns: Sequence[str] | None = None) -> None:
    """Write x, y, z and further columns as float32, atomically.

    Args:
        columns: fields behind x, y, z. Default: `NUSCENES` for clouds with a ring and names in ``.pcd.bin``, else
            `KITTI`; a field that they name and the cloud lacks is written as 0.

    Raises:
        FileError: a field that would be left out, or a value that float32 cannot hold, see `bin_losses`.
    """
    path = Path(path)
    if losses := bin_losses(cloud, columns):
        raise FileError(f"{path}: {', '.join(losses.values())} cannot be held by a .bin file of float32 columns")
    names = _columns(cloud, columns, path)
    xyz, fields = to_numpy(cloud)
    none = np.zeros(len(cloud), np.float32)
    table = [*xyz.T, *(fields.get(name, none) for name in names)]
    with whole_file(path) as file:
        write_records(file, table, np.dtype([(f"f{k}", "<f4") for k in range(len(table))]))


def _columns(cloud: PointCloud, columns: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    if columns is not None:
        return tuple(columns)
    return NUSCENES if "ring" in cloud.fields or path.name.lower().endswith(".pcd.bin") else KITTI


def bin_losses(cloud: PointCloud, columns: Sequence[str] | None = None) -> dict[str, str]:
    """What of a cloud a .bin file cannot hold, by field; ``xyz_m`` where float32 would move points."""
    xyz, fields = to_numpy(cloud)
    losses = {"grid_hw": f"rows and columns {cloud.grid_hw}"} if cloud.grid_hw else {}
    if cast_exactly(xyz, np.float32) is None:
        losses["xyz_m"] = f"positions of type {xyz.dtype} with digits beyond float32"
    for name, column in fields.items():
        if name not in (columns or NUSCENES):
            losses[name] = f"field {name!r}"
        elif column.ndim > 1 or column.dtype.kind not in "iufb" or cast_exactly(column, np.float32) is None:
            losses[name] = f"field {name!r} of type {column.dtype}"
    return losses
