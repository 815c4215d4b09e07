"""Info files of mmdet3d (pickles) as a data set: the 1.x flavour (v2) and nuScenes files of 0.x."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.data.frames import FrameDataset, takes_frame_options
from bev.geometry.rotations import quaternion_from_yaw
from bev.geometry.transforms import rigid_from_quaternion
from bev.io import FileError
from bev.io.columns import Strings
from bev.io.pickle import read_pickle
from bev.registry import DATASETS
from bev.structures import Boxes3D, Sample
from bev.structures.conventions import CAMERAS_DETR3D, CLASSES, BoxConvention, boxes_from_array

# Key frames are half a second apart; the same limit as for nuScenes' velocities.
_MAX_GAP_US = 1_500_000


@dataclass
class InfoCamera:
    """A camera of a frame; matrices (4, 4) and (3, 3), m and px."""

    file: str
    timestamp_us: int
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    global_from_ego: np.ndarray


@dataclass
class InfoFrame:
    """A frame of an info file; boxes in the LiDAR frame."""

    token: str
    timestamp_us: int
    lidar_file: str
    ego_from_lidar: np.ndarray
    global_from_ego: np.ndarray
    boxes: Boxes3D
    cameras: dict[str, InfoCamera] = field(default_factory=dict)

    @property
    def scene(self) -> str:
        """Info files do not name the scene; the recording's log, the first part of every file name, is the nearest."""
        return Path(self.lidar_file).name.partition("__")[0]


@DATASETS.register_module()
@takes_frame_options
class InfoDataset(FrameDataset):
    """Frames of an mmdet3d info file.

    Args:
        path: the pickle; it is read with a restricted unpickler.
        root: folder of the sensor files; None: the pickle's. File names are looked up as they are and under
            ``samples/<channel>/``.
        convention: of the boxes. v2 files are ``mmdet3d_v1``. Files of 0.x do not say theirs, and reading it wrongly
            is silent: it must be given (``mmdet3d_v0`` for those that mmdet3d < 1.0 wrote).
        options: arguments of :class:`bev.data.frames.FrameDataset`.

    Raises:
        FileError: not an info file; names the frame and the key.
        ValueError: a 0.x file without ``convention``.
    """

    def __init__(
        self, path: str, root: str | None = None, convention: BoxConvention | None = None, **options: Any
    ) -> None:
        frames = read_infos(path, convention)
        folder = Path(path).parent if root is None else Path(root)
        index = index_of_infos(frames, folder)
        super().__init__(index, np.arange(len(index)), folder, **options)



def load_frame(folder: str | Path, cameras: Sequence[str] = CAMERAS_DETR3D) -> Sample:
    """The one key frame of a folder with an info pickle (v2) and its sensor files.

    Returns:
        Full-size images, rig, LiDAR points and boxes, in the LiDAR frame.

    Raises:
        FileError: the folder has no single pickle, or one of its files cannot be used.
    """
    pickles = sorted(Path(folder).glob("*.pkl"))
    if len(pickles) != 1:
        raise FileError(f"{folder}: expected one info pickle (.pkl), found {len(pickles)}")
    return InfoDataset(str(pickles[0]), cameras=cameras, load_points=True, use_valid_flag=False)[0]


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
    for name, matrix in matrices.items():
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise FileError(f"{where}: {name} is not a 4x4 matrix of finite numbers")
    if not bool(torch.isfinite(frame.boxes.center_m).all() and (frame.boxes.size_m > 0).all()):
        raise FileError(f"{where}: a box has a centre that is not finite or a size that is not positive")


def _read_v2(row: dict[str, Any], names: dict[int, str], convention: BoxConvention) -> InfoFrame:
    ego_from_lidar = np.array(row["lidar_points"]["lidar2ego"], np.float64)
    global_from_ego = np.array(row["ego2global"], np.float64)
    frame = InfoFrame(
        token=str(row.get("token", row.get("sample_idx", ""))),
        timestamp_us=round(row["timestamp"] * 1e6),
        lidar_file=row["lidar_points"]["lidar_path"],
        ego_from_lidar=ego_from_lidar,
        global_from_ego=global_from_ego,
        boxes=_boxes_v2(row.get("instances", []), names, convention),
    )
    global_from_lidar = global_from_ego @ ego_from_lidar
    for name, camera in row["images"].items():
        if camera.get("img_path") is None:
            continue
        ego_from_camera = np.array(camera["cam2ego"], np.float64)
        # The vehicle's pose at the camera's time is not stored; it is what makes lidar2cam come out.
        global_from_camera = global_from_lidar @ np.linalg.inv(np.array(camera["lidar2cam"], np.float64))
        frame.cameras[name] = InfoCamera(
            camera["img_path"],
            round(camera.get("timestamp", row["timestamp"]) * 1e6),
            np.array(camera["cam2img"], np.float64)[:3, :3],
            ego_from_camera,
            global_from_camera @ np.linalg.inv(ego_from_camera),
        )
    return frame


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


def _pose(quaternion: Sequence[float], translation: Sequence[float]) -> np.ndarray:
    return rigid_from_quaternion(
        torch.tensor(list(quaternion), dtype=torch.float64), torch.tensor(list(translation), dtype=torch.float64)
    ).numpy()


def index_of_infos(frames: Sequence[InfoFrame], root: Path) -> FrameIndex:
    """The same columns as from tables, frames in the file's order; boxes taken to the global frame."""
    channels = sorted({name for frame in frames for name in frame.cameras})
    scenes = list(dict.fromkeys(frame.scene for frame in frames))
    previous = _previous(frames)
    following = np.full(len(frames), -1, np.int32)
    following[previous[previous >= 0]] = np.flatnonzero(previous >= 0)
    return FrameIndex(
        scene_name=Strings.pack(scenes),
        channel=Strings.pack(channels),
        category=Strings.pack(CLASSES),
        token=Strings.pack([f.token for f in frames]),
        scene=np.array([scenes.index(f.scene) for f in frames], np.int32),
        timestamp_us=np.array([f.timestamp_us for f in frames], np.int64),
        previous=previous,
        following=following,
        lidar_file=Strings.pack([_locate(root, f.lidar_file, "LIDAR_TOP") for f in frames]),
        global_from_ego=np.array([f.global_from_ego for f in frames]),
        ego_from_lidar=np.array([f.ego_from_lidar for f in frames]),
        **_camera_columns(frames, channels, root),
        **_box_columns(frames),
    )


def _previous(frames: Sequence[InfoFrame]) -> np.ndarray:
    """(F,) int32 row of the frame before, in the same recording and at most 1.5 s earlier; else -1."""
    order = sorted(range(len(frames)), key=lambda i: (frames[i].scene, frames[i].timestamp_us))
    previous = np.full(len(frames), -1, np.int32)
    for before, after in zip(order, order[1:]):
        gap = frames[after].timestamp_us - frames[before].timestamp_us
        if frames[before].scene == frames[after].scene and gap <= _MAX_GAP_US:
            previous[after] = before
    return previous


def _locate(root: Path, name: str, channel: str) -> str:
    """A file name relative to ``root``: from ``samples/`` or ``sweeps/`` on, as it is, or in the channel's folder."""
    for folder in ("samples/", "sweeps/"):
        if folder in name:
            return name[name.index(folder) :]
    return name if (root / name).exists() else f"samples/{channel}/{name}"


def _camera_columns(frames: Sequence[InfoFrame], channels: Sequence[str], root: Path) -> dict[str, Any]:
    cells = [(frame.cameras.get(name), name) for frame in frames for name in channels]
    present = [camera for camera, _ in cells if camera is not None]
    shape = (len(frames), len(channels))
    there = np.array([camera is not None for camera, _ in cells], bool).reshape(shape)
    calibration = np.full(shape, -1, np.int32)
    calibration[there] = np.arange(len(present))
    timestamp, pose = np.zeros(shape, np.int64), np.tile(np.eye(4), (*shape, 1, 1))
    timestamp[there] = [camera.timestamp_us for camera in present]
    pose[there] = np.array([camera.global_from_ego for camera in present]).reshape(-1, 4, 4)
    return {
        "camera_file": Strings.pack([_locate(root, c.file, name) if c is not None else "" for c, name in cells]),
        "camera_timestamp_us": timestamp,
        "camera_size_px": np.zeros((*shape, 2), np.int32),
        "camera_calibration": calibration,
        "global_from_ego_of_camera": pose,
        "ego_from_camera": np.array([camera.ego_from_camera for camera in present]).reshape(-1, 4, 4),
        "intrinsics": np.array([camera.intrinsics for camera in present]).reshape(-1, 3, 3),
    }


def _box_columns(frames: Sequence[InfoFrame]) -> dict[str, Any]:
    boxes = [
        f.boxes.transform(torch.from_numpy(f.global_from_ego @ f.ego_from_lidar), "global") for f in frames
    ] or [Boxes3D.empty("global")]
    joined = Boxes3D.cat(boxes)
    count = len(joined)
    velocity = torch.cat([joined.velocity_mps, torch.zeros_like(joined.velocity_mps[:, :1])], 1)
    zeros = torch.zeros(count, dtype=torch.int32)
    lidar = zeros if joined.num_lidar_pts is None else joined.num_lidar_pts.int()
    radar = zeros if joined.num_radar_pts is None else joined.num_radar_pts.int()
    return {
        "box_end": np.cumsum([len(b) for b in boxes])[: len(frames)].astype(np.int64),
        "box_center_m": joined.center_m.numpy(),
        "box_size_m": joined.size_m.numpy(),
        "box_rotation": quaternion_from_yaw(joined.yaw_rad).numpy(),
        "box_velocity_mps": velocity.numpy(),
        "box_category": joined.label.to(torch.int16).numpy(),
        "box_label": joined.label.to(torch.int8).numpy(),
        "box_attribute": np.full(count, -1, np.int8),
        "box_num_lidar_pts": lidar.numpy(),
        "box_num_radar_pts": radar.numpy(),
        "box_visibility": np.zeros(count, np.int8),
        "box_track": np.full(count, -1, np.int32),
    }
