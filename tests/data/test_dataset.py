"""Samples of a nuScenes folder: right numbers, deterministic, and honest about files that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bev.data import Draw, NuScenesDataset
from bev.data.transforms import ImageTransform
from bev.io import FileError
from bev.io.images import read_image
from bev.registry import DATASETS, ConfigError
from bev.structures import collate
from bev.structures.conventions import CAMERAS_BEVDET, CAMERAS_DETR3D
from tests.data.tiny_nuscenes import VERSION, edit_table

IMAGE = dict(type="ImageTransform", size=(48, 96))
RANDOM = dict(IMAGE, resize=(0.6, 0.9), flip=0.5, rotate_deg=(-5, 5))
TRANSFORMS = [dict(type="PhotoMetricDistortion"), dict(type="RigMirror"), dict(type="RangeFilter")]


def build(root: Path, **options: Any) -> NuScenesDataset:
    cfg = dict(type="NuScenesDataset", root=str(root), version=VERSION, split="tiny_train", image=IMAGE)
    return DATASETS.build({**cfg, **options})


@pytest.mark.parametrize("frame", ["lidar", "ego"])
def test_rig_boxes_and_points_are_what_the_devkit_says(tiny_root: Path, frame: str) -> None:
    pytest.importorskip("nuscenes")
    from tests.data.devkit_referee import matrix_of, open_devkit

    devkit = open_devkit(tiny_root, VERSION)
    dataset = build(tiny_root, frame=frame, load_points=True, use_valid_flag=False, cameras=CAMERAS_BEVDET)
    for sample in (dataset[i] for i in range(len(dataset))):
        record = devkit.get("sample", sample.token)
        lidar = devkit.get("sample_data", record["data"]["LIDAR_TOP"])
        global_from_ref = matrix_of(devkit.get("ego_pose", lidar["ego_pose_token"]))
        if frame == "lidar":
            global_from_ref = global_from_ref @ matrix_of(
                devkit.get("calibrated_sensor", lidar["calibrated_sensor_token"])
            )
        np.testing.assert_allclose(sample.global_from_ref.numpy(), global_from_ref, atol=1e-9)
        for i, name in enumerate(sample.rig.names):
            data = devkit.get("sample_data", record["data"][name])
            global_from_camera = matrix_of(devkit.get("ego_pose", data["ego_pose_token"])) @ matrix_of(
                devkit.get("calibrated_sensor", data["calibrated_sensor_token"])
            )
            expected = np.linalg.inv(global_from_camera) @ global_from_ref
            np.testing.assert_allclose(sample.rig.cam_from_ref[i].numpy(), expected, atol=1e-9)
        if frame == "lidar":
            _assert_boxes_equal_get_sample_data(sample, devkit, lidar["token"])


def _assert_boxes_equal_get_sample_data(sample: Any, devkit: Any, lidar_token: str) -> None:
    """Boxes of ``get_sample_data``, which moves them to the LiDAR frame by the devkit's own code."""
    from nuscenes.eval.detection.utils import category_to_detection_name

    _, boxes, _ = devkit.get_sample_data(lidar_token)
    boxes = [b for b in boxes if category_to_detection_name(b.name)]
    assert len(boxes) == len(sample.boxes)
    for i, box in enumerate(boxes):
        np.testing.assert_allclose(sample.boxes.center_m[i], box.center, atol=1e-4)
        np.testing.assert_allclose(sample.boxes.size_m[i][[1, 0, 2]], box.wlh, rtol=1e-6)
        heading = box.orientation.rotation_matrix[:2, 0]
        ours = np.array([torch.cos(sample.boxes.yaw_rad[i]), torch.sin(sample.boxes.yaw_rad[i])])
        assert ours @ heading / np.linalg.norm(heading) > 1 - 1e-6


def test_images_are_the_transformed_files_in_the_order_asked_for(tiny_root: Path) -> None:
    sample = build(tiny_root)[2]
    assert sample.rig.names == CAMERAS_DETR3D and sample.rig.image_size_px == (48, 96)
    assert sample.images.shape == (6, 3, 48, 96) and sample.images.dtype == torch.uint8
    for i, name in enumerate(CAMERAS_DETR3D):
        picture, matrix = ImageTransform((48, 96))(read_image(tiny_root / f"samples/{name}/scene-a__2.jpg"))
        np.testing.assert_array_equal(sample.images[i].permute(1, 2, 0), picture)
        np.testing.assert_array_equal(sample.rig.image_aug[i], matrix)
    turned = build(tiny_root, cameras=CAMERAS_BEVDET[::-1])[2]
    i = turned.rig.names.index("CAM_BACK")
    torch.testing.assert_close(turned.images[i], sample.images[CAMERAS_DETR3D.index("CAM_BACK")])


def test_three_cameras_and_no_image_transform(tiny_root: Path) -> None:
    sample = build(tiny_root, cameras=("CAM_BACK", "CAM_FRONT", "CAM_FRONT_LEFT"), image=None)[0]
    assert sample.images.shape == (3, 3, 90, 160)
    torch.testing.assert_close(sample.rig.image_aug, torch.eye(3).double().expand(3, 3, 3))


def test_boxes_without_points_can_be_dropped(tiny_root: Path) -> None:
    every, seen = build(tiny_root, use_valid_flag=False), build(tiny_root)
    dropped = 0
    for a, b in ((every[i].boxes, seen[i].boxes) for i in range(len(every))):
        assert a is not None and b is not None and a.num_lidar_pts is not None and a.num_radar_pts is not None
        keep = a.num_lidar_pts + a.num_radar_pts > 0
        torch.testing.assert_close(b.center_m, a.center_m[keep])
        dropped += int((~keep).sum())
    assert dropped > 0


def test_a_draw_is_reproducible_and_seeds_differ(tiny_root: Path) -> None:
    options = dict(image=RANDOM, transforms=TRANSFORMS, history=1)
    one, two = build(tiny_root, **options), build(tiny_root, **options)
    one[Draw(0, (9,))]  # what was read before does not matter
    a, b, c = one[Draw(2, (7, 1))], two[Draw(2, (7, 1))], two[Draw(2, (7, 2))]
    torch.testing.assert_close(a.images, b.images)
    torch.testing.assert_close(a.rig.img_from_ref, b.rig.img_from_ref)
    torch.testing.assert_close(a.previous[0].images, b.previous[0].images)
    assert not torch.equal(a.images, c.images)
    torch.testing.assert_close(one[1].images, two[1].images)


def test_the_same_draws_with_worker_processes(tiny_root: Path) -> None:
    dataset = build(tiny_root, image=RANDOM, transforms=TRANSFORMS)
    draws = [Draw(i, (5, i)) for i in (3, 0, 2, 1)]

    def images(workers: int) -> torch.Tensor:
        options = dict(batch_size=2, num_workers=workers, collate_fn=collate)
        loader = DataLoader(dataset, sampler=draws, **options)  # type: ignore[arg-type]
        return torch.cat([batch.images for batch in loader])

    torch.testing.assert_close(images(2), images(0))


def test_previous_frames_are_oldest_first_and_padded_at_the_start(tiny_root: Path) -> None:
    dataset = build(tiny_root, history=2, transforms=[dict(type="RigMirror", probability=1.0)])
    token = dataset.tokens
    order = [[p.token for p in dataset[i].previous] for i in range(4)]
    assert order == [[token[0]] * 2, [token[0]] * 2, [token[0], token[1]], [token[1], token[2]]]
    sample = dataset[3]
    alone = build(tiny_root, transforms=[dict(type="RigMirror", probability=1.0)])[2]
    torch.testing.assert_close(sample.previous[1].images, alone.images)
    torch.testing.assert_close(sample.previous[1].rig.img_from_ref, alone.rig.img_from_ref)
    torch.testing.assert_close(sample.previous[1].global_from_ref, alone.global_from_ref)
    batch = collate([dataset[0], dataset[3]])
    assert len(batch.previous) == 2 and batch.previous[1].tokens == [token[0], token[2]]


def test_memory_cache_gives_the_same_samples_without_files(own_root: Path) -> None:
    options = dict(transforms=[dict(type="PhotoMetricDistortion"), dict(type="RigMirror")])
    cached, plain = build(own_root, cache="memory", **options), build(own_root, **options)
    for seed in (1, 2):  # the second time from the cache
        torch.testing.assert_close(cached[Draw(1, (seed,))].images, plain[Draw(1, (seed,))].images)
    for path in own_root.glob("samples/CAM*/*"):
        path.unlink()
    again = cached[Draw(1, (3,))]
    torch.testing.assert_close(again.images, cached[Draw(1, (3,))].images)
    with pytest.raises(FileError):
        cached[2]
    with pytest.raises(ValueError, match="cache='memory'.*random"):
        build(own_root, cache="memory", image=RANDOM)


def _damage(root: Path, camera: str, frame: int, how: str) -> Path:
    path = root / f"samples/{camera}/scene-a__{frame}.jpg"
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-300])
    return path


@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_an_unreadable_picture_raises_and_names_file_and_frame(own_root: Path, how: str) -> None:
    dataset = build(own_root)
    path = _damage(own_root, "CAM_BACK", 1, how)
    with pytest.raises(FileError) as caught:
        dataset[1]
    assert str(path) in str(caught.value) and dataset.tokens[1] in str(caught.value) and "CAM_BACK" in str(caught.value)


def test_skip_hands_out_the_next_readable_frame_and_counts(own_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = build(own_root, on_error="skip")
    _damage(own_root, "CAM_BACK", 1, "missing")
    _damage(own_root, "CAM_FRONT", 2, "truncated")
    assert [dataset[i].token for i in range(4)] == [dataset.tokens[i] for i in (0, 3, 3, 3)]
    assert dataset.faults() == {"skipped": dataset.tokens[1:3], "blanked": []}
    assert sum("skipped a frame" in r.message for r in caplog.records) == 2  # once a frame, not once a reading


def test_faults_in_worker_processes_are_counted(own_root: Path) -> None:
    dataset = build(own_root, on_error="skip")
    _damage(own_root, "CAM_BACK", 1, "missing")
    loader = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=collate)
    assert [batch.tokens for batch in loader] == [[dataset.tokens[i] for i in p] for p in ((0, 2), (2, 3))]
    assert dataset.faults()["skipped"] == [dataset.tokens[1]]


def test_skip_gives_up_where_nothing_is_readable(own_root: Path) -> None:
    for path in own_root.glob("samples/CAM_FRONT/*"):
        path.unlink()
    with pytest.raises(FileError, match="4 frames one after the other cannot be read.*CAM_FRONT"):
        build(own_root, on_error="skip")[0]


def test_blank_camera_blanks_that_picture_only(own_root: Path) -> None:
    whole = build(own_root)[1]
    _damage(own_root, "CAM_BACK", 1, "truncated")
    dataset = build(own_root, on_error="blank_camera", cache="memory", load_points=True)
    for path in own_root.glob("samples/LIDAR_TOP/*a__1*"):
        path.unlink()
    sample = dataset[1]
    blank = CAMERAS_DETR3D.index("CAM_BACK")
    assert not sample.images[blank].any() and sample.valid and sample.points is not None and len(sample.points) == 0
    rest = [i for i in range(6) if i != blank]
    torch.testing.assert_close(sample.images[rest], whole.images[rest])
    torch.testing.assert_close(sample.rig.img_from_ref, whole.rig.img_from_ref)
    assert dataset.faults() == {"skipped": [], "blanked": [dataset.tokens[1]]}
    for path in own_root.glob("samples/CAM*/*a__0*"):
        path.unlink()
    assert not dataset[0].valid and dataset[0].images.sum() == 0


def test_a_picture_of_another_size_than_the_table_says(own_root: Path) -> None:
    import cv2

    cv2.imwrite(str(own_root / "samples/CAM_BACK/scene-a__0.jpg"), np.zeros((45, 80, 3), np.uint8))
    with pytest.raises(FileError, match=r"45x80 px.*expected \(90, 160\)"):
        build(own_root)[0]


def test_subsets_and_indices(tiny_root: Path) -> None:
    dataset = build(tiny_root, max_samples=2)
    assert len(dataset) == 2 and dataset.tokens == [build(tiny_root).tokens[i] for i in (0, 3)]
    assert dataset[-1].token == dataset.tokens[-1]
    for bad in (2, -3):
        with pytest.raises(IndexError):
            dataset[bad]
    assert len(build(tiny_root, split=["scene-c", "scene-b"])) == 4
    with pytest.raises(ValueError, match="max_samples"):
        build(tiny_root, max_samples=0)


def test_wrong_options_name_the_key(tiny_root: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.load_point'.*did you mean 'load_points'"):
        build(tiny_root, load_point=True)
    with pytest.raises(ConfigError, match=r"dataset\.image\.szie.*did you mean 'size'"):
        build(tiny_root, image=dict(type="ImageTransform", szie=(1, 2)))
    for key, value in (("frame", "global"), ("on_error", "ignore"), ("cache", "disk")):
        with pytest.raises(ValueError, match=f"{key} = '{value}'; "):
            build(tiny_root, **{key: value})
    with pytest.raises(ValueError, match="no camera 'CAM_FRNT'; did you mean 'CAM_FRONT'"):
        build(tiny_root, cameras=("CAM_FRNT",))


def test_collate_of_samples_without_annotations(own_root: Path) -> None:
    for table in ("sample_annotation", "instance"):
        (own_root / VERSION / f"{table}.json").write_text("[]")
    samples = [build(own_root)[i] for i in range(2)]
    assert samples[0].boxes is None and collate(samples).boxes is None


def _drop_camera(root: Path, camera: str, frames: tuple[int, ...]) -> None:
    names = {f"samples/{camera}/scene-a__{i}.jpg" for i in frames}

    def drop(rows: list[dict[str, Any]]) -> None:
        rows[:] = [r for r in rows if r["filename"] not in names]

    edit_table(root, "sample_data", drop)


def test_a_camera_that_misses_a_frame_keeps_its_geometry(own_root: Path) -> None:
    whole = build(own_root)[1]
    _drop_camera(own_root, "CAM_BACK", (1,))
    with pytest.raises(FileError, match="CAM_BACK has no picture"):
        build(own_root)[1]
    sample = build(own_root, on_error="blank_camera")[1]
    i = CAMERAS_DETR3D.index("CAM_BACK")
    assert not sample.images[i].any() and sample.valid
    torch.testing.assert_close(sample.rig.intrinsics, whole.rig.intrinsics)
    # Its pose is the one at the LiDAR's time instead of its own, some centimetres away.
    torch.testing.assert_close(sample.rig.cam_from_ref[i], whole.rig.cam_from_ref[i], atol=0.3, rtol=0)
    assert sample.rig.timestamp_us[i] == sample.timestamp_us


def test_a_camera_that_misses_a_scene_is_an_error(own_root: Path) -> None:
    _drop_camera(own_root, "CAM_BACK", (0, 1, 2, 3))
    with pytest.raises(FileError, match="has no calibration of CAM_BACK"):
        build(own_root, on_error="blank_camera")[1]
    others = tuple(c for c in CAMERAS_DETR3D if c != "CAM_BACK")
    assert build(own_root, cameras=others)[1].images.shape[0] == 5
