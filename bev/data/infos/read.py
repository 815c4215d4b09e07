"""Frames of mmdet3d's info files: the 1.x flavour (v2) and nuScenes files of 0.x."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.geometry.transforms import rigid_from_quaternion
from bev.io import FileError
from bev.io.pickle import read_pickle
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES, BoxConvention, boxes_from_array


@dataclass
class InfoCamera:
    """A camera of a frame; matrices (4, 4) and (3, 3), m and px."""

    file: str
    timestamp_us: int
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    global_from_ego: np.ndarray


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
    boxes: Boxes3D
    cameras: dict[str, InfoCamera] = field(default_factory=dict)
    sweeps: list[InfoSweep] = field(default_factory=list)
    scene_name: str = ""

    @property
    def scene(self) -> str:
        """The file's name or token of the scene; where it has none the recording's log, the first part of file names."""
        return self.scene_name or Path(self.lidar_file).name.partition("__")[0]


def read_infos(path: str | Path, convention: BoxConvention | None = None) -> list[InfoFrame]:
    """Frames of an info file of either flavour, in its order; see :class:`InfoDataset`."""
    content = read_pickle(path)
    if isinstance(content, dict) and "data_list" in content and "metainfo" in content:
        categories = content["metainfo"].get("categories") or {name: i for i, name in enumerate(CLASSES)}
        names = {number: name for name, number in categories.items()}
        return _read_each(path, content["data_list"], lambda row: _read_v2(row, names, convention or "mmdet3d_v1"))
    if isinstance(content, dict) and "infos" in content:
        if convention is None:
            raise ValueError(
                f"{path}: info files of mmdet3d 0.x do not say which box convention they use; give "
                "convention='mmdet3d_v0' (written by mmdet3d < 1.0) or 'mmdet3d_v1'"
            )
        return _read_each(path, content["infos"], lambda row: _read_old(row, convention))
    raise FileError(f"{path}: not an info file: expected the keys metainfo and data_list (1.x), or infos (0.x)")


def _read_each(path: str | Path, rows: Any, read: Callable[[dict[str, Any]], InfoFrame]) -> list[InfoFrame]:
    frames = []
    for i, row in enumerate(rows):
        where = f"{path}: frame {i} ({row.get('token', '?') if isinstance(row, dict) else type(row).__name__})"
        try:
            frame = read(row)
        except KeyError as error:
            raise FileError(f"{where}: key {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise FileError(f"{where}: {error}") from error
        _check_frame(frame, where)
        frames.append(frame)
    return frames


def _check_frame(frame: InfoFrame, where: str) -> None:
    matrices = {"lidar2ego": frame.ego_from_lidar, "ego2global": frame.global_from_ego}
    for name, camera in frame.cameras.items():
        matrices |= {f"{name} cam2ego": camera.ego_from_camera, f"{name} ego2global": camera.global_from_ego}
        if camera.intrinsics.shape != (3, 3) or not np.isfinite(camera.intrinsics).all():
            raise FileError(f"{where}: the intrinsics of {name} are not 3x3 finite numbers")
    for i, sweep in enumerate(frame.sweeps):
        matrices |= {f"sweep {i} lidar2ego": sweep.ego_from_lidar, f"sweep {i} ego2global": sweep.global_from_ego}
    for name, matrix in matrices.items():
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise FileError(f"{where}: {name} is not a 4x4 matrix of finite numbers")
    if not bool(torch.isfinite(frame.boxes.center_m).all() and (frame.boxes.size_m > 0).all()):
        raise FileError(f"{where}: a box has a centre that is not finite or a size that is not positive")


def _read_v2(row: dict[str, Any], names: dict[int, str], convention: BoxConvention) -> InfoFrame:
    ego_from_lidar = _matrix(row["lidar_points"], "lidar2ego")
    global_from_ego = _matrix(row, "ego2global")
    frame = InfoFrame(
        token=str(row.get("token", row.get("sample_idx", ""))),
        timestamp_us=round(row["timestamp"] * 1e6),
        lidar_file=row["lidar_points"]["lidar_path"],
        ego_from_lidar=ego_from_lidar,
        global_from_ego=global_from_ego,
        boxes=_boxes_v2(row.get("instances", []), names, convention),
        sweeps=[_sweep_v2(sweep) for sweep in reversed(row.get("lidar_sweeps", []))],
        scene_name=str(row.get("scene_token", "")),
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
    return frame


def _sweep_v2(row: dict[str, Any]) -> InfoSweep:
    points = row["lidar_points"]
    return InfoSweep(
        points["lidar_path"], round(row["timestamp"] * 1e6), _matrix(points, "lidar2ego"), _matrix(row, "ego2global")
    )


def _matrix(row: dict[str, Any], key: str) -> np.ndarray:
    matrix = np.array(row[key], np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"{key} is not a 4x4 matrix of finite numbers")
    return matrix


def _boxes_v2(instances: Sequence[dict[str, Any]], names: dict[int, str], convention: BoxConvention) -> Boxes3D:
    kept = [i for i in instances if names.get(i["bbox_label_3d"]) in CLASSES]
    numbers = [[*i["bbox_3d"][:7], *i.get("velocity", (np.nan, np.nan))[:2]] for i in kept]
    boxes = boxes_from_array(
        torch.tensor(numbers, dtype=torch.float64).reshape(-1, 9),
        torch.tensor([CLASSES.index(names[i["bbox_label_3d"]]) for i in kept], dtype=torch.int64),
        convention,
        z="center",
    )
    return _with_counts(boxes, [i.get("num_lidar_pts", 1) for i in kept], [i.get("num_radar_pts", 0) for i in kept])


def _with_counts(boxes: Boxes3D, lidar: Any, radar: Any) -> Boxes3D:
    counts = [torch.from_numpy(np.array(column, np.int64).reshape(len(boxes))) for column in (lidar, radar)]
    return replace(boxes, num_lidar_pts=counts[0], num_radar_pts=counts[1])


def _read_old(row: dict[str, Any], convention: BoxConvention) -> InfoFrame:
    known = np.array([name in CLASSES for name in row["gt_names"]], bool)
    boxes = boxes_from_array(
        torch.from_numpy(np.concatenate([row["gt_boxes"], row["gt_velocity"]], 1).astype(np.float64)[known]),
        torch.tensor([CLASSES.index(name) for name in np.array(row["gt_names"])[known]], dtype=torch.int64),
        convention,
        z="center",
    )
    frame = InfoFrame(
        token=row["token"],
        timestamp_us=int(row["timestamp"]),
        lidar_file=row["lidar_path"],
        ego_from_lidar=_pose(row["lidar2ego_rotation"], row["lidar2ego_translation"]),
        global_from_ego=_pose(row["ego2global_rotation"], row["ego2global_translation"]),
        boxes=_with_counts(boxes, np.array(row["num_lidar_pts"])[known], np.array(row["num_radar_pts"])[known]),
        sweeps=[_sweep_old(sweep) for sweep in reversed(row.get("sweeps", []))],
        scene_name=str(row.get("scene_token", "")),
    )
    for name, camera in row["cams"].items():
        frame.cameras[name] = InfoCamera(
            camera["data_path"],
            int(camera["timestamp"]),
            np.array(camera["cam_intrinsic"], np.float64),
            _pose(camera["sensor2ego_rotation"], camera["sensor2ego_translation"]),
            _pose(camera["ego2global_rotation"], camera["ego2global_translation"]),
        )
    return frame


def _sweep_old(row: dict[str, Any]) -> InfoSweep:
    return InfoSweep(
        row["data_path"],
        int(row["timestamp"]),
        _pose(row["sensor2ego_rotation"], row["sensor2ego_translation"]),
        _pose(row["ego2global_rotation"], row["ego2global_translation"]),
    )


def _pose(quaternion: Sequence[float], translation: Sequence[float]) -> np.ndarray:
    return rigid_from_quaternion(
        torch.tensor(list(quaternion), dtype=torch.float64), torch.tensor(list(translation), dtype=torch.float64)
    ).numpy()
