"""Boxes of many frames as one numpy table in their LiDAR frames, which other ways of reading them act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.geometry.rotations import matrix_from_quaternion, yaw_from_matrix


@dataclass(frozen=True, eq=False)
class BoxTable:
    """M boxes of F frames, each in its frame's LiDAR frame.

    Attributes:
        row: (M,) position of each box's frame among the F.
        center_m, size_m: (M, 3), length before width.
        yaw_rad: (M,) counter-clockwise from +x.
        velocity_mps: (M, 3), NaN where it is not known.
        label: (M,) index into ``CLASSES``.
        num_lidar_pts: (M,) as stated.
        num_points: (M,) LiDAR and radar, as stated.
        track: (M,) object's number, -1 where there is none.
        ego_from_lidar, global_from_ego: (F, 4, 4).
        time_s: (F,).
        following: (F,) position of the next frame of the scene, -1 where it is not in the table.
    """

    row: np.ndarray
    center_m: np.ndarray
    size_m: np.ndarray
    yaw_rad: np.ndarray
    velocity_mps: np.ndarray
    label: np.ndarray
    num_lidar_pts: np.ndarray
    num_points: np.ndarray
    track: np.ndarray
    ego_from_lidar: np.ndarray
    global_from_ego: np.ndarray
    time_s: np.ndarray
    following: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @property
    def global_from_lidar(self) -> np.ndarray:
        """(F, 4, 4)."""
        return self.global_from_ego @ self.ego_from_lidar

    def moved(self, matrix: np.ndarray) -> BoxTable:
        """Boxes after an (F, 4, 4) rigid transform of each frame; headings and velocities turn along."""
        center, direction, velocity = self._moved_columns(matrix)
        yaw = np.arctan2(direction[:, 1], direction[:, 0])
        return replace(self, center_m=center, yaw_rad=yaw, velocity_mps=velocity)

    def with_moved_velocity(self, matrix: np.ndarray) -> BoxTable:
        """The same boxes with turned velocities; matrix (F, 4, 4)."""
        return replace(self, velocity_mps=self._moved_columns(matrix)[2])

    def _moved_columns(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        m = matrix[self.row]
        turn = m[:, :3, :3]
        heading = np.stack([np.cos(self.yaw_rad), np.sin(self.yaw_rad), np.zeros(len(self))], -1)
        center = np.einsum("mij,mj->mi", turn, self.center_m) + m[:, :3, 3]
        return center, np.einsum("mij,mj->mi", turn, heading), np.einsum("mij,mj->mi", turn, self.velocity_mps)

    def select(self, rows: np.ndarray) -> BoxTable:
        """Boxes by mask or index; the frames stay."""
        names = ("row", "center_m", "size_m", "yaw_rad", "velocity_mps", "label", "num_lidar_pts", "num_points")
        return replace(self, **{name: getattr(self, name)[rows] for name in (*names, "track")})


def box_table(index: FrameIndex, frames: Sequence[int]) -> BoxTable:
    """Boxes of the detection classes of some frames of an index.

    Args:
        frames: rows of the index, each once.
    """
    chosen = np.asarray(frames, np.int64)
    parts = [np.arange(s.start, s.stop) for s in (index.boxes_of(int(f)) for f in chosen)]
    boxes = np.concatenate([np.zeros(0, np.int64), *parts])
    row = np.repeat(np.arange(len(chosen)), [len(part) for part in parts])
    kept = np.asarray(index.box_label)[boxes] >= 0 if len(boxes) else np.zeros(0, bool)
    boxes, row = boxes[kept], row[kept]
    position = np.full(len(index) + 1, -1, np.int64)  # the last entry answers for "no next frame"
    position[chosen] = np.arange(len(chosen))
    in_global = BoxTable(
        row=row,
        center_m=np.asarray(index.box_center_m)[boxes],
        size_m=np.asarray(index.box_size_m)[boxes],
        yaw_rad=_yaw(np.asarray(index.box_rotation)[boxes]),
        velocity_mps=np.asarray(index.box_velocity_mps)[boxes],
        label=np.asarray(index.box_label)[boxes].astype(np.int64),
        num_lidar_pts=np.asarray(index.box_num_lidar_pts)[boxes].astype(np.int64),
        num_points=(np.asarray(index.box_num_lidar_pts) + np.asarray(index.box_num_radar_pts))[boxes],
        track=np.asarray(index.box_track)[boxes].astype(np.int64),
        ego_from_lidar=np.asarray(index.ego_from_lidar)[chosen],
        global_from_ego=np.asarray(index.global_from_ego)[chosen],
        time_s=np.asarray(index.timestamp_us)[chosen] * 1e-6,
        following=position[np.asarray(index.following)[chosen]],
    )
    return in_global.moved(np.linalg.inv(in_global.global_from_lidar))


def _yaw(quaternion: np.ndarray) -> np.ndarray:
    import torch

    yaw: np.ndarray = yaw_from_matrix(matrix_from_quaternion(torch.from_numpy(quaternion.copy()))).numpy()
    return yaw
