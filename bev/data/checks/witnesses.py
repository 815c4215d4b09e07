"""What the world says about a way of reading boxes: each witness is a share of boxes that fit it.

Vehicles are longer than wide; what moves, moves ahead; boxes stand on the ground; what is here at one moment is at the
next where its velocity took it; LiDAR points lie in the boxes that count them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from bev.data.checks.table import BoxTable
from bev.structures.conventions import CLASSES

Vote = tuple[int, int]  # boxes that fit, boxes that were asked

_LONG = [CLASSES.index(name) for name in ("car", "truck", "bus", "trailer", "motorcycle", "bicycle")]
_MOVING_MPS, _AHEAD = 1.5, 0.9
_NEAR_M, _GROUND_M = 25.0, 0.5
_STAYS_M, _EGO_WAY_M = 0.5, 1.0
# Fewer points are in a wrongly turned box as often; farther boxes of sources that do not count may have none.
_COUNTED, _UNCOUNTED_RANGE_M = 5, 30.0

TEXTS = {
    "sizes": "long vehicles are longer than wide",
    "motion": "moving objects move ahead",
    "ground": "near boxes stand on the ground",
    "next frame": "objects are in the next frame where their velocity takes them",
    "points": "boxes hold their LiDAR points",
    "range": "boxes are within 150 m",
}


def sizes(boxes: BoxTable) -> Vote:
    """Long vehicles with a clearly longer side, and those whose length it is."""
    long = boxes.size_m[np.isin(boxes.label, _LONG), :2]
    decided = long[np.maximum(long[:, 0], long[:, 1]) > 1.2 * np.minimum(long[:, 0], long[:, 1])]
    return int((decided[:, 0] > decided[:, 1]).sum()), len(decided)


def motion(boxes: BoxTable) -> Vote:
    """Objects faster than 1.5 m/s, and those that move within 25 degrees of their heading."""
    speed = np.linalg.norm(boxes.velocity_mps[:, :2], axis=1)
    moving = np.nan_to_num(speed) > _MOVING_MPS
    heading = np.stack([np.cos(boxes.yaw_rad), np.sin(boxes.yaw_rad)], -1)[moving]
    ahead = (heading * boxes.velocity_mps[moving, :2]).sum(1) > _AHEAD * speed[moving]
    return int(ahead.sum()), int(moving.sum())


def reach(boxes: BoxTable) -> Vote:
    """All boxes, and those within 150 m."""
    return int((np.linalg.norm(boxes.center_m[:, :2], axis=1) < 150).sum()), len(boxes)


def ground(boxes: BoxTable, ground_m: float | None) -> Vote:
    """Boxes within 25 m, and those whose bottom is within 0.5 m of the ground.

    Args:
        ground_m: height of the ground in the ego frame; None where it is not known: nobody is asked.
    """
    if ground_m is None:
        return 0, 0
    up = boxes.ego_from_lidar[boxes.row]
    bottom = boxes.center_m - boxes.size_m * [0, 0, 0.5]
    height = np.einsum("mj,mj->m", up[:, 2, :3], bottom) + up[:, 2, 3]
    near = np.linalg.norm(boxes.center_m[:, :2], axis=1) < _NEAR_M
    return int((abs(height[near] - ground_m) < _GROUND_M).sum()), int(near.sum())


def next_frame(boxes: BoxTable) -> Vote:
    """Boxes of known velocity and of frames after which the vehicle moves a metre or turns, and those that are met.

    In the next frame a box of the same class (of the same object, where objects have numbers) must be within half a
    metre of where the velocity takes this one, over ground.
    """
    to_global = boxes.moved(boxes.global_from_lidar)
    after = boxes.following[boxes.row]
    pose = boxes.global_from_ego
    way = np.linalg.norm(pose[boxes.following, :2, 3] - pose[:, :2, 3], axis=1)
    asked = (after >= 0) & (way[boxes.row] > _EGO_WAY_M) & np.isfinite(boxes.velocity_mps[:, :2]).all(1)
    met = total = 0
    for row in np.unique(boxes.row[asked]):
        here, there = np.flatnonzero(asked & (boxes.row == row)), np.flatnonzero(boxes.row == boxes.following[row])
        if not len(there):
            continue
        elapsed = boxes.time_s[boxes.following[row]] - boxes.time_s[row]
        expected = (to_global.center_m + to_global.velocity_mps * elapsed)[here, :2]
        apart = np.linalg.norm(expected[:, None] - to_global.center_m[there, :2][None], axis=-1)
        same = boxes.label[here][:, None] == boxes.label[there][None]
        tracked = (boxes.track[here] >= 0)[:, None] & (boxes.track[there] >= 0)[None]
        same &= ~tracked | (boxes.track[here][:, None] == boxes.track[there][None])
        known = same.any(1)
        met += int((np.where(same, apart, np.inf).min(1)[known] < _STAYS_M).sum())
        total += int(known.sum())
    return met, total


def should_hold_points(boxes: BoxTable) -> np.ndarray:
    """(M,) bool, of the boxes as they are read: those that are asked for their points, see :func:`points`."""
    if counted(boxes):
        return boxes.num_lidar_pts >= _COUNTED
    near: np.ndarray = np.linalg.norm(boxes.center_m[:, :2], axis=1) < _UNCOUNTED_RANGE_M
    return near


def counted(boxes: BoxTable) -> bool:
    """Whether the source counts points; sources that do not say 1 for every box."""
    return bool((boxes.num_lidar_pts > 1).any())


class Cloud:
    """LiDAR points of one frame, ready to be counted in boxes.

    Args:
        row: the frame's position in the table of boxes.
        xyz_m: (P, 3) in its LiDAR frame; points that are not finite are left out.
    """

    def __init__(self, row: int, xyz_m: np.ndarray) -> None:
        self.row, self._xyz_m = row, xyz_m[np.isfinite(xyz_m).all(1)].astype(np.float64)
        self._tree = cKDTree(self._xyz_m)

    def count(self, boxes: BoxTable) -> np.ndarray:
        """(M,) points in each box; faces count as inside, as in nuScenes' own counts."""
        half = boxes.size_m / 2
        near = self._tree.query_ball_point(boxes.center_m, np.linalg.norm(half, axis=1) + 1e-6)
        counts = np.zeros(len(boxes), np.int64)
        for i, rows in enumerate(near):
            offset = self._xyz_m[rows] - boxes.center_m[i]
            cos, sin = np.cos(boxes.yaw_rad[i]), np.sin(boxes.yaw_rad[i])
            along, across = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
            inside = (abs(along) <= half[i, 0]) & (abs(across) <= half[i, 1]) & (abs(offset[:, 2]) <= half[i, 2])
            counts[i] = inside.sum()
        return counts


def points(boxes: BoxTable, asked: np.ndarray, clouds: Sequence[Cloud]) -> Vote:
    """Boxes that should hold points, and those that do.

    Where a source counts, these are boxes with at least five points, and they must hold as many within a tenth (and
    two); where it does not, boxes within 30 m, and they must hold at least five.

    Args:
        asked: (M,) bool, from :func:`should_hold_points`.
        clouds: points of some of the frames.
    """
    counts = counted(boxes)
    fit = total = 0
    for cloud in clouds:
        own = boxes.select(asked & (boxes.row == cloud.row))
        found, stated = cloud.count(own), own.num_lidar_pts
        fits = abs(found - stated) <= np.maximum(2, 0.1 * stated) if counts else found >= _COUNTED
        fit, total = fit + int(fits.sum()), total + len(own)
    return fit, total
