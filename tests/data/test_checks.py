"""Every silent mistake is planted, and must be found by its name; sound data must be found sound."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.data import InfoDataset, KittiDataset, NuScenesDataset
from bev.data.checks import MISTAKES, Finding, inspect_frames
from bev.data.checks.cameras import check_cameras, check_times_and_poses
from bev.data.checks.counts import check_files
from bev.data.checks.inspect import read_clouds, read_pictures
from bev.data.checks.pictures import check_colors, check_order
from bev.data.checks.table import box_table
from bev.data.checks.verdict import judge
from bev.data.frame_index import FrameIndex
from bev.data.frames import FrameDataset
from bev.geometry.rotations import matrix_from_quaternion, quaternion_from_yaw, yaw_from_matrix
from bev.io.columns import Strings
from tests.paths import real_data_dir

VERSION = "v1.0-synthetic"
Columns = Mapping[str, Any]


@pytest.fixture(scope="module")
def sound(synthetic_root: Path) -> NuScenesDataset:
    return NuScenesDataset(str(synthetic_root), VERSION, "synthetic_train")


def planted(dataset: FrameDataset, plant: Callable[[FrameIndex], Columns]) -> FrameDataset:
    """The data set with other columns."""
    index = replace(dataset.index, **plant(dataset.index))
    copy = object.__new__(type(dataset))
    copy.__dict__ = {**dataset.__dict__, "index": index}
    return copy


def names(dataset: FrameDataset) -> set[str]:
    return {finding.name for finding in inspect_frames(dataset).findings}


def frame_of_boxes(index: FrameIndex) -> np.ndarray:
    return np.searchsorted(index.box_end, np.arange(len(index.box_label)), side="right")


def poses(index: FrameIndex, frame: str) -> np.ndarray:
    """(M, 4, 4) global from that frame, of each box."""
    pose = np.asarray(index.global_from_ego)
    options = {"global": np.tile(np.eye(4), (len(pose), 1, 1)), "ego": pose, "lidar": pose @ index.ego_from_lidar}
    return options[frame][frame_of_boxes(index)]


def yaw_of(rotation: np.ndarray) -> np.ndarray:
    return yaw_from_matrix(matrix_from_quaternion(torch.from_numpy(np.array(rotation)))).numpy()


def turn(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return np.einsum("mij,mj->mi", matrix[:, :3, :3], vector)


def moved(index: FrameIndex, matrix: np.ndarray) -> dict[str, Any]:
    yaw = yaw_of(index.box_rotation)
    heading = turn(matrix, np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], -1))
    rotation = quaternion_from_yaw(torch.from_numpy(np.arctan2(heading[:, 1], heading[:, 0]))).numpy()
    return {
        "box_center_m": turn(matrix, index.box_center_m) + matrix[:, :3, 3],
        "box_rotation": rotation,
        "box_velocity_mps": turn(matrix, index.box_velocity_mps),
    }


def wrong_frame(read: str, meant: str) -> Callable[[FrameIndex], Columns]:
    """Numbers of the frame ``meant`` that a reader takes for those of ``read``."""
    return lambda index: moved(index, poses(index, read) @ np.linalg.inv(poses(index, meant)))


def wrong_yaw(change: Callable[[np.ndarray], np.ndarray], frame: str, swap: bool = False) -> Any:
    def plant(index: FrameIndex) -> Columns:
        to_global = poses(index, frame)
        there = replace(index, **moved(index, np.linalg.inv(to_global)))
        yaw = change(yaw_of(there.box_rotation))
        turned = replace(there, box_rotation=quaternion_from_yaw(torch.from_numpy(yaw)).numpy())
        size = np.asarray(index.box_size_m)
        return {
            "box_rotation": moved(turned, to_global)["box_rotation"],
            "box_size_m": size[:, [1, 0, 2]] if swap else size,
        }

    return plant


def lifted(share: float) -> Callable[[FrameIndex], Columns]:
    return lambda index: {"box_center_m": index.box_center_m + index.box_size_m * np.array([0, 0, share])}


def velocity_of(frame: str) -> Callable[[FrameIndex], Columns]:
    """Global velocities that a reader turns as if they were of a frame."""
    return lambda index: {"box_velocity_mps": turn(poses(index, frame), np.asarray(index.box_velocity_mps))}


def mounts(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[FrameIndex], Columns]:
    """Other poses of the cameras; the LiDAR's stays."""

    def plant(index: FrameIndex) -> Columns:
        mount = np.array(index.ego_from_camera)
        rows = np.unique(index.camera_calibration[index.camera_calibration >= 0])
        mount[rows] = [change(matrix) for matrix in mount[rows]]
        return {"ego_from_camera": mount}

    return plant


def exchanged(first: str, second: str) -> Callable[[FrameIndex], Columns]:
    """Two cameras' calibrations."""

    def plant(index: FrameIndex) -> Columns:
        calibration = np.array(index.camera_calibration)
        a, b = index.channels.index(first), index.channels.index(second)
        calibration[:, [a, b]] = calibration[:, [b, a]]
        return {"camera_calibration": calibration}

    return plant


def exchanged_files(index: FrameIndex) -> Columns:
    files, count = list(index.camera_file), len(index.channels)
    for frame in range(len(index)):
        files[frame * count], files[frame * count + 1] = files[frame * count + 1], files[frame * count]
    return {"camera_file": Strings.pack(files)}


ABOUT_BOXES = {"size_order", "yaw_convention", "box_frame", "box_height", "velocity_frame"}
OPENCV_FROM_X_AHEAD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])

PLANTS: dict[str, tuple[Callable[[FrameIndex], Columns], set[str]]] = {
    "w, l, h as l, w, h": (wrong_yaw(lambda yaw: yaw, "lidar", swap=True), {"size_order"}),
    "mmdet3d < 1.0 as 1.x": (
        wrong_yaw(lambda yaw: -yaw - math.pi / 2, "lidar", swap=True),
        {"size_order", "yaw_convention"},
    ),
    "clockwise yaw": (wrong_yaw(lambda yaw: -yaw, "lidar"), {"yaw_convention"}),
    "clockwise yaw in the ego frame": (wrong_yaw(lambda yaw: -yaw, "ego"), {"yaw_convention"}),
    "yaw from y": (wrong_yaw(lambda yaw: yaw - math.pi / 2, "lidar"), {"yaw_convention"}),
    "yaw backwards": (wrong_yaw(lambda yaw: yaw + math.pi, "lidar"), {"yaw_convention"}),
    **{
        f"{meant} as {read}": (wrong_frame(read, meant), {"box_frame"})
        for read in ("lidar", "ego", "global")
        for meant in ("lidar", "ego", "global")
        if read != meant
    },
    "bottoms as centres": (lifted(-0.5), {"box_height"}),
    "centres as bottoms": (lifted(0.5), {"box_height"}),
    "global velocities as ego ones": (velocity_of("ego"), {"velocity_frame"}),
    "global velocities as LiDAR ones": (velocity_of("lidar"), {"velocity_frame"}),
    "front for back": (exchanged("CAM_FRONT", "CAM_BACK"), {"camera_order"}),
    "front for front left": (exchanged("CAM_FRONT", "CAM_FRONT_LEFT"), {"camera_order"}),
    "files of another camera": (exchanged_files, {"camera_order"}),
    "inverse extrinsics": (mounts(np.linalg.inv), {"camera_extrinsics"}),
    "cameras along x": (mounts(lambda mount: mount @ OPENCV_FROM_X_AHEAD), {"camera_extrinsics"}),
    "OpenGL's cameras": (mounts(lambda mount: mount @ np.diag([1.0, -1, -1, 1])), {"camera_extrinsics"}),
    "intrinsics of half size": (
        lambda index: {"intrinsics": index.intrinsics * np.array([[0.5], [0.5], [1.0]])},
        {"camera_intrinsics"},
    ),
    "intrinsics of eight times the size": (
        lambda index: {"intrinsics": index.intrinsics * np.array([[8.0], [8.0], [1.0]])},
        {"camera_intrinsics"},
    ),
    "camera times in milliseconds": (
        lambda index: {"camera_timestamp_us": index.camera_timestamp_us // 1000},
        {"timestamps"},
    ),
    "times in seconds": (
        lambda index: {
            "timestamp_us": index.timestamp_us // 1_000_000,
            "camera_timestamp_us": index.camera_timestamp_us // 1_000_000,
        },
        {"timestamps"},
    ),
    "files that are gone": (
        lambda index: {"lidar_file": Strings.pack(["gone" for _ in index.lidar_file])},
        {"files"},
    ),
}


def test_sound_data_are_sound(sound: NuScenesDataset, synthetic_root: Path) -> None:
    seen = inspect_frames(sound)
    assert seen.findings == ()
    assert (seen.counts.frames, seen.counts.scenes, seen.clouds) == (12, 2, 8)
    assert sum(seen.counts.boxes.values()) == sum(seen.counts.boxes_a_frame) == int(
        (sound.index.box_label[np.isin(frame_of_boxes(sound.index), sound.frames)] >= 0).sum()
    )
    assert all(sum(seen.counts.distances[name]) == number for name, number in seen.counts.boxes.items())
    assert all(fit > 0.8 * asked for fit, asked in seen.votes.values())
    assert min(seen.votes[name][1] for name in ("sizes", "ground", "next frame", "points")) > 20


@pytest.fixture(scope="module")
def clouds(sound: NuScenesDataset) -> list[Any]:
    return read_clouds(sound, sound.frames.tolist())


@pytest.mark.parametrize("mistake", PLANTS)
def test_a_planted_mistake_is_named_and_no_other(mistake: str, sound: NuScenesDataset, clouds: list[Any]) -> None:
    plant, expected = PLANTS[mistake]
    wrong, frames = planted(sound, plant), sound.frames.tolist()
    found = [
        *check_files(wrong.index, wrong.root, frames, wrong.cameras),
        *check_cameras(wrong.index, frames, wrong.cameras),
        *check_times_and_poses(wrong.index, frames),
        *judge(box_table(wrong.index, frames), clouds, 0.0).findings,
    ]
    assert {finding.name for finding in found} == expected, [str(f) for f in found]


@pytest.mark.parametrize("mistake", [name for name, (_, found) in PLANTS.items() if found <= ABOUT_BOXES])
def test_mistakes_in_boxes_are_seen_without_points(mistake: str, sound: NuScenesDataset) -> None:
    if mistake == "clockwise yaw in the ego frame":
        pytest.skip("what moves in these two scenes moves along the street, where this mistake changes little")
    plant, expected = PLANTS[mistake]
    found = judge(box_table(planted(sound, plant).index, sound.frames.tolist()), (), 0.0).findings
    assert {finding.name for finding in found} == expected, [str(f) for f in found]


def test_pictures_of_two_cameras_exchanged(sound: NuScenesDataset) -> None:
    frames = read_pictures(sound, sound.frames)
    assert check_order(frames, sound.cameras) == []
    order = [0, 1, 2, 3, 5, 4]  # back left and back right
    wrong = [([pictures[i] for i in order], k, mount) for pictures, k, mount in frames]
    (finding,) = check_order(wrong, sound.cameras)
    assert finding.name == "camera_order"
    assert "the picture of CAM_BACK_LEFT fits where CAM_BACK_RIGHT looks" in finding.message


def real_pictures() -> list[Any]:
    pickle = next(real_data_dir("nuscenes_frame").glob("*.pkl"))
    dataset = InfoDataset(str(pickle))
    return read_pictures(dataset, dataset.frames) * 3


def test_real_pictures_in_the_order_of_another_detector() -> None:
    from bev.structures.conventions import CAMERAS_BEVDET, CAMERAS_DETR3D

    frames = real_pictures()
    assert check_order(frames, CAMERAS_DETR3D) == []
    order = [CAMERAS_DETR3D.index(name) for name in CAMERAS_BEVDET]
    (finding,) = check_order([([p[i] for i in order], k, m) for p, k, m in frames], CAMERAS_DETR3D)
    assert finding.name == "camera_order" and "fits where CAM_FRONT looks" in finding.message


def test_real_pictures_with_red_and_blue_exchanged() -> None:
    frames = real_pictures()
    assert check_colors(frames) == []
    (finding,) = check_colors([([picture[..., ::-1] for picture in p], k, m) for p, k, m in frames])
    assert finding.name == "color_order"


def test_real_boxes_read_in_the_wrong_convention(caplog: pytest.LogCaptureFixture) -> None:
    path = str(real_data_dir("nuscenes_mini_val") / "nuscenes_infos_val.pkl")
    with caplog.at_level(logging.ERROR):
        right, wrong = InfoDataset(path), InfoDataset(path, convention="mmdet3d_v1")
    assert names(right) == {"files"}  # its pictures are not there
    found = {finding.name: finding.message for finding in inspect_frames(wrong).findings}
    assert set(found) == {"files", "size_order", "yaw_convention"}
    text = found["yaw_convention"]
    assert "as mmdet3d < 1.0 has them" in text and "0 of 3044" in text


def test_real_points_alone_show_the_wrong_frame() -> None:
    pickle = next(real_data_dir("nuscenes_frame").glob("*.pkl"))
    dataset = InfoDataset(str(pickle))
    assert names(dataset) == set()
    assert names(planted(dataset, wrong_frame("lidar", "ego"))) == {"box_frame"}
    assert names(planted(dataset, lifted(-0.5))) == {"box_height"}


def test_intrinsics_against_pictures_whose_size_no_table_states() -> None:
    pickle = next(real_data_dir("nuscenes_frame").glob("*.pkl"))
    half = planted(InfoDataset(str(pickle)), PLANTS["intrinsics of half size"][0])
    (finding,) = inspect_frames(half).findings
    assert finding.name == "camera_intrinsics" and "in a picture of 1600x900 px" in finding.message


def test_kitti_is_sound() -> None:
    assert names(KittiDataset(str(real_data_dir("kitti_frame")))) == set()


def test_poses(sound: NuScenesDataset) -> None:
    def drive(turned: float) -> Callable[[FrameIndex], Columns]:
        """5 m ahead a frame, along x or, turned by a quarter, along y."""

        def plant(index: FrameIndex) -> Columns:
            pose = np.tile(np.eye(4), (len(index), 1, 1))
            c, s = np.cos(turned), np.sin(turned)
            pose[:, :2, :2] = [[c, -s], [s, c]]
            pose[:, 0, 3] = 5.0 * np.arange(len(index))
            return {"global_from_ego": pose}

        return plant

    def found(plant: Callable[[FrameIndex], Columns]) -> list[Finding]:
        return check_times_and_poses(planted(sound, plant).index, sound.frames.tolist())

    assert found(drive(0.0)) == []
    assert "along its y axis" in found(drive(-math.pi / 2))[0].message
    assert "backwards" in found(drive(math.pi))[0].message
    kilometres = found(lambda index: {"global_from_ego": np.asarray(index.global_from_ego) * 1000.0})
    assert kilometres and "faster than" in kilometres[0].message


def test_a_mistake_has_a_known_name() -> None:
    assert str(Finding("files", "x")) == f"files: {MISTAKES['files']}. x"
    with pytest.raises(ValueError, match="no known mistake"):
        Finding("file", "x")
