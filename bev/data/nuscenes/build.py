"""The tables of a nuScenes folder to a FrameIndex."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.build_boxes import box_columns
from bev.data.nuscenes.rows import Columns, Frames, neighbours, refuse
from bev.data.nuscenes.tables import TABLES, Lookup, read_table
from bev.geometry.transforms import rigid_from_quaternion
from bev.io import FileError
from bev.io.columns import Strings

LIDAR = "LIDAR_TOP"

def build_index(folder: Path) -> FrameIndex:
    """Read the tables of one version, e.g. ``<root>/v1.0-mini``.

    Raises:
        FileError: a table is missing or malformed, a token points nowhere, or a number is not usable (NaN calibration,
            negative size ...); names the table, the record and the field.
    """
    tables = {name: read_table(folder, name, row) for name, row in TABLES.items()}
    try:
        frames, scene_columns = _order_frames(tables["scene"], tables["sample"])
        return FrameIndex(**scene_columns, **_sensor_columns(tables, frames), **box_columns(tables, frames))
    except FileError as error:
        raise FileError(f"{folder}: {error}") from error


def _order_frames(scenes: Sequence[Any], samples: Sequence[Any]) -> tuple[Frames, Columns]:
    scene_lookup = Lookup("scene", [s.token for s in scenes])
    tokens = [s.token for s in samples]
    scene = np.array(scene_lookup.rows([s.scene_token for s in samples], tokens, "sample.scene_token"), np.int32)
    timestamp = np.array([s.timestamp for s in samples], np.int64)
    order = np.lexsort((timestamp, scene))
    rows = [samples[i] for i in order]
    frames = Frames(rows, Lookup("sample", [r.token for r in rows]))
    return frames, {
        "scene_name": Strings.pack([s.name for s in scenes]),
        "token": Strings.pack(frames.tokens),
        "scene": scene[order],
        "timestamp_us": timestamp[order],
        "previous": neighbours(frames.lookup, frames.tokens, [r.prev for r in rows], "sample.prev"),
        "following": neighbours(frames.lookup, frames.tokens, [r.next for r in rows], "sample.next"),
    }


def _matrices(name: str, rows: Sequence[Any]) -> np.ndarray:
    """(n, 4, 4) of pose records; raises FileError for one that is not finite or whose quaternion is no rotation."""
    quaternion = np.array([r.rotation for r in rows], np.float64).reshape(-1, 4)
    translation = np.array([r.translation for r in rows], np.float64).reshape(-1, 3)
    wrong = ~(np.isfinite(quaternion).all(1) & np.isfinite(translation).all(1))
    refuse(wrong, name, rows, "holds a NaN or infinite value")
    refuse(abs(np.linalg.norm(quaternion, axis=1) - 1) > 1e-2, name, rows, "has a rotation that is no unit quaternion")
    return rigid_from_quaternion(torch.from_numpy(quaternion), torch.from_numpy(translation)).numpy()


def _sensor_columns(tables: dict[str, Any], frames: Frames) -> Columns:
    """Columns of the key frames' LiDAR and cameras."""
    sensors, calibrated = tables["sensor"], tables["calibrated_sensor"]
    calibration_tokens = [c.token for c in calibrated]
    sensor_lookup = Lookup("sensor", [s.token for s in sensors])
    sensor = sensor_lookup.rows(
        [c.sensor_token for c in calibrated], calibration_tokens, "calibrated_sensor.sensor_token"
    )
    data = [d for d in tables["sample_data"] if d.is_key_frame]
    owners = [d.token for d in data]
    calibration = np.array(
        Lookup("calibrated_sensor", calibration_tokens).rows(
            [d.calibrated_sensor_token for d in data], owners, "sample_data.calibrated_sensor_token"
        ),
        np.int32,
    )
    frame = np.array(frames.lookup.rows([d.sample_token for d in data], owners, "sample_data.sample_token"), np.int64)
    poses = tables["ego_pose"]
    pose = Lookup("ego_pose", [p.token for p in poses]).rows(
        [d.ego_pose_token for d in data], owners, "sample_data.ego_pose_token"
    )
    global_from_ego = _matrices("ego_pose", [poses[i] for i in pose])
    ego_from_sensor = _matrices("calibrated_sensor", calibrated)
    cameras = sorted({s.channel for s in sensors if s.modality == "camera"})
    channel_of = np.array([sensors[i].channel for i in sensor])[calibration] if len(data) else np.array([], str)
    lidar = _lidar_columns(frames, data, channel_of, frame, global_from_ego, ego_from_sensor[calibration])
    camera = _camera_columns(frames, data, channel_of, frame, global_from_ego, calibration, cameras)
    intrinsics = _intrinsics(calibrated, [sensors[i].modality == "camera" for i in sensor])
    return {**lidar, **camera, "ego_from_camera": ego_from_sensor, "intrinsics": intrinsics}


def _intrinsics(calibrated: Sequence[Any], is_camera: Sequence[bool]) -> np.ndarray:
    """(K, 3, 3); identity for sensors that are no cameras."""
    matrices = np.tile(np.eye(3), (len(calibrated), 1, 1))
    for i, (row, camera) in enumerate(zip(calibrated, is_camera)):
        if not camera:
            continue
        if [len(r) for r in row.camera_intrinsic] != [3, 3, 3]:
            raise FileError(f"table calibrated_sensor: record {row.token} needs a 3x3 camera_intrinsic")
        matrices[i] = row.camera_intrinsic
    wrong = ~np.isfinite(matrices).all((1, 2))
    refuse(wrong, "calibrated_sensor", calibrated, "has a NaN or infinite value in camera_intrinsic")
    wrong = (matrices[:, 0, 0] <= 0) | (matrices[:, 1, 1] <= 0)
    refuse(wrong, "calibrated_sensor", calibrated, "has a focal length that is not positive")
    return matrices


def _lidar_columns(
    frames: Frames,
    data: Sequence[Any],
    channel: np.ndarray,
    frame: np.ndarray,
    global_from_ego: np.ndarray,
    ego_from_sensor: np.ndarray,
) -> Columns:
    row_of = np.full(len(frames.rows), -1, np.int64)
    picked = np.flatnonzero(channel == LIDAR)
    row_of[frame[picked]] = picked
    refuse(row_of < 0, "sample", frames.rows, f"has no key frame of {LIDAR}")
    return {
        "lidar_file": Strings.pack([data[i].filename for i in row_of]),
        "global_from_ego": global_from_ego[row_of],
        "ego_from_lidar": ego_from_sensor[row_of],
    }


def _camera_columns(
    frames: Frames,
    data: Sequence[Any],
    channel: np.ndarray,
    frame: np.ndarray,
    global_from_ego: np.ndarray,
    calibration: np.ndarray,
    cameras: list[str],
) -> Columns:
    row_of = np.full((len(frames.rows), len(cameras)), -1, np.int64)
    for c, name in enumerate(cameras):
        picked = np.flatnonzero(channel == name)
        row_of[frame[picked], c] = picked
    present = row_of >= 0
    rows = row_of[present]
    timestamp = np.zeros(row_of.shape, np.int64)
    timestamp[present] = [data[i].timestamp for i in rows]
    size = np.zeros((*row_of.shape, 2), np.int32)
    size[present] = np.array([(data[i].height or 0, data[i].width or 0) for i in rows], np.int32).reshape(-1, 2)
    pose = np.tile(np.eye(4), (*row_of.shape, 1, 1))
    pose[present] = global_from_ego[rows]
    used = np.full(row_of.shape, -1, np.int32)
    used[present] = calibration[rows]
    return {
        "channel": Strings.pack(cameras),
        "camera_file": Strings.pack([data[i].filename if i >= 0 else "" for i in row_of.ravel()]),
        "camera_timestamp_us": timestamp,
        "camera_size_px": size,
        "camera_calibration": used,
        "global_from_ego_of_camera": pose,
    }
