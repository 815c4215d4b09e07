"""Records of the sensors to columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bev.data.nuscenes.rows import Columns, Frames, numbers, pose_matrices, refuse
from bev.data.nuscenes.sensor_rows import LIDAR, Mounts, SensorRows, read_mounts, read_sensor_rows
from bev.data.nuscenes.tables import RecordError
from bev.io.columns import Strings

_MAX_PX = 1e7


def sensor_columns(folder: Path, frames: Frames, scene: np.ndarray) -> Columns:
    """Columns of the LiDAR and the cameras; ``scene`` is (F,), the scene of each frame."""
    mounts = read_mounts(folder)
    ego_from_sensor = pose_matrices(
        "calibrated_sensor",
        mounts.tokens,
        numbers([row.rotation for row in mounts.rows], 4),
        numbers([row.translation for row in mounts.rows], 3),
    )
    intrinsics = _intrinsics(mounts)
    data = read_sensor_rows(folder, frames, mounts)
    lidar = _lidar_columns(data, mounts, frames, ego_from_sensor)
    camera = _camera_columns(data, mounts, len(frames.rows))
    _lend_calibrations(camera, scene, lidar["global_from_ego"], frames.timestamp_us)
    sweeps = _sweep_columns(data, mounts, scene)
    return {**lidar, **camera, **sweeps, "ego_from_camera": ego_from_sensor, "intrinsics": intrinsics}


def _intrinsics(mounts: Mounts) -> np.ndarray:
    """(K, 3, 3); identity for sensors that are no cameras."""
    matrices = np.tile(np.eye(3), (len(mounts.rows), 1, 1))
    for i in np.flatnonzero(mounts.is_camera):
        row = mounts.rows[i]
        if [len(r) for r in row.camera_intrinsic] != [3, 3, 3]:
            raise RecordError(f"table calibrated_sensor: record {row.token} needs a 3x3 camera_intrinsic")
        matrices[i] = row.camera_intrinsic
    wrong = ~np.isfinite(matrices).all((1, 2))
    refuse(wrong, "calibrated_sensor", mounts.tokens, "has a NaN or infinite value in camera_intrinsic")
    wrong = (abs(matrices) > _MAX_PX).any((1, 2)) | (matrices[:, 2] != (0, 0, 1)).any(1)
    problem = f"has a camera_intrinsic beyond {_MAX_PX:g} px or a last row that is not 0 0 1"
    refuse(wrong, "calibrated_sensor", mounts.tokens, problem)
    wrong = (matrices[:, 0, 0] <= 0) | (matrices[:, 1, 1] <= 0)
    refuse(wrong, "calibrated_sensor", mounts.tokens, "has a focal length that is not positive")
    return matrices


def _lidar_columns(data: SensorRows, mounts: Mounts, frames: Frames, ego_from_sensor: np.ndarray) -> Columns:
    row_of = data.rows_of(mounts.channel, [LIDAR], len(frames.rows))[:, 0]
    refuse(row_of < 0, "sample", frames.tokens, f"has no key frame of {LIDAR}")
    return {
        "lidar_file": Strings.pack([data.file[i] for i in row_of]),
        "global_from_ego": data.global_from_ego[row_of],
        "ego_from_lidar": ego_from_sensor[data.calibration[row_of]],
    }


def _sweep_columns(data: SensorRows, mounts: Mounts, scene: np.ndarray) -> Columns:
    """Every sweep of the LiDAR by scene and time, which is the order of the table's ``prev`` and ``next``."""
    rows = np.flatnonzero(mounts.channel[data.calibration] == LIDAR)
    rows = rows[np.lexsort((data.timestamp_us[rows], scene[data.frame[rows]]))]
    scene_of_row = scene[data.frame[rows]]
    is_key = np.flatnonzero(data.is_key_frame[rows])
    place = np.full(len(scene), -1, np.int32)
    place[data.frame[rows[is_key]]] = is_key
    return {
        "sweep_file": Strings.pack([data.file[i] for i in rows]),
        "sweep_timestamp_us": data.timestamp_us[rows],
        "sweep_global_from_ego": data.global_from_ego[rows],
        "sweep_ego_from_lidar": data.calibration[rows],
        "sweep_begin": np.searchsorted(scene_of_row, scene).astype(np.int32),
        "sweep_of_frame": place,
    }


def _camera_columns(data: SensorRows, mounts: Mounts, frames: int) -> Columns:
    row_of = data.rows_of(mounts.channel, mounts.cameras, frames)
    present = row_of >= 0
    rows = row_of[present]
    timestamp, calibration = np.zeros(row_of.shape, np.int64), np.full(row_of.shape, -1, np.int32)
    timestamp[present], calibration[present] = data.timestamp_us[rows], data.calibration[rows]
    size, pose = np.zeros((*row_of.shape, 2), np.int32), np.tile(np.eye(4), (*row_of.shape, 1, 1))
    size[present], pose[present] = data.size_px[rows], data.global_from_ego[rows]
    return {
        "channel": Strings.pack(mounts.cameras),
        "camera_file": Strings.pack([data.file[i] if i >= 0 else "" for i in row_of.ravel()]),
        "camera_timestamp_us": timestamp,
        "camera_size_px": size,
        "camera_calibration": calibration,
        "global_from_ego_of_camera": pose,
    }


def _lend_calibrations(
    camera: Columns, scene: np.ndarray, global_from_ego: np.ndarray, timestamp_us: np.ndarray
) -> None:
    """Give a camera that misses a frame its calibration and size from another frame of the scene, at the LiDAR's time.

    So that a black picture in its place still has the right geometry. Where the whole scene misses it the row stays -1.
    """
    calibration, size = camera["camera_calibration"], camera["camera_size_px"]
    missing = calibration < 0
    for frame, c in np.argwhere(missing):
        lenders = np.flatnonzero((scene == scene[frame]) & ~missing[:, c])
        if len(lenders):
            calibration[frame, c], size[frame, c] = calibration[lenders[0], c], size[lenders[0], c]
            camera["global_from_ego_of_camera"][frame, c] = global_from_ego[frame]
            camera["camera_timestamp_us"][frame, c] = timestamp_us[frame]
