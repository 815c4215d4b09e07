"""Everything that a detector needs to know of a recording except its pictures and points, as numpy columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bev.io import FileError
from bev.io.columns import Strings, open_columns, write_columns

# Raise it whenever a column changes its meaning: older files are then built again.
FORMAT = 2


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """F key frames of S scenes, C camera channels, K sensor calibrations, L LiDAR sweeps, M boxes.

    Frames are ordered by scene and time, boxes by frame. Matrices are float64, metres and pixels.

    Attributes:
        scene_name: (S,) texts.
        channel: (C,) texts, names of the cameras.
        category: names of the boxes' categories.
        token: (F,) texts.
        scene: (F,) int32.
        timestamp_us: (F,) int64.
        previous, following: (F,) int32 neighbouring key frames, -1 at the ends of a scene.
        lidar_file: (F,) texts, relative to the data root; empty where there is none.
        global_from_ego: (F, 4, 4) pose of the vehicle when LIDAR_TOP fired.
        ego_from_lidar: (F, 4, 4).
        camera_file: (F * C,) texts, relative to the data root; empty where a camera has no picture.
        camera_timestamp_us: (F, C) int64.
        camera_size_px: (F, C, 2) int32 height, width; 0 where the source does not say.
        camera_calibration: (F, C) int32 row of the calibrations; -1 where a camera has no picture.
        global_from_ego_of_camera: (F, C, 4, 4) pose of the vehicle when each camera fired.
        ego_from_camera: (K, 4, 4).
        intrinsics: (K, 3, 3).
        sweep_file: (L,) texts, every LiDAR sweep, key frames' own included, relative to the data root.
        sweep_timestamp_us: (L,) int64.
        sweep_global_from_ego: (L, 4, 4) pose of the vehicle when each sweep ended.
        sweep_ego_from_lidar: (L,) int32 row of ``ego_from_camera``, which has every sensor's mounting.
        sweep_begin, sweep_of_frame: (F,) int32: rows ``sweep_begin[f] .. sweep_of_frame[f]`` are the sweeps of the
            scene up to frame f in order of time; the last of them is the key frame's own.
        box_end: (F,) int64, where the boxes of each frame end.
        box_center_m: (M, 3) global frame.
        box_size_m: (M, 3) length, width, height.
        box_rotation: (M, 4) quaternion w, x, y, z, global frame.
        box_velocity_mps: (M, 3) global frame, NaN where it is not known.
        box_category: (M,) int16.
        box_label: (M,) int8 index into ``conventions.CLASSES``, -1 for categories that are not detected.
        box_attribute: (M,) int8 index into ``conventions.ATTRIBUTES``, -1 for none.
        box_num_lidar_pts, box_num_radar_pts: (M,) int32.
        box_visibility: (M,) int8 level 1..4, 0 where it is not known.
        box_track: (M,) int32, one number an object.
    """

    scene_name: Strings
    channel: Strings
    category: Strings
    token: Strings
    scene: np.ndarray
    timestamp_us: np.ndarray
    previous: np.ndarray
    following: np.ndarray
    lidar_file: Strings
    global_from_ego: np.ndarray
    ego_from_lidar: np.ndarray
    camera_file: Strings
    camera_timestamp_us: np.ndarray
    camera_size_px: np.ndarray
    camera_calibration: np.ndarray
    global_from_ego_of_camera: np.ndarray
    ego_from_camera: np.ndarray
    intrinsics: np.ndarray
    sweep_file: Strings
    sweep_timestamp_us: np.ndarray
    sweep_global_from_ego: np.ndarray
    sweep_ego_from_lidar: np.ndarray
    sweep_begin: np.ndarray
    sweep_of_frame: np.ndarray
    box_end: np.ndarray
    box_center_m: np.ndarray
    box_size_m: np.ndarray
    box_rotation: np.ndarray
    box_velocity_mps: np.ndarray
    box_category: np.ndarray
    box_label: np.ndarray
    box_attribute: np.ndarray
    box_num_lidar_pts: np.ndarray
    box_num_radar_pts: np.ndarray
    box_visibility: np.ndarray
    box_track: np.ndarray

    def __len__(self) -> int:
        return len(self.token)

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Names of the C cameras."""
        return tuple(self.channel)

    @cached_property
    def scenes(self) -> tuple[str, ...]:
        """Names of the S scenes."""
        return tuple(self.scene_name)

    @cached_property
    def frame_of(self) -> dict[str, int]:
        """Frame of each token."""
        return {token: i for i, token in enumerate(self.token)}

    def boxes_of(self, frame: int) -> slice:
        """Rows of a frame's boxes."""
        return slice(int(self.box_end[frame - 1]) if frame else 0, int(self.box_end[frame]))

    def save(self, path: Path, meta: Mapping[str, Any]) -> None:
        """Write the index atomically, with what it was made from in ``meta``."""
        columns: dict[str, np.ndarray] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Strings):
                columns[f"{field.name}.data"], columns[f"{field.name}.ends"] = value.data, value.ends
            else:
                columns[field.name] = value
        write_columns(path, columns, {"format": FORMAT, **meta})

    @staticmethod
    def open(path: Path) -> tuple[FrameIndex, dict[str, Any]]:
        """Map a saved index; returns it and its ``meta``.

        Raises:
            FileNotFoundError, FileError: missing, damaged, or of another format version.
        """
        columns, meta = open_columns(path)
        if meta.get("format") != FORMAT:
            raise FileError(f"{path}: index of format {meta.get('format')}, expected {FORMAT}")
        values: dict[str, Any] = {}
        for field in fields(FrameIndex):
            try:
                if field.type == "Strings":
                    values[field.name] = Strings(columns[f"{field.name}.data"], columns[f"{field.name}.ends"])
                else:
                    values[field.name] = columns[field.name]
            except KeyError as error:
                raise FileError(f"{path}: column {error} is missing") from error
        return FrameIndex(**values), meta
