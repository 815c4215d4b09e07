"""Key frames of the sensors to columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bev.data.nuscenes.rows import Columns, Frames, refuse
from bev.data.nuscenes.tables import Lookup
from bev.geometry.transforms import rigid_from_quaternion
from bev.io import FileError
from bev.io.columns import Strings

LIDAR = "LIDAR_TOP"


@dataclass(frozen=True)
class KeyData:
    """D rows of ``sample_data`` that are key frames.

    Attributes:
        rows: the records.
        frame: (D,) frame that each belongs to.
        channel: (D,) names of the sensors.
        calibration: (D,) rows of ``calibrated_sensor``.
        global_from_ego: (D, 4, 4) poses of the vehicle at their times.
    """

    rows: list[Any]
    frame: np.ndarray
    channel: np.ndarray
    calibration: np.ndarray
    global_from_ego: np.ndarray

    def rows_of(self, channels: Sequence[str], frames: int) -> np.ndarray:
        """(F, C) row of each frame and channel, -1 where there is none."""
        row_of = np.full((frames, len(channels)), -1, np.int64)
        for c, name in enumerate(channels):
            picked = np.flatnonzero(self.channel == name)
            row_of[self.frame[picked], c] = picked
        return row_of


def sensor_columns(tables: dict[str, Any], frames: Frames, scene: np.ndarray) -> Columns:
    """Columns of the LiDAR and the cameras; ``scene`` is (F,), the scene of each frame."""
    sensors, calibrated = tables["sensor"], tables["calibrated_sensor"]
    sensor_of = Lookup("sensor", [s.token for s in sensors]).rows(
        [c.sensor_token for c in calibrated], [c.token for c in calibrated], "calibrated_sensor.sensor_token"
    )
    data = _key_data(tables, frames, np.array([sensors[i].channel for i in sensor_of], str))
    ego_from_sensor = _matrices("calibrated_sensor", calibrated)
    lidar = _lidar_columns(data, frames, ego_from_sensor)
    cameras = sorted({s.channel for s in sensors if s.modality == "camera"})
    camera = _camera_columns(data, cameras, len(frames.rows))
    _lend_calibrations(camera, scene, lidar["global_from_ego"], np.array([r.timestamp for r in frames.rows]))
    intrinsics = _intrinsics(calibrated, [sensors[i].modality == "camera" for i in sensor_of])
    return {**lidar, **camera, "ego_from_camera": ego_from_sensor, "intrinsics": intrinsics}


def _key_data(tables: dict[str, Any], frames: Frames, channel_of_calibration: np.ndarray) -> KeyData:
    rows = [d for d in tables["sample_data"] if d.is_key_frame]
    tokens = [d.token for d in rows]
    calibrations, poses = (Lookup(name, [r.token for r in tables[name]]) for name in ("calibrated_sensor", "ego_pose"))
    frame = frames.lookup.rows([d.sample_token for d in rows], tokens, "sample_data.sample_token")
    field = "sample_data.calibrated_sensor_token"
    calibration = np.array(calibrations.rows([d.calibrated_sensor_token for d in rows], tokens, field), np.int32)
    pose = poses.rows([d.ego_pose_token for d in rows], tokens, "sample_data.ego_pose_token")
    return KeyData(
        rows,
        np.array(frame, np.int64),
        channel_of_calibration[calibration],
        calibration,
        _matrices("ego_pose", [tables["ego_pose"][i] for i in pose]),
    )


def _matrices(name: str, rows: Sequence[Any]) -> np.ndarray:
    """(n, 4, 4) of pose records; raises FileError for one that is not finite or whose quaternion is no rotation."""
    quaternion = np.array([r.rotation for r in rows], np.float64).reshape(-1, 4)
    translation = np.array([r.translation for r in rows], np.float64).reshape(-1, 3)
    wrong = ~(np.isfinite(quaternion).all(1) & np.isfinite(translation).all(1))
    refuse(wrong, name, rows, "holds a NaN or infinite value")
    refuse(abs(np.linalg.norm(quaternion, axis=1) - 1) > 1e-2, name, rows, "has a rotation that is no unit quaternion")
    return rigid_from_quaternion(torch.from_numpy(quaternion), torch.from_numpy(translation)).numpy()


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


def _lidar_columns(data: KeyData, frames: Frames, ego_from_sensor: np.ndarray) -> Columns:
    row_of = data.rows_of([LIDAR], len(frames.rows))[:, 0]
    refuse(row_of < 0, "sample", frames.rows, f"has no key frame of {LIDAR}")
    return {
        "lidar_file": Strings.pack([data.rows[i].filename for i in row_of]),
        "global_from_ego": data.global_from_ego[row_of],
        "ego_from_lidar": ego_from_sensor[data.calibration[row_of]],
    }


def _camera_columns(data: KeyData, cameras: list[str], frames: int) -> Columns:
    row_of = data.rows_of(cameras, frames)
    present = row_of >= 0
    rows = row_of[present]
    timestamp = np.zeros(row_of.shape, np.int64)
    timestamp[present] = [data.rows[i].timestamp for i in rows]
    size = np.zeros((*row_of.shape, 2), np.int32)
    sizes = [(data.rows[i].height or 0, data.rows[i].width or 0) for i in rows]
    size[present] = np.array(sizes, np.int32).reshape(-1, 2)
    pose = np.tile(np.eye(4), (*row_of.shape, 1, 1))
    pose[present] = data.global_from_ego[rows]
    calibration = np.full(row_of.shape, -1, np.int32)
    calibration[present] = data.calibration[rows]
    return {
        "channel": Strings.pack(cameras),
        "camera_file": Strings.pack([data.rows[i].filename if i >= 0 else "" for i in row_of.ravel()]),
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
    for frame, c in np.argwhere(calibration < 0):
        lenders = np.flatnonzero((scene == scene[frame]) & (calibration[:, c] >= 0))
        if len(lenders):
            calibration[frame, c], size[frame, c] = calibration[lenders[0], c], size[lenders[0], c]
            camera["global_from_ego_of_camera"][frame, c] = global_from_ego[frame]
            camera["camera_timestamp_us"][frame, c] = timestamp_us[frame]
