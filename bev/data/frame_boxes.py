"""Boxes of an index as the structure that everything else speaks."""

from __future__ import annotations

import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.geometry.rotations import matrix_from_quaternion, yaw_from_matrix
from bev.structures import Boxes3D

_BOX_FIELDS = (
    "center_m",
    "size_m",
    "rotation",
    "velocity_mps",
    "label",
    "attribute",
    "num_lidar_pts",
    "num_radar_pts",
    "visibility",
    "track",
)


def boxes_in_global(index: FrameIndex, frame: int) -> Boxes3D:
    """Boxes of the ten detection classes of a frame, global frame, float64."""
    every = index.boxes_of(frame)
    rows = np.arange(every.start, every.stop)[index.box_label[every] >= 0]
    column = {f: torch.from_numpy(getattr(index, f"box_{f}")[rows]) for f in _BOX_FIELDS}
    return Boxes3D(
        center_m=column["center_m"],
        size_m=column["size_m"],
        yaw_rad=yaw_from_matrix(matrix_from_quaternion(column["rotation"])),
        velocity_mps=column["velocity_mps"][:, :2],
        label=column["label"].long(),
        score=torch.ones(len(rows), dtype=torch.float64),
        frame="global",
        attribute=column["attribute"].long(),
        num_lidar_pts=column["num_lidar_pts"].long(),
        num_radar_pts=column["num_radar_pts"].long(),
        visibility=column["visibility"].long(),
        track_id=column["track"].long(),
    )
