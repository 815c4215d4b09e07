"""The tables of a nuScenes folder to a FrameIndex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.tables import TABLES, Lookup, read_table
from bev.geometry.transforms import rigid_from_quaternion
from bev.io import FileError
from bev.io.columns import Strings
from bev.structures.conventions import ATTRIBUTES, CLASS_OF_CATEGORY, CLASSES

LIDAR = "LIDAR_TOP"
# Longest time between two annotations of an object that still gives a velocity (the devkit's ``box_velocity``).
MAX_VELOCITY_GAP_S = 1.5

Columns = dict[str, Any]


@dataclass(frozen=True)
class Frames:
    """The key frames in the index's order."""

    rows: list[Any]
    lookup: Lookup  # sample token -> frame

    @property
    def tokens(self) -> list[str]:
        return [row.token for row in self.rows]


def build_index(folder: Path) -> FrameIndex:
    """Read the tables of one version, e.g. ``<root>/v1.0-mini``.

    Raises:
        FileError: a table is missing or malformed, a token points nowhere, or a number is not usable (NaN calibration,
            negative size ...); names the table, the record and the field.
    """
    tables = {name: read_table(folder, name, row) for name, row in TABLES.items()}
    try:
        frames, scene_columns = _order_frames(tables["scene"], tables["sample"])
        return FrameIndex(**scene_columns, **_sensor_columns(tables, frames), **_box_columns(tables, frames))
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
        "previous": _neighbours(frames.lookup, frames.tokens, [r.prev for r in rows], "sample.prev"),
        "following": _neighbours(frames.lookup, frames.tokens, [r.next for r in rows], "sample.next"),
    }


def _neighbours(lookup: Lookup, tokens: list[str], others: list[str], field: str) -> np.ndarray:
    """(n,) int32 row of each neighbour's token; -1 for the empty token."""
    neighbours = np.full(len(tokens), -1, np.int32)
    present = [i for i, other in enumerate(others) if other]
    neighbours[present] = lookup.rows([others[i] for i in present], [tokens[i] for i in present], field)
    return neighbours


def _matrices(name: str, rows: Sequence[Any]) -> np.ndarray:
    """(n, 4, 4) of pose records; raises FileError for one that is not finite or whose quaternion is no rotation."""
    quaternion = np.array([r.rotation for r in rows], np.float64).reshape(-1, 4)
    translation = np.array([r.translation for r in rows], np.float64).reshape(-1, 3)
    wrong = ~(np.isfinite(quaternion).all(1) & np.isfinite(translation).all(1))
    _refuse(wrong, name, rows, "holds a NaN or infinite value")
    _refuse(abs(np.linalg.norm(quaternion, axis=1) - 1) > 1e-2, name, rows, "has a rotation that is no unit quaternion")
    return rigid_from_quaternion(torch.from_numpy(quaternion), torch.from_numpy(translation)).numpy()


def _refuse(wrong: np.ndarray, name: str, rows: Sequence[Any], problem: str) -> None:
    if wrong.any():
        raise FileError(f"table {name}: record {rows[int(wrong.argmax())].token} {problem}")


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
    _refuse(wrong, "calibrated_sensor", calibrated, "has a NaN or infinite value in camera_intrinsic")
    wrong = (matrices[:, 0, 0] <= 0) | (matrices[:, 1, 1] <= 0)
    _refuse(wrong, "calibrated_sensor", calibrated, "has a focal length that is not positive")
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
    _refuse(row_of < 0, "sample", frames.rows, f"has no key frame of {LIDAR}")
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


def _box_columns(tables: dict[str, Any], frames: Frames) -> Columns:
    rows = tables["sample_annotation"]
    tokens = [a.token for a in rows]
    frame = np.array(
        frames.lookup.rows([a.sample_token for a in rows], tokens, "sample_annotation.sample_token"), np.int64
    )
    velocity = _velocities(rows, tokens, frame, np.array([r.timestamp for r in frames.rows], np.int64))
    order = np.argsort(frame, kind="stable")
    rows = [rows[i] for i in order]
    size_wlh = np.array([a.size for a in rows], np.float64).reshape(-1, 3)
    center = np.array([a.translation for a in rows], np.float64).reshape(-1, 3)
    rotation = np.array([a.rotation for a in rows], np.float64).reshape(-1, 4)
    finite = np.isfinite(size_wlh).all(1) & np.isfinite(center).all(1) & np.isfinite(rotation).all(1)
    _refuse(~finite, "sample_annotation", rows, "holds a NaN or infinite value")
    _refuse((size_wlh <= 0).any(1), "sample_annotation", rows, "has a size that is not positive")
    _refuse(~rotation.any(1), "sample_annotation", rows, "has a rotation of zeros")
    return {
        "box_end": np.cumsum(np.bincount(frame, minlength=len(frames.rows))).astype(np.int64),
        "box_center_m": center,
        "box_size_m": size_wlh[:, [1, 0, 2]],
        "box_rotation": rotation,
        "box_velocity_mps": velocity[order],
        "box_num_lidar_pts": np.array([a.num_lidar_pts for a in rows], np.int32),
        "box_num_radar_pts": np.array([a.num_radar_pts for a in rows], np.int32),
        **_box_kinds(tables, rows),
    }


def _box_kinds(tables: dict[str, Any], rows: Sequence[Any]) -> Columns:
    """Category, label, attribute, visibility and track of each box."""
    tokens = [a.token for a in rows]
    instances, categories = tables["instance"], tables["category"]
    track = Lookup("instance", [i.token for i in instances]).rows(
        [a.instance_token for a in rows], tokens, "sample_annotation.instance_token"
    )
    category_of_instance = Lookup("category", [c.token for c in categories]).rows(
        [i.category_token for i in instances], [i.token for i in instances], "instance.category_token"
    )
    category = np.array(category_of_instance, np.int16)[track] if rows else np.zeros(0, np.int16)
    names = [c.name for c in categories]
    label_of = np.array([CLASSES.index(CLASS_OF_CATEGORY[n]) if n in CLASS_OF_CATEGORY else -1 for n in names], np.int8)
    return {
        "category": Strings.pack(names),
        "box_category": category,
        "box_label": label_of[category] if rows else np.zeros(0, np.int8),
        "box_attribute": _attributes(tables["attribute"], rows, tokens),
        "box_visibility": _visibilities(tables["visibility"], rows, tokens),
        "box_track": np.array(track, np.int32),
    }


def _attributes(attributes: Sequence[Any], rows: Sequence[Any], tokens: list[str]) -> np.ndarray:
    several = np.array([len(a.attribute_tokens) > 1 for a in rows], bool)
    _refuse(several, "sample_annotation", rows, "has more than one attribute")
    number_of = [ATTRIBUTES.index(a.name) if a.name in ATTRIBUTES else -1 for a in attributes]
    column = np.full(len(rows), -1, np.int8)
    present = [i for i, a in enumerate(rows) if a.attribute_tokens]
    lookup = Lookup("attribute", [a.token for a in attributes])
    found = lookup.rows(
        [rows[i].attribute_tokens[0] for i in present],
        [tokens[i] for i in present],
        "sample_annotation.attribute_tokens",
    )
    column[present] = [number_of[i] for i in found]
    return column


def _visibilities(levels: Sequence[Any], rows: Sequence[Any], tokens: list[str]) -> np.ndarray:
    """Levels 1..4 by the order of their names: v0-40, v40-60, v60-80, v80-100."""
    order = sorted(levels, key=lambda v: int(v.level.removeprefix("v").partition("-")[0]))
    number_of = {v.token: i + 1 for i, v in enumerate(order)}
    column = np.zeros(len(rows), np.int8)
    present = [i for i, a in enumerate(rows) if a.visibility_token]
    Lookup("visibility", [v.token for v in levels]).rows(
        [rows[i].visibility_token for i in present],
        [tokens[i] for i in present],
        "sample_annotation.visibility_token",
    )
    column[present] = [number_of[rows[i].visibility_token] for i in present]
    return column


def _velocities(rows: Sequence[Any], tokens: list[str], frame: np.ndarray, timestamp_us: np.ndarray) -> np.ndarray:
    """(M, 3) m/s, bit for bit as the devkit's ``box_velocity``.

    Central difference where an object has both neighbours, else one-sided; NaN where it has none or where they are more
    than 1.5 s (both: 3 s) apart.
    """
    lookup = Lookup("sample_annotation", tokens)
    before = _neighbours(lookup, tokens, [a.prev for a in rows], "sample_annotation.prev")
    after = _neighbours(lookup, tokens, [a.next for a in rows], "sample_annotation.next")
    own = np.arange(len(rows))
    first, last = np.where(before >= 0, before, own), np.where(after >= 0, after, own)
    center = np.array([a.translation for a in rows], np.float64).reshape(-1, 3)
    seconds = 1e-6 * timestamp_us
    elapsed = seconds[frame[last]] - seconds[frame[first]] if len(rows) else np.zeros(0)
    limit = np.where((before >= 0) & (after >= 0), 2 * MAX_VELOCITY_GAP_S, MAX_VELOCITY_GAP_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = (center[last] - center[first]) / elapsed[:, None]
    velocity[((before < 0) & (after < 0)) | (elapsed > limit)] = np.nan
    return velocity
