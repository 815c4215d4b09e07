"""Info files: the real key frame and the real mini_val split, and files that are none."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.data import InfoDataset, load_frame
from bev.data.frame_boxes import boxes_in_global
from bev.data.infos import index_of_infos, read_infos
from bev.geometry.boxes import points_in_boxes
from bev.geometry.projection import project
from bev.io import FileError
from bev.io.pickle import read_pickle
from bev.registry import DATASETS
from bev.structures.conventions import CAMERAS_DETR3D, CLASSES, boxes_from_array
from tests.paths import real_data_dir


def _frame_pickle() -> Path:
    return next(real_data_dir("nuscenes_frame").glob("*.pkl"))


def test_points_in_the_real_boxes_are_the_counts_of_the_tables() -> None:
    """61 of 69 exactly, 67 within 2; fewer with length and width exchanged (most of the boxes are nearly square)."""
    points = load_frame(real_data_dir("nuscenes_frame")).points
    instances = read_pickle(_frame_pickle())["data_list"][0]["instances"]
    array = torch.tensor([[*i["bbox_3d"], *i["velocity"]] for i in instances], dtype=torch.float64)
    stated = torch.tensor([int(i["num_lidar_pts"]) for i in instances])
    assert points is not None and len(stated) == 69

    def differences(convention: Any) -> torch.Tensor:
        boxes = boxes_from_array(array, torch.zeros(69), convention, z="center")
        return (points_in_boxes(points.xyz_m.double(), boxes).sum(1) - stated).abs()

    right = differences("mmdet3d_v1")
    assert int((right == 0).sum()) == 61 and int((right <= 2).sum()) == 67
    assert int((differences("mmdet3d_v0") == 0).sum()) == 55


def test_load_frame_is_the_whole_real_frame() -> None:
    sample = load_frame(real_data_dir("nuscenes_frame"))
    assert sample.images.shape == (6, 3, 900, 1600) and sample.rig.names == CAMERAS_DETR3D
    assert sample.token == "ca9a282c9e77460f8360f564131a8af5" and sample.points is not None and sample.boxes is not None
    assert len(sample.boxes) == 68  # one of the 69 instances is of no detection class
    raw = read_pickle(_frame_pickle())["data_list"][0]
    for i, name in enumerate(sample.rig.names):
        np.testing.assert_allclose(sample.rig.cam_from_ref[i], raw["images"][name]["lidar2cam"], atol=1e-9)
        np.testing.assert_array_equal(sample.rig.intrinsics[i], raw["images"][name]["cam2img"])
    np.testing.assert_allclose(
        sample.global_from_ref, np.array(raw["ego2global"]) @ np.array(raw["lidar_points"]["lidar2ego"]), atol=1e-9
    )


def test_real_boxes_project_where_their_2d_boxes_are() -> None:
    """The info file's own projected centres and depths were made by other code, from the tables."""
    sample = load_frame(real_data_dir("nuscenes_frame"))
    raw = read_pickle(_frame_pickle())["data_list"][0]
    centers = torch.tensor([i["bbox_3d"][:3] for i in raw["instances"]])
    pixels, depth = project(centers.float(), sample.rig.img_from_ref)
    compared = 0
    for camera, name in enumerate(sample.rig.names):
        stated = [(*i["center_2d"], i["depth"]) for i in raw["cam_instances"][name]]
        ours = torch.cat([pixels[camera], depth[camera][:, None]], 1)
        distance = (torch.tensor(stated)[:, None] - ours[None]).abs().amax(-1)  # px and m
        assert distance.min(1).values.max() < 0.002, name
        compared += len(stated)
    assert compared == 84


def test_both_flavours_build_by_configuration_and_keep_order() -> None:
    dataset = DATASETS.build(
        dict(
            type="InfoDataset",
            path=str(_frame_pickle()),
            image=dict(type="ImageTransform", size=(256, 704)),
            transforms=[dict(type="RigMirror", probability=1.0)],
        )
    )
    assert dataset[0].images.shape == (6, 3, 256, 704)
    frames = read_infos(real_data_dir("nuscenes_mini_val") / "nuscenes_infos_val.pkl", "mmdet3d_v0")
    index = index_of_infos(frames, Path("."))
    assert len(index) == 81 and len(index.scenes) == 2 and index.camera_calibration.min() >= 0
    assert [index.token[i] for i in range(81)] == [f.token for f in frames]
    assert int((index.previous < 0).sum()) == 2 and int((index.following < 0).sum()) == 2
    for i in np.flatnonzero(index.previous >= 0):
        assert index.following[index.previous[i]] == i
        assert 0 < index.timestamp_us[i] - index.timestamp_us[index.previous[i]] <= 1_500_000


def test_old_infos_give_the_cameras_that_they_state() -> None:
    """``sensor2lidar`` was computed by the code that wrote the file, through the global frame."""
    path = real_data_dir("nuscenes_mini_val") / "nuscenes_infos_val.pkl"
    rows = read_pickle(path)["infos"]
    dataset = InfoDataset(str(path), convention="mmdet3d_v0", load_points=False)
    for i in (0, 40, 80):
        frame = int(dataset.frames[i])
        global_from_lidar = dataset.index.global_from_ego[frame] @ dataset.index.ego_from_lidar[frame]
        homographies = torch.eye(3).double().expand(6, 3, 3)
        rig = dataset._rig(frame, global_from_lidar, homographies, (900, 1600))
        for k, name in enumerate(rig.names):
            lidar_from_camera = np.eye(4)
            lidar_from_camera[:3, :3] = rows[i]["cams"][name]["sensor2lidar_rotation"]
            lidar_from_camera[:3, 3] = rows[i]["cams"][name]["sensor2lidar_translation"]
            np.testing.assert_allclose(np.linalg.inv(rig.cam_from_ref[k]), lidar_from_camera, atol=2e-6)


def test_old_boxes_survive_the_way_to_the_global_frame_and_back() -> None:
    path = real_data_dir("nuscenes_mini_val") / "nuscenes_infos_val.pkl"
    frames = read_infos(path, "mmdet3d_v0")
    index = index_of_infos(frames, path.parent)
    count = 0
    for i in (0, 50):
        world = np.linalg.inv(index.global_from_ego[i] @ index.ego_from_lidar[i])
        back = boxes_in_global(index, i).transform(torch.from_numpy(world), "lidar")
        torch.testing.assert_close(back.center_m, frames[i].boxes.center_m, atol=1e-8, rtol=0)
        torch.testing.assert_close(back.size_m, frames[i].boxes.size_m)
        # The heading is flattened in two frames that lean against each other by about a degree.
        torch.testing.assert_close(back.yaw_rad.cos(), frames[i].boxes.yaw_rad.cos(), atol=2e-3, rtol=0)
        torch.testing.assert_close(back.yaw_rad.sin(), frames[i].boxes.yaw_rad.sin(), atol=2e-3, rtol=0)
        count += len(back)
    assert count > 50


def test_files_that_are_no_infos_are_named(tmp_path: Path) -> None:
    content = read_pickle(_frame_pickle())

    def write(change: Any) -> str:
        changed = copy.deepcopy(content)
        change(changed["data_list"][0])
        (tmp_path / "i.pkl").write_bytes(pickle.dumps(changed))
        return str(tmp_path / "i.pkl")

    with pytest.raises(FileError, match=r"i\.pkl: frame 0 \(ca9a.*key 'ego2global' is missing"):
        InfoDataset(write(lambda row: row.pop("ego2global")))
    with pytest.raises(FileError, match=r"frame 0 \(ca9a.*CAM_BACK.*finite"):
        InfoDataset(write(lambda row: row["images"]["CAM_BACK"]["cam2img"][0].__setitem__(0, float("nan"))))
    with pytest.raises(FileError, match=r"frame 0 \(ca9a.*lidar2ego is not a 4x4"):
        InfoDataset(write(lambda row: row["lidar_points"].__setitem__("lidar2ego", [[1.0]])))
    with pytest.raises(FileError, match=r"frame 0 \(ca9a.*ego2global is not a rigid"):
        InfoDataset(write(lambda row: row["ego2global"][0].__setitem__(0, 3.0)))
    with pytest.raises(FileError, match=r"frame 0 \(ca9a.*size that is not positive"):
        InfoDataset(write(lambda row: row["instances"][0]["bbox_3d"].__setitem__(3, -1.0)))
    (tmp_path / "i.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(FileError, match="not an info file: expected the keys"):
        InfoDataset(str(tmp_path / "i.pkl"))
    with pytest.raises(FileError, match="expected one info pickle .*found 0"):
        load_frame(real_data_dir("nuscenes_mini_val").parent)


def test_every_class_is_read() -> None:
    labels = torch.cat([f.boxes.label for f in read_infos(_frame_pickle())])
    names = {CLASSES[i] for i in labels.tolist()}
    assert {"car", "pedestrian", "barrier"} <= names
