"""The records of sensors that an index keeps: key frames of cameras, every sweep of the LiDAR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bev.data.nuscenes.rows import Frames, numbers, pose_matrices, refuse
from bev.data.nuscenes.tables import (
    CalibratedSensor,
    EgoPose,
    Lookup,
    RecordError,
    SampleData,
    Sensor,
    iterate_table,
    read_table,
)

LIDAR = "LIDAR_TOP"


@dataclass(frozen=True)
class Mounts:
    """K calibrated sensors.

    Attributes:
        rows: the records.
        channel: (K,) names of the sensors.
        is_camera: (K,) bool.
        cameras: names of all cameras, sorted.
    """

    rows: list[Any]
    channel: np.ndarray
    is_camera: np.ndarray
    cameras: list[str]

    @property
    def tokens(self) -> list[str]:
        """Of the mounts, in their order."""
        return [row.token for row in self.rows]


def read_mounts(folder: Path) -> Mounts:
    """The tables ``sensor`` and ``calibrated_sensor``."""
    sensors = read_table(folder, "sensor", Sensor)
    calibrated = read_table(folder, "calibrated_sensor", CalibratedSensor)
    sensor_of = Lookup("sensor", [s.token for s in sensors]).rows(
        [c.sensor_token for c in calibrated], [c.token for c in calibrated], "calibrated_sensor.sensor_token"
    )
    return Mounts(
        calibrated,
        np.array([sensors[i].channel for i in sensor_of], str),
        np.array([sensors[i].modality == "camera" for i in sensor_of], bool),
        sorted({s.channel for s in sensors if s.modality == "camera"}),
    )


@dataclass(frozen=True)
class SensorRows:
    """D records of ``sample_data``.

    Attributes:
        file: names.
        is_key_frame: (D,) bool.
        frame: (D,) int64 frame that each belongs to: its own, or for a sweep between key frames the nearest.
        calibration: (D,) int32 row of the mounts.
        timestamp_us: (D,) int64.
        size_px: (D, 2) int32 height, width; 0 where the table does not say.
        global_from_ego: (D, 4, 4) poses of the vehicle at their times.
    """

    file: list[str]
    is_key_frame: np.ndarray
    frame: np.ndarray
    calibration: np.ndarray
    timestamp_us: np.ndarray
    size_px: np.ndarray
    global_from_ego: np.ndarray

    def rows_of(self, channel: np.ndarray, names: Sequence[str], frames: int) -> np.ndarray:
        """(F, C) row of each frame's key record of the named sensors, -1 where there is none; ``channel`` is (K,)."""
        row_of = np.full((frames, len(names)), -1, np.int64)
        for c, name in enumerate(names):
            picked = np.flatnonzero((channel[self.calibration] == name) & self.is_key_frame)
            row_of[self.frame[picked], c] = picked
        return row_of


def read_sensor_rows(folder: Path, frames: Frames, mounts: Mounts) -> SensorRows:
    """The tables ``sample_data`` and ``ego_pose``, of which a fifth is kept."""
    lookup = Lookup("calibrated_sensor", mounts.tokens)
    always, at_key_frames = mounts.channel == LIDAR, mounts.is_camera
    kept: list[SampleData] = []
    calibration: list[np.ndarray] = []
    for chunk in iterate_table(folder, "sample_data", SampleData):
        field, tokens = "sample_data.calibrated_sensor_token", [d.token for d in chunk]
        mount = np.array(lookup.rows([d.calibrated_sensor_token for d in chunk], tokens, field), np.int32)
        is_key = np.array([d.is_key_frame for d in chunk], bool)
        rows = np.flatnonzero(always[mount] | (at_key_frames[mount] & is_key)) if len(chunk) else np.zeros(0, int)
        kept += [chunk[i] for i in rows]
        calibration.append(mount[rows])
    tokens = [d.token for d in kept]
    refuse(np.array(["\0" in d.filename for d in kept], bool), "sample_data", tokens, "has no usable filename")
    frame = frames.lookup.rows([d.sample_token for d in kept], tokens, "sample_data.sample_token")
    sizes = [(d.height or 0, d.width or 0) for d in kept]
    return SensorRows(
        [d.filename for d in kept],
        np.array([d.is_key_frame for d in kept], bool),
        np.array(frame, np.int64),
        np.concatenate([np.zeros(0, np.int32), *calibration]),
        np.array([d.timestamp for d in kept], np.int64),
        numbers(sizes, 2).astype(np.int32),
        _read_poses(folder, [d.ego_pose_token for d in kept], tokens),
    )


def _read_poses(folder: Path, wanted: list[str], owners: list[str]) -> np.ndarray:
    """(D, 4, 4) of the records that are wanted, in that order."""
    place = {token: i for i, token in enumerate(dict.fromkeys(wanted))}
    quaternion, translation = np.zeros((len(place), 4)), np.zeros((len(place), 3))
    found = np.zeros(len(place), bool)
    for chunk in iterate_table(folder, "ego_pose", EgoPose):
        rows = [row for row in chunk if row.token in place]
        at = np.array([place[row.token] for row in rows], np.int64)
        if len(np.unique(at)) != len(at) or found[at].any():
            counts = Counter(row.token for row in rows)
            twice = next(r.token for r, i in zip(rows, at) if found[i] or counts[r.token] > 1)
            raise RecordError(f"table ego_pose: token {twice} names two records")
        found[at] = True
        quaternion[at], translation[at] = numbers([r.rotation for r in rows], 4), numbers(
            [r.translation for r in rows], 3
        )
    if not found.all():
        owner, token = next((o, t) for o, t in zip(owners, wanted) if not found[place[t]])
        raise RecordError(f"sample_data.ego_pose_token of record {owner} points to {token!r}, which is not in ego_pose")
    matrices = pose_matrices("ego_pose", list(place), quaternion, translation)
    return matrices[[place[token] for token in wanted]] if wanted else np.zeros((0, 4, 4))
