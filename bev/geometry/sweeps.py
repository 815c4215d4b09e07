"""Several LiDAR sweeps as one cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bev.structures import PointCloud


def accumulate_sweeps(
    sweeps: Sequence[PointCloud],
    ref_from_sweep: Sequence[Tensor],
    time_s: Sequence[float],
    frame: str = "lidar",
    min_range_m: float = 1.0,
) -> PointCloud:
    """Join sweeps in the frame of one of them.

    Args:
        sweeps: clouds with the same fields, each in its sensor's frame at its own time.
        ref_from_sweep: (4, 4) of each, from its frame to the common one: through the global frame with the vehicle's
            pose at both times.
        time_s: of each, relative to the common frame's time; becomes the field ``time_s`` (P,) float32.
        frame: name of the common frame.
        min_range_m: points whose |x| and |y| in the sensor's frame are both below this are the vehicle itself and left
            out, as nuScenes' devkit does; 0 keeps all.

    Raises:
        ValueError: no sweeps, sequences of different lengths, or sweeps with different fields.
    """
    if not sweeps or not len(sweeps) == len(ref_from_sweep) == len(time_s):
        raise ValueError(f"{len(sweeps)} sweeps, {len(ref_from_sweep)} transforms, {len(time_s)} times")
    parts = []
    for cloud, transform, time in zip(sweeps, ref_from_sweep, time_s):
        if cloud.fields.keys() != sweeps[0].fields.keys():
            raise ValueError(f"a sweep has the fields {sorted(cloud.fields)}, the first {sorted(sweeps[0].fields)}")
        moved = cloud[(cloud.xyz_m[:, :2].abs() >= min_range_m).any(1)].transform(transform, frame)
        stamp = torch.full((len(moved),), time, dtype=torch.float32, device=moved.xyz_m.device)
        parts.append(replace(moved, fields={**moved.fields, "time_s": stamp}))
    fields = {name: torch.cat([part.fields[name] for part in parts]) for name in parts[0].fields}
    xyz = torch.cat([part.xyz_m for part in parts])
    return PointCloud(xyz, fields, frame, {**sweeps[0].units, "time_s": "s"})
