"""The index against the official devkit, field by field."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes import NuScenes
from pyquaternion import Quaternion

from bev.data.frame_index import FrameIndex
from bev.structures.conventions import ATTRIBUTES, CLASSES


def open_devkit(root: Path, version: str) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return NuScenes(version=version, dataroot=str(root), verbose=False)


def matrix_of(record: dict[str, Any]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Quaternion(record["rotation"]).rotation_matrix
    matrix[:3, 3] = record["translation"]
    return matrix


def assert_index_equals_devkit(index: FrameIndex, devkit: Any) -> None:
    """Every frame, sensor and box of the index is what the devkit says, and none is missing."""
    assert sorted(index.token) == sorted(s["token"] for s in devkit.sample)
    assert list(index.scenes) == [s["name"] for s in devkit.scene]
    assert index.box_end[-1] == len(devkit.sample_annotation)
    for frame, token in enumerate(index.token):
        sample = devkit.get("sample", token)
        assert index.timestamp_us[frame] == sample["timestamp"]
        assert index.scenes[index.scene[frame]] == devkit.get("scene", sample["scene_token"])["name"]
        for column, other in ((index.previous, sample["prev"]), (index.following, sample["next"])):
            assert (index.token[int(column[frame])] if column[frame] >= 0 else "") == other
        _assert_sensors(index, frame, devkit, sample)
        _assert_boxes(index, frame, devkit, sample)


def _assert_sensors(index: FrameIndex, frame: int, devkit: Any, sample: dict[str, Any]) -> None:
    lidar = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
    assert index.lidar_file[frame] == lidar["filename"]
    pose, mount = devkit.get("ego_pose", lidar["ego_pose_token"]), devkit.get(
        "calibrated_sensor", lidar["calibrated_sensor_token"]
    )
    np.testing.assert_allclose(index.global_from_ego[frame], matrix_of(pose), atol=1e-12, rtol=0)
    np.testing.assert_allclose(index.ego_from_lidar[frame], matrix_of(mount), atol=1e-12, rtol=0)
    for c, channel in enumerate(index.channels):
        data = devkit.get("sample_data", sample["data"][channel])
        calibration = devkit.get("calibrated_sensor", data["calibrated_sensor_token"])
        row = index.camera_calibration[frame, c]
        assert index.camera_file[frame * len(index.channels) + c] == data["filename"]
        assert index.camera_timestamp_us[frame, c] == data["timestamp"]
        assert index.camera_size_px[frame, c].tolist() == [data["height"], data["width"]]
        np.testing.assert_array_equal(index.intrinsics[row], calibration["camera_intrinsic"])
        np.testing.assert_allclose(index.ego_from_camera[row], matrix_of(calibration), atol=1e-12, rtol=0)
        pose = devkit.get("ego_pose", data["ego_pose_token"])
        np.testing.assert_allclose(index.global_from_ego_of_camera[frame, c], matrix_of(pose), atol=1e-12, rtol=0)


def assert_sweeps_equal_devkit(index: FrameIndex, devkit: Any) -> int:
    """Walking back from each key frame gives the devkit's chain of LiDAR sweeps; returns how many were compared."""
    compared = 0
    for frame, token in enumerate(index.token):
        data = devkit.get("sample_data", devkit.get("sample", token)["data"]["LIDAR_TOP"])
        for row in range(index.sweep_of_frame[frame], index.sweep_begin[frame] - 1, -1):
            assert index.sweep_file[row] == data["filename"]
            assert index.sweep_timestamp_us[row] == data["timestamp"]
            pose = devkit.get("ego_pose", data["ego_pose_token"])
            mount = devkit.get("calibrated_sensor", data["calibrated_sensor_token"])
            np.testing.assert_allclose(index.sweep_global_from_ego[row], matrix_of(pose), atol=1e-12, rtol=0)
            ego_from_lidar = index.ego_from_camera[index.sweep_ego_from_lidar[row]]
            np.testing.assert_allclose(ego_from_lidar, matrix_of(mount), atol=1e-12, rtol=0)
            compared += 1
            if row > index.sweep_begin[frame]:
                data = devkit.get("sample_data", data["prev"])
        assert data["prev"] == ""
    return compared


def _assert_boxes(index: FrameIndex, frame: int, devkit: Any, sample: dict[str, Any]) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name

    rows = index.boxes_of(frame)
    assert rows.stop - rows.start == len(sample["anns"])
    categories = list(index.category)
    for row, token in zip(range(rows.start, rows.stop), sample["anns"]):
        record = devkit.get("sample_annotation", token)
        assert index.box_center_m[row].tolist() == record["translation"]
        assert index.box_size_m[row][[1, 0, 2]].tolist() == record["size"]
        assert index.box_rotation[row].tolist() == record["rotation"]
        np.testing.assert_array_equal(index.box_velocity_mps[row], devkit.box_velocity(token))
        assert categories[index.box_category[row]] == record["category_name"]
        label = int(index.box_label[row])
        assert (CLASSES[label] if label >= 0 else None) == category_to_detection_name(record["category_name"])
        names = [devkit.get("attribute", t)["name"] for t in record["attribute_tokens"]]
        assert ([ATTRIBUTES[index.box_attribute[row]]] if index.box_attribute[row] >= 0 else []) == names
        assert index.box_num_lidar_pts[row] == record["num_lidar_pts"]
        assert index.box_num_radar_pts[row] == record["num_radar_pts"]
        assert str(index.box_visibility[row]) == record["visibility_token"]
        assert devkit.instance[index.box_track[row]]["token"] == record["instance_token"]
