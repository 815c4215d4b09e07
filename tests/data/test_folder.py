"""Rigs that are not nuScenes': eleven cameras of two sizes, one missing, and the real KITTI frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.data import FolderDataset, KittiDataset
from bev.geometry.boxes import points_in_boxes
from bev.geometry.projection import in_image, project
from bev.io import FileError
from bev.registry import DATASETS
from bev.structures import collate
from tests.data.rig_folder import CAMERAS, turn, write_rig
from tests.paths import real_data_dir

IMAGE = dict(type="ImageTransform", size=(24, 48))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rig(tmp_path)


def build(root: Path, **options: Any) -> FolderDataset:
    return DATASETS.build({**dict(type="FolderDataset", root=str(root), image=IMAGE), **options})


def test_a_rig_of_eleven_cameras(folder: Path) -> None:
    dataset = build(folder, frame="ego", load_points=True, scenes=["monday"], history=1)
    batch = collate([dataset[0], dataset[2]])
    assert batch.images.shape == (2, 11, 3, 24, 48) and batch.rig.names == tuple(CAMERAS)
    assert batch.scenes == ["monday"] * 2 and batch.previous[0].tokens == ["monday0", "monday1"]
    assert batch.boxes is not None and batch.points is not None and len(batch.points[0]) == 40
    torch.testing.assert_close(batch.boxes[1].center_m, torch.tensor([[10.0, 1, 0.8]]))
    torch.testing.assert_close(batch.boxes[1].size_m, torch.tensor([[4.5, 1.9, 1.6]]))
    torch.testing.assert_close(batch.boxes[1].yaw_rad, torch.tensor([0.3]))
    torch.testing.assert_close(batch.boxes[1].velocity_mps, torch.tensor([[1.0, 0.0]]))
    # Camera 0 looks along +x: a point ahead is in the middle of its picture, as far as it is away.
    pixels, depth = project(torch.tensor([[20.0, 0.0, 1.5]]), batch.rig.img_from_ref[0])
    matrix = batch.rig.image_aug[0, 0] @ torch.tensor([80.0, 45, 1]).double()
    torch.testing.assert_close(pixels[0, 0].double(), matrix[:2], atol=1e-3, rtol=0)
    assert float(depth[0, 0]) == pytest.approx(20, abs=1e-4)
    # Camera 3 has a time and a pose of its own.
    assert batch.rig.timestamp_us[0, 3] == 7
    others = torch.linalg.inv(batch.rig.cam_from_ref[0])[[0, 3]]
    assert float(others[0, :2, 3].norm()) == pytest.approx(0, abs=1e-9)
    lidar = build(folder, load_points=True)[0]
    back = lidar.boxes.transform(torch.tensor(turn(np.pi / 2, 1.0)).float(), "ego")
    torch.testing.assert_close(back.center_m, batch.boxes[0].center_m, atol=1e-5, rtol=0)
    assert build(folder).tokens == ["monday0", "monday1", "monday2", "tuesday0"]


def test_a_missing_camera_follows_on_error_and_keeps_its_geometry(folder: Path) -> None:
    whole = build(folder)[1]
    (folder / "images/cam05/monday1.jpg").unlink()
    with pytest.raises(FileError, match=r"images/cam05/monday1.jpg.*frame monday1, cam05"):
        build(folder)[1]
    sample = build(folder, on_error="blank_camera")[1]
    assert not sample.images[5].any() and sample.images[4].any()
    torch.testing.assert_close(sample.rig.img_from_ref, whole.rig.img_from_ref)
    four = build(folder, cameras=CAMERAS[:4])[1]
    assert four.images.shape[0] == 4 and four.rig.names == tuple(CAMERAS[:4])


def _set(path: list[Any], value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        if value is None:
            del content[path[-1]]
        else:
            content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("file", "path", "value", "message"),
    [
        ("calib", ["cameras", "cam02", "intrinsics"], None, "intrinsics"),
        ("calib", ["cameras", "cam02", "intrinsics", 0, 0], -1, "cam02 needs positive focal lengths"),
        ("calib", ["cameras", "cam02", "ego_from_camera", 0], [1, 2, 3, 4], "cam02: a 4x4 matrix that is no rigid"),
        ("calib", ["cameras", "cam02", "ego_from_camera"], [[1]], "cam02: expected a 4x4 matrix"),
        ("calib", ["cameras", "cam02", "fov"], 3, "unknown field `fov`"),
        ("poses", ["monday", 1, "global_from_ego", 0, 0], 9, "recording 'monday', frame 'monday1': a 4x4"),
        ("poses", ["monday", 2, "timestamp_us"], 500_001, "frame 'monday2': timestamp_us 500001 is not after"),
        ("calib", ["cameras", "cam02", "ego_from_camera", 2], [0, 1, 0, 1.5], "no mirror image"),
        ("poses", ["monday", 1, "token"], "monday0", "token 'monday0' names two frames"),
        ("poses", ["monday", 1, "cameras"], {"cam2": {}}, "camera 'cam2' is not in calib.json; did you mean"),
        ("poses", ["monday", 1, "boxes", 0, "label"], "cart", "there is no class 'cart'; did you mean 'car'"),
        ("poses", ["monday", 1, "boxes", 0, "size_m"], [1, -1, 1], "a box has a number"),
        ("poses", ["monday", 1, "timestamp_us"], "noon", "Expected `int`, got `str`"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, file: str, path: list[Any], value: Any, message: str) -> None:
    target = folder / f"{file}.json"
    content = json.loads(target.read_text())
    _set(path, value)(content)
    target.write_text(json.dumps(content))
    with pytest.raises(FileError) as caught:
        build(folder)
    assert str(target) in str(caught.value) and message in str(caught.value)


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(FileError, match="no recording 'friday'"):
        build(folder, scenes=["friday"])
    (folder / "poses.json").write_text("{}")
    with pytest.raises(FileError, match="poses.json: it holds no frames"):
        build(folder)
    (folder / "calib.json").unlink()
    with pytest.raises(FileError, match="calib.json: cannot read"):
        build(folder)


def test_the_real_kitti_frame() -> None:
    root = real_data_dir("kitti_frame")
    sample = DATASETS.build(dict(type="KittiDataset", root=str(root), load_points=True))[0]
    assert sample.images.shape[:2] == (1, 3) and sample.boxes is not None and sample.points is not None
    label = (root / "label_2/000000.txt").read_text().split()
    left, top, right, bottom = map(float, label[4:8])
    corners, depth = project(sample.boxes.corners_m()[0], sample.rig.img_from_ref)
    found = torch.cat([corners[0].amin(0), corners[0].amax(0)])
    # The label's rectangle was drawn around the same box.
    torch.testing.assert_close(found, torch.tensor([left, top, right, bottom]), atol=12, rtol=0)
    assert float(depth.mean()) == pytest.approx(8.41, abs=0.1)
    inside = points_in_boxes(sample.points.xyz_m, sample.boxes)[0]
    assert int(inside.sum()) > 100  # the pedestrian
    pixels, distance = project(sample.points.xyz_m[inside], sample.rig.img_from_ref)
    assert in_image(pixels, distance, tuple(sample.images.shape[-2:])).all()
    assert (pixels[0] > torch.tensor([left - 5, top - 5])).all()
    assert (pixels[0] < torch.tensor([right + 5, bottom + 5])).all()


def test_kitti_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no calib/"):
        KittiDataset(str(tmp_path))
    source = real_data_dir("kitti_frame")
    (tmp_path / "calib").mkdir()
    (tmp_path / "label_2").mkdir()
    text = (source / "calib/000000.txt").read_text()
    (tmp_path / "calib/000000.txt").write_text(text.replace("P2:", "P9:"))
    with pytest.raises(FileError, match="000000.txt: no KITTI calibration.*P2"):
        KittiDataset(str(tmp_path))
    (tmp_path / "calib/000000.txt").write_text(text)
    (tmp_path / "label_2/000000.txt").write_text("Car 0 0 0 1 2 3 4 1.5 1.6\n")
    with pytest.raises(FileError, match="label_2/000000.txt: line 1: expected 15 columns"):
        KittiDataset(str(tmp_path))
