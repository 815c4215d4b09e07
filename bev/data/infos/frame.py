"""One record of an info file, in the layouts of mmdet3d 1.x and 0.x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bev.geometry.transforms import rigid_from_quaternion
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES


@dataclass
class InfoCamera:
    """A camera of a frame; matrices (4, 4) and (3, 3), m and px; ``size_px`` (H, W), 0 where it is not known."""

    file: str
    timestamp_us: int
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    global_from_ego: np.ndarray
    size_px: tuple[int, int] = (0, 0)


@dataclass
class InfoSweep:
    """A LiDAR sweep before a key frame; matrices (4, 4), m."""

    file: str
    timestamp_us: int
    ego_from_lidar: np.ndarray
    global_from_ego: np.ndarray


@dataclass
class InfoFrame:
    """A frame of an info file; boxes in the LiDAR frame, sweeps oldest first."""

    token: str
    timestamp_us: int
    lidar_file: str
    ego_from_lidar: np.ndarray
    global_from_ego: np.ndarray
    boxes: Boxes3D = field(default_factory=lambda: Boxes3D.empty("lidar"))
    cameras: dict[str, InfoCamera] = field(default_factory=dict)
    sweeps: list[InfoSweep] = field(default_factory=list)
    scene_token: str = ""

    @property
    def scene(self) -> str:
        """The file's token of the scene; where it has none the recording's log, the first part of file names."""
        return self.scene_token or Path(self.lidar_file).name.partition("__")[0]


@dataclass
class RawBoxes:
    """Boxes of the ten classes as a file has them.

    Attributes:
        array: (M, 9) float64, the file's numbers, velocity NaN where it is not known.
        label: (M,) int64 indices into ``CLASSES``.
        num_lidar_pts, num_radar_pts: (M,) int64.
    """

    array: Tensor
    label: Tensor
    num_lidar_pts: Tensor
    num_radar_pts: Tensor


def locate(root: Path, name: str, channel: str) -> str:
    """A file name relative to ``root``: from ``samples/`` or ``sweeps/`` on; bare names are in the channel's folder."""
    for folder in ("samples/", "sweeps/"):
        if folder in name:
            return name[name.index(folder) :]
    return name if "/" in name or (root / name).exists() else f"samples/{channel}/{name}"


def read_v2(row: Mapping[str, Any], names: Mapping[int, str]) -> tuple[InfoFrame, RawBoxes]:
    """A record of 1.x; ``names`` are the classes of its labels. Raises KeyError, TypeError or ValueError."""
    ego_from_lidar, global_from_ego = _matrix(row["lidar_points"], "lidar2ego"), _matrix(row, "ego2global")
    frame = InfoFrame(
        token=str(row.get("token", row.get("sample_idx", ""))),
        timestamp_us=round(row["timestamp"] * 1e6),
        lidar_file=row["lidar_points"]["lidar_path"],
        ego_from_lidar=ego_from_lidar,
        global_from_ego=global_from_ego,
        sweeps=[_sweep_v2(sweep) for sweep in reversed(row.get("lidar_sweeps", []))],
        scene_token=str(row.get("scene_token", "")),
    )
    for name, camera in row["images"].items():
        if camera.get("img_path") is None:
            continue
        ego_from_camera = _matrix(camera, "cam2ego")
        # The vehicle's pose at the camera's time is not stored; it is what makes lidar2cam come out.
        global_from_camera = global_from_ego @ ego_from_lidar @ np.linalg.inv(_matrix(camera, "lidar2cam"))
        frame.cameras[name] = InfoCamera(
            camera["img_path"],
            round(camera.get("timestamp", row["timestamp"]) * 1e6),
            np.array(camera["cam2img"], np.float64)[:3, :3],
            ego_from_camera,
            global_from_camera @ np.linalg.inv(ego_from_camera),
        )
    kept = [i for i in row.get("instances", []) if names.get(i["bbox_label_3d"]) in CLASSES]
    numbers = [[*i["bbox_3d"][:7], *i.get("velocity", (np.nan, np.nan))[:2]] for i in kept]
    labels = [CLASSES.index(names[i["bbox_label_3d"]]) for i in kept]
    # Some writers leave the counts out; such a box counts as seen.
    counts = [i.get("num_lidar_pts", 1) for i in kept], [i.get("num_radar_pts", 0) for i in kept]
    return frame, _raw(numbers, labels, *counts)


def _sweep_v2(row: Mapping[str, Any]) -> InfoSweep:
    points = row["lidar_points"]
    return InfoSweep(
        points["lidar_path"], round(row["timestamp"] * 1e6), _matrix(points, "lidar2ego"), _matrix(row, "ego2global")
    )


def read_old(row: Mapping[str, Any]) -> tuple[InfoFrame, RawBoxes]:
    """A record of 0.x, with what BEVDet and BEVFormer add. Raises KeyError, TypeError or ValueError."""
    frame = InfoFrame(
        token=row["token"],
        timestamp_us=int(row["timestamp"]),
        lidar_file=row["lidar_path"],
        ego_from_lidar=_pose(row["lidar2ego_rotation"], row["lidar2ego_translation"]),
        global_from_ego=_pose(row["ego2global_rotation"], row["ego2global_translation"]),
        sweeps=[_sweep_old(sweep) for sweep in reversed(row.get("sweeps", []))],
        scene_token=str(row.get("scene_token", "")),
    )
    for name, camera in row["cams"].items():
        frame.cameras[name] = InfoCamera(
            camera["data_path"],
            int(camera["timestamp"]),
            np.array(camera["cam_intrinsic"], np.float64),
            _pose(camera["sensor2ego_rotation"], camera["sensor2ego_translation"]),
            _pose(camera["ego2global_rotation"], camera["ego2global_translation"]),
        )
    if "gt_boxes" not in row:  # a test split
        return frame, _raw([], [], [], [])
    known = np.array([name in CLASSES for name in row["gt_names"]], bool)
    boxes = np.concatenate([np.reshape(row["gt_boxes"], (-1, 7)), np.reshape(row["gt_velocity"], (-1, 2))], 1)
    labels = [CLASSES.index(name) for name in np.array(row["gt_names"])[known]]
    counts = [np.array(row[name])[known] for name in ("num_lidar_pts", "num_radar_pts")]
    return frame, _raw(boxes[known].astype(np.float64), labels, *counts)


def _sweep_old(row: Mapping[str, Any]) -> InfoSweep:
    return InfoSweep(
        row["data_path"],
        int(row["timestamp"]),
        _pose(row["sensor2ego_rotation"], row["sensor2ego_translation"]),
        _pose(row["ego2global_rotation"], row["ego2global_translation"]),
    )


def _raw(numbers: Any, labels: Sequence[int], lidar: Any, radar: Any) -> RawBoxes:
    counts = [torch.from_numpy(np.array(column, np.int64).reshape(len(labels))) for column in (lidar, radar)]
    array = torch.from_numpy(np.array(numbers, np.float64).reshape(len(labels), 9))
    return RawBoxes(array, torch.tensor(list(labels), dtype=torch.int64), counts[0], counts[1])


def _matrix(row: Mapping[str, Any], key: str) -> np.ndarray:
    matrix = np.array(row[key], np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"{key} is not a 4x4 matrix of finite numbers")
    return matrix


def _pose(quaternion: Sequence[float], translation: Sequence[float]) -> np.ndarray:
    return rigid_from_quaternion(
        torch.tensor(list(quaternion), dtype=torch.float64), torch.tensor(list(translation), dtype=torch.float64)
    ).numpy()
