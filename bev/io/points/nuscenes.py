"""nuScenes' sensor files: LiDAR sweeps ``.pcd.bin`` and radar sweeps ``.pcd``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bev.io.errors import FileError
from bev.io.points.bin import NUSCENES, read_bin
from bev.io.points.pcd import read_pcd
from bev.structures import PointCloud

# Units of nuScenes' radar fields, from the comments of the devkit's RadarPointCloud and the ARS 408 data sheet.
RADAR_UNITS = {
    "rcs": "dBsm",
    "vx": "m/s",
    "vy": "m/s",
    "vx_comp": "m/s",
    "vy_comp": "m/s",
    "dyn_prop": "class",
    "id": "index",
    "ambig_state": "class",
    "invalid_state": "class",
    "pdh0": "class",
    "x_rms": "class",
    "y_rms": "class",
    "vx_rms": "class",
    "vy_rms": "class",
}


def read_nuscenes_points(path: Path, record: str = "") -> PointCloud:
    """Read x, y, z (m), intensity (0..255) and ring index of a sweep, in the LiDAR frame.

    Args:
        record: what the file belongs to, for messages.

    Raises:
        FileError: missing, not a whole number of points, or a position that is not finite.
    """
    try:
        cloud = read_bin(Path(path), NUSCENES)
        if not bool(torch.isfinite(cloud.xyz_m).all()):
            raise FileError(f"{path}: a point has a position that is not finite")
    except FileError as error:
        if not record:
            raise
        raise FileError(f"{error} ({record})") from error
    return cloud


def read_nuscenes_radar(
    path: Path,
    invalid_states: Sequence[int] | None = (0,),
    dyn_props: Sequence[int] | None = tuple(range(7)),
    ambig_states: Sequence[int] | None = (3,),
) -> PointCloud:
    """Read a radar sweep: position (m), velocities (m/s; ``_comp``: without the vehicle's own), cross section (dBsm).

    Args:
        invalid_states, dyn_props, ambig_states: states of the points to keep, as the devkit's defaults have them; None
            keeps all.

    Returns:
        Points in the frame ``"radar"``, every field of the file under its name.

    Raises:
        FileError: not a PCD file, or one without the fields of nuScenes' radars.
    """
    cloud = read_pcd(Path(path))
    missing = {"dyn_prop", "rcs", "vx_comp", "vy_comp", "ambig_state", "invalid_state"} - cloud.fields.keys()
    if missing:
        raise FileError(f"{path}: no radar sweep of nuScenes: fields {', '.join(sorted(missing))} are missing")
    keep = torch.ones(len(cloud), dtype=torch.bool)
    states = {"invalid_state": invalid_states, "dyn_prop": dyn_props, "ambig_state": ambig_states}
    for name, allowed in states.items():
        if allowed is not None:
            keep &= torch.isin(cloud.fields[name].long(), torch.tensor(list(allowed), dtype=torch.long))
    units = {name: unit for name, unit in RADAR_UNITS.items() if name in cloud.fields}
    cloud = replace(cloud, frame="radar", units={**cloud.units, **units})
    return cloud if bool(keep.all()) else cloud[keep]
