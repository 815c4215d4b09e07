"""One reader and one writer for every format, chosen by the file's name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bev.io.errors import FileError
from bev.io.points.bin import bin_losses, read_bin, write_bin
from bev.io.points.las import las_losses, read_las, write_las
from bev.io.points.numpy_files import npy_losses, read_npy, read_npz, write_npy, write_npz
from bev.io.points.pcd import read_pcd
from bev.io.points.pcd_write import pcd_losses, write_pcd
from bev.io.points.ply import ply_losses, read_ply, write_ply
from bev.io.points.pts import pts_losses, read_pts, write_pts
from bev.io.points.ptx import ptx_losses, read_ptx, write_ptx
from bev.io.points.velodyne import read_velodyne
from bev.io.points.xyz import read_xyz, write_xyz, xyz_losses
from bev.structures import PointCloud


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: key of the format's facts in ``PointCloud.meta``.
        read, write: functions of (path) and (cloud, path); ``write`` is None for formats that only sensors write.
        losses: what of a cloud it cannot hold: reasons by field, or by ``points``, ``grid_hw``, ``xyz_m``.
    """

    name: str
    read: Callable[..., PointCloud]
    write: Callable[..., None] | None = None
    losses: Callable[..., dict[str, str]] = lambda cloud: {}


_TEXT = Format("xyz", read_xyz, write_xyz, xyz_losses)
_LAS = Format("las", read_las, write_las, las_losses)
_BIN = Format("bin", read_bin, write_bin, bin_losses)

# By the end of the file's name; a longer end comes first.
FORMATS = {
    ".pcd.bin": _BIN,
    ".pcd": Format("pcd", read_pcd, write_pcd, pcd_losses),
    ".ply": Format("ply", read_ply, write_ply, ply_losses),
    ".las": _LAS,
    ".laz": _LAS,
    ".xyz": _TEXT,
    ".txt": _TEXT,
    ".asc": _TEXT,
    ".csv": _TEXT,
    ".pts": Format("pts", read_pts, write_pts, pts_losses),
    ".ptx": Format("ptx", read_ptx, write_ptx, ptx_losses),
    ".bin": _BIN,
    ".npy": Format("npy", read_npy, write_npy, npy_losses),
    ".npz": Format("npz", read_npz, write_npz),
    ".pcap": Format("velodyne", read_velodyne),
}


def format_of(path: Path | str) -> Format:
    """The format that a file's name ends in; raises FileError for others."""
    name = Path(path).name.lower()
    for suffix, found in FORMATS.items():
        if name.endswith(suffix):
            return found
    raise FileError(f"{path}: no point cloud format ends like this; known are {', '.join(FORMATS)}")


def read_points(path: Path | str, **options: Any) -> PointCloud:
    """Read a point cloud: positions in m, every field of the file by its name and type, units where they are known.

    Args:
        path: a file of one of `FORMATS`. A nuScenes radar sweep is a plain ``.pcd`` here: every point and field, see
            `read_nuscenes_radar` for its filter.
        options: of the format's reader, e.g. ``columns`` of `read_bin` or ``model`` of `read_velodyne`.

    Raises:
        FileError: cannot be read, is damaged, or says what it does not hold; the message names the file and the fault.
        ImportError: the format needs a package that is not installed.
    """
    return format_of(path).read(Path(path), **options)


def write_points(cloud: PointCloud, path: Path | str, lossy: bool = False, **options: Any) -> list[str]:
    """Write a point cloud in the format that the name ends in, atomically.

    Args:
        lossy: leave out what the format cannot hold instead of refusing.
        options: of the format's writer, e.g. ``encoding`` of `write_pcd` and `write_ply`.

    Returns:
        What was left out, a line each; empty without ``lossy``. Facts of the source's own file format that another has
        no place for (the reference system of a LAS file, a PCD viewpoint) are left out with a warning.

    Raises:
        FileError: the format cannot be written, or (without ``lossy``) cannot hold all of the cloud.
    """
    target = format_of(path)
    if target.write is None:
        raise FileError(f"{path}: this format can be read, not written")
    losses = target.losses(cloud)
    if losses and not lossy:
        raise FileError(f"{path}: the format cannot hold {', '.join(losses.values())}; lossy writing leaves it out")
    if homeless := _homeless_facts(cloud, target.name):
        warnings.warn(f"{path}: the format has no place for {', '.join(homeless)}", stacklevel=2)
    target.write(_without(cloud, losses), Path(path), **options)
    return list(losses.values())


def _without(cloud: PointCloud, losses: dict[str, str]) -> PointCloud:
    if "points" in losses:
        cloud = cloud[torch.isfinite(cloud.xyz_m).all(1)]
    if "xyz_m" in losses:
        cloud = replace(cloud, xyz_m=cloud.xyz_m.float())
    grid = None if "grid_hw" in losses else cloud.grid_hw
    kept = {name: column for name, column in cloud.fields.items() if name not in losses}
    return replace(cloud, fields=kept, grid_hw=grid)


def _homeless_facts(cloud: PointCloud, target: str) -> list[str]:
    """What a file said about the cloud as a whole that the target format cannot say."""
    found = []
    records = getattr(cloud.meta.get("las", {}).get("header"), "vlrs", ())
    if records and target != "las":
        found.append("the LAS file's variable length records (its reference system)")
    view = tuple(cloud.meta.get("pcd", {}).get("viewpoint", ()))
    if view not in ((), (0, 0, 0, 1, 0, 0, 0)) and target not in ("pcd", "npz"):
        found.append(f"the PCD viewpoint {view}")
    if cloud.meta.get("ply", {}).get("comments") and target not in ("ply", "npz"):
        found.append("the PLY file's comments")
    if cloud.meta.get("ptx") and target not in ("ptx", "npz"):
        found.append("the scanners' poses")
    if cloud.meta.get("velodyne") and target != "npz":
        found.append("the scans' time stamps")
    return found
