"""Turn, scale and mirror of the reference frame leave what cameras see unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bev.data.transforms import AugmentReference
from bev.geometry.projection import project
from bev.structures import PointCloud, Sample
from tests.models.rigs import random_boxes, ring_rig


def _sample() -> Sample:
    rig = ring_rig()
    single = type(rig)(
        rig.intrinsics[0], rig.cam_from_ref[0], rig.image_aug[0], rig.image_size_px, rig.names, rig.timestamp_us[0]
    )
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = 7.0
    boxes = random_boxes(9)
    images = torch.zeros(6, 3, 64, 96, dtype=torch.uint8)
    return Sample(images, single, pose, "token", 0, "scene", boxes, PointCloud(boxes.center_m.clone()))


@pytest.mark.parametrize("flip_x, flip_y", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_what_is_seen_stays(flip_x: float, flip_y: float) -> None:
    before = _sample()
    transform = AugmentReference(0.4, (1.2, 1.2), flip_x, flip_y)
    after = transform(before, np.random.default_rng(3))
    pixels, depth = project(before.boxes.center_m, before.rig.img_from_ref)
    new_pixels, new_depth = project(after.boxes.center_m, after.rig.img_from_ref)
    front = depth > 0.5
    torch.testing.assert_close(new_depth, depth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(new_pixels[front], pixels[front], atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(after.points.xyz_m, after.boxes.center_m, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.boxes.size_m, 1.2 * before.boxes.size_m)
    speed = after.boxes.velocity_mps[1:].norm(dim=1)
    torch.testing.assert_close(speed, 1.2 * before.boxes.velocity_mps[1:].norm(dim=1))
    # Headings: the corners of the boxes are those of before, seen from the new frame.
    ends = before.boxes.corners_m()[:, [0, 1]].mean(1)
    new_ends = after.boxes.corners_m()[:, [0, 1]].mean(1)
    new_from_old = torch.linalg.inv(after.global_from_ref) @ before.global_from_ref
    expected = ends.double() @ new_from_old[:3, :3].T + new_from_old[:3, 3]
    torch.testing.assert_close(new_ends.double(), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(after.images, before.images)


@pytest.mark.parametrize("arguments", [{"max_rad": -1}, {"scale": (0.0, 1.0)}, {"scale": (1.1, 1.0)}, {"flip_x": 2.0}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(ValueError, match="AugmentReference"):
        AugmentReference(**arguments)
