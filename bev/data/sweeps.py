"""LiDAR sweeps brought to the key frame: denser points for depth supervision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.io.points import read_nuscenes_points, read_points
from bev.structures import PointCloud


def read_sweeps(index: FrameIndex, root: Path, frame: int, count: int, min_distance_m: float = 1.0) -> PointCloud:
    """Points of a key frame and of the ``count`` sweeps before it, as the key frame's LiDAR would have them.

    Each earlier point is moved through the global frame with the vehicle's poses at both times, so that what stands
    still stays sharp (the devkit's ``from_file_multisweep``; moving objects are smeared).

    Args:
        frame: row of the index.
        count: earlier sweeps; 0 reads the key frame alone, and fewer are read at the start of a scene.
        min_distance_m: points of earlier sweeps with both |x| and |y| below it are left out: the vehicle itself, which
            moves along. The key frame keeps all of its points.

    Returns:
        (P,) points in the LiDAR frame with ``intensity`` and ``ring``, and with ``time_s``, how long before the key
        frame each sweep was taken, if ``count`` is not 0.

    Raises:
        FileError: a sweep cannot be read.
    """
    token, own = index.token[frame], int(index.sweep_of_frame[frame])
    key = _read(root / index.lidar_file[frame], f"frame {token}, LiDAR")
    if not count:
        return key
    lidar_from_global = np.linalg.inv(index.global_from_ego[frame] @ index.ego_from_lidar[frame])
    xyz, fields = [key.xyz_m], {name: [value] for name, value in key.fields.items()}
    fields["time_s"] = [torch.zeros(len(key))]
    for row in range(own - 1, max(int(index.sweep_begin[frame]), own - count) - 1, -1):
        cloud = _read(root / index.sweep_file[row], f"frame {token}, earlier LiDAR sweep")
        cloud = cloud[(cloud.xyz_m[:, :2].abs() >= min_distance_m).any(1)]
        mount = index.ego_from_camera[index.sweep_ego_from_lidar[row]]
        key_from_sweep = torch.from_numpy(lidar_from_global @ index.sweep_global_from_ego[row] @ mount)
        seconds = 1e-6 * float(index.sweep_timestamp_us[own] - index.sweep_timestamp_us[row])
        xyz.append(cloud.transform(key_from_sweep, "lidar").xyz_m)
        for name, value in cloud.fields.items():
            fields[name].append(value)
        fields["time_s"].append(torch.full((len(cloud),), seconds))
    return PointCloud(torch.cat(xyz), {name: torch.cat(values) for name, values in fields.items()}, "lidar")


def _read(path: Path, record: str) -> PointCloud:
    """A sweep of nuScenes, or a point file of another format (those of other data sets), in the LiDAR frame."""
    if path.name.endswith(".pcd.bin"):
        return read_nuscenes_points(path, record)
    return replace(read_points(path), frame="lidar")
