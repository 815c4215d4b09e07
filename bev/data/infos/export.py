"""An index to an info file of mmdet3d 1.x (v2, info version 1.1)."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from bev.data.frame_boxes import boxes_in_global
from bev.data.frame_index import FrameIndex
from bev.structures.conventions import CLASSES, boxes_to_array

_MAX_SWEEPS = 10
_POINT_FEATURES = 5  # x, y, z, intensity, ring


def write_infos(path: str | Path, index: FrameIndex, frames: Sequence[int], version: str = "") -> None:
    """Write frames of an index as mmdet3d 1.x reads them; atomically.

    Boxes are ``mmdet3d_v1`` with the height of their centre, velocities in the LiDAR frame (NaN where unknown), file
    names as mmdet3d's converter writes them: bare for key frames, relative to the root for sweeps.

    Args:
        path: the pickle; it holds Python's own types only.
        frames: rows of the index, in the order to write.
        version: of nuScenes, for the file's header.
    """
    meta = {
        "categories": {name: i for i, name in enumerate(CLASSES)},
        "dataset": "nuscenes",
        "version": version,
        "info_version": "1.1",
    }
    rows = [_record(index, int(frame), number) for number, frame in enumerate(frames)]
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(pickle.dumps({"metainfo": meta, "data_list": rows}, protocol=4))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _record(index: FrameIndex, frame: int, number: int) -> dict[str, Any]:
    global_from_lidar = index.global_from_ego[frame] @ index.ego_from_lidar[frame]
    return {
        "sample_idx": number,
        "token": index.token[frame],
        "scene_token": index.scenes[index.scene[frame]],
        "timestamp": int(index.timestamp_us[frame]) / 1e6,
        "ego2global": index.global_from_ego[frame].tolist(),
        "images": _images(index, frame, global_from_lidar),
        "lidar_points": {
            "num_pts_feats": _POINT_FEATURES,
            "lidar_path": PurePosixPath(index.lidar_file[frame]).name,
            "lidar2ego": index.ego_from_lidar[frame].tolist(),
        },
        "lidar_sweeps": _sweeps(index, frame, global_from_lidar),
        "instances": _instances(index, frame, global_from_lidar),
    }


def _images(index: FrameIndex, frame: int, global_from_lidar: np.ndarray) -> dict[str, Any]:
    images = {}
    for c, name in enumerate(index.channels):
        file, row = index.camera_file[frame * len(index.channels) + c], int(index.camera_calibration[frame, c])
        if not file:
            continue
        global_from_camera = index.global_from_ego_of_camera[frame, c] @ index.ego_from_camera[row]
        images[name] = {
            "img_path": PurePosixPath(file).name,
            "cam2img": index.intrinsics[row].tolist(),
            "cam2ego": index.ego_from_camera[row].tolist(),
            "timestamp": int(index.camera_timestamp_us[frame, c]) / 1e6,
            "lidar2cam": (np.linalg.inv(global_from_camera) @ global_from_lidar).tolist(),
        }
    return images


def _sweeps(index: FrameIndex, frame: int, global_from_lidar: np.ndarray) -> list[dict[str, Any]]:
    """The sweeps before the key frame, nearest first."""
    own = int(index.sweep_of_frame[frame])
    rows = range(own - 1, max(int(index.sweep_begin[frame]), own - _MAX_SWEEPS) - 1, -1)
    sweeps = []
    for row in rows:
        ego_from_lidar = index.ego_from_camera[index.sweep_ego_from_lidar[row]]
        global_from_sweep = index.sweep_global_from_ego[row] @ ego_from_lidar
        points = {
            "lidar_path": index.sweep_file[row],
            "lidar2ego": ego_from_lidar.tolist(),
            "lidar2sensor": (np.linalg.inv(global_from_sweep) @ global_from_lidar).tolist(),
        }
        pose = index.sweep_global_from_ego[row].tolist()
        when = int(index.sweep_timestamp_us[row]) / 1e6
        sweeps.append({"timestamp": when, "lidar_points": points, "ego2global": pose})
    return sweeps


def _instances(index: FrameIndex, frame: int, global_from_lidar: np.ndarray) -> list[dict[str, Any]]:
    boxes = boxes_in_global(index, frame).transform(torch.from_numpy(np.linalg.inv(global_from_lidar)), "lidar")
    assert boxes.num_lidar_pts is not None and boxes.num_radar_pts is not None
    array = boxes_to_array(boxes, "mmdet3d_v1", z="center").tolist()
    columns = zip(array, boxes.label.tolist(), boxes.num_lidar_pts.tolist(), boxes.num_radar_pts.tolist())
    return [
        {
            "bbox_label": label,
            "bbox_label_3d": label,
            "bbox_3d": numbers[:7],
            "bbox_3d_isvalid": lidar + radar > 0,
            "num_lidar_pts": lidar,
            "num_radar_pts": radar,
            "velocity": numbers[7:],
        }
        for numbers, label, lidar, radar in columns
    ]
