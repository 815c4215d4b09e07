"""Frames of info files to the columns that tables give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.data.infos.frame import InfoFrame, InfoSweep, locate
from bev.geometry.rotations import quaternion_from_yaw
from bev.io.columns import Strings
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES

# Key frames are half a second apart; the same limit as for nuScenes' velocities.
_MAX_GAP_US = 1_500_000
Find = Callable[[Path, str, str], str]


def as_named(root: Path, name: str, channel: str) -> str:
    """The file name as it is: relative to the root, or absolute."""
    return name


def index_of_infos(frames: Sequence[InfoFrame], root: Path, find: Find = locate) -> FrameIndex:
    """The same columns as from tables, frames in the file's order; boxes taken to the global frame.

    Args:
        find: (root, name, channel) -> the file name relative to the root; names in info files have several forms.
    """
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
        lidar_file=Strings.pack([find(root, f.lidar_file, "LIDAR_TOP") for f in frames]),
        global_from_ego=np.array([f.global_from_ego for f in frames]),
        ego_from_lidar=np.array([f.ego_from_lidar for f in frames]),
        **_join_sensors(_camera_columns(frames, channels, root, find), _sweep_columns(frames, root, find)),
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


def _camera_columns(frames: Sequence[InfoFrame], channels: Sequence[str], root: Path, find: Find) -> dict[str, Any]:
    cells = [(frame.cameras.get(name), name) for frame in frames for name in channels]
    present = [camera for camera, _ in cells if camera is not None]
    shape = (len(frames), len(channels))
    there = np.array([camera is not None for camera, _ in cells], bool).reshape(shape)
    calibration = np.full(shape, -1, np.int32)
    calibration[there] = np.arange(len(present))
    timestamp, pose = np.zeros(shape, np.int64), np.tile(np.eye(4), (*shape, 1, 1))
    size = np.zeros((*shape, 2), np.int32)
    size[there] = np.array([camera.size_px for camera in present], np.int32).reshape(-1, 2)
    timestamp[there] = [camera.timestamp_us for camera in present]
    pose[there] = np.array([camera.global_from_ego for camera in present]).reshape(-1, 4, 4)
    return {
        "camera_file": Strings.pack([find(root, c.file, name) if c is not None else "" for c, name in cells]),
        "camera_timestamp_us": timestamp,
        "camera_size_px": size,
        "camera_calibration": calibration,
        "global_from_ego_of_camera": pose,
        "ego_from_camera": np.array([camera.ego_from_camera for camera in present]).reshape(-1, 4, 4),
        "intrinsics": np.array([camera.intrinsics for camera in present]).reshape(-1, 3, 3),
    }


def _sweep_columns(frames: Sequence[InfoFrame], root: Path, find: Find) -> dict[str, Any]:
    """Each frame's own list of sweeps, its key sweep last; ``sweep_ego_from_lidar`` counts from this dict's mounts."""
    own = [InfoSweep(f.lidar_file, f.timestamp_us, f.ego_from_lidar, f.global_from_ego) for f in frames]
    rows = [sweep for frame, key in zip(frames, own) for sweep in (*frame.sweeps, key)]
    end = np.cumsum([len(frame.sweeps) + 1 for frame in frames], dtype=np.int64)
    return {
        "sweep_file": Strings.pack([find(root, s.file, "LIDAR_TOP") for s in rows]),
        "sweep_timestamp_us": np.array([s.timestamp_us for s in rows], np.int64),
        "sweep_global_from_ego": np.array([s.global_from_ego for s in rows]).reshape(-1, 4, 4),
        "sweep_ego_from_lidar": np.arange(len(rows), dtype=np.int32),
        "sweep_begin": (end - [len(frame.sweeps) + 1 for frame in frames]).astype(np.int32),
        "sweep_of_frame": (end - 1).astype(np.int32),
        "mounts": np.array([s.ego_from_lidar for s in rows]).reshape(-1, 4, 4),
    }


def _join_sensors(camera: dict[str, Any], sweep: dict[str, Any]) -> dict[str, Any]:
    """One table of mountings: the cameras', then the LiDAR's."""
    mounts = sweep.pop("mounts")
    cameras = len(camera["ego_from_camera"])
    camera["ego_from_camera"] = np.concatenate([camera["ego_from_camera"], mounts])
    camera["intrinsics"] = np.concatenate([camera["intrinsics"], np.tile(np.eye(3), (len(mounts), 1, 1))])
    sweep["sweep_ego_from_lidar"] += np.int32(cameras)
    return {**camera, **sweep}


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
