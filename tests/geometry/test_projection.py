"""What is in an image, at its edges and behind the camera."""

from __future__ import annotations

import torch

from bev.geometry.projection import MIN_DEPTH_M, in_image, project
from tests.data.samples import random_sample


def test_behind_the_camera_is_finite_and_not_in_the_image() -> None:
    rig = random_sample(0).rig
    points = torch.tensor([[0.0, 0, 0], [0, -30, 0], [0, 30, 0]])
    pixels, depth = project(points, rig.img_from_ref)
    assert bool(pixels.isfinite().all())
    inside = in_image(pixels, depth, rig.image_size_px)
    front, back = rig.names.index("CAM_FRONT"), rig.names.index("CAM_BACK")
    assert inside[front].tolist()[1:] == [False, True] and inside[back].tolist()[1:] == [True, False]


def test_borders_are_outside() -> None:
    pixels = torch.tensor([[0.0, 5], [80, 5], [5, 0], [5, 48], [0.01, 0.01], [79.99, 47.99], [40, 20]])
    depth = torch.tensor([1.0, 1, 1, 1, 1, 1, MIN_DEPTH_M])
    assert in_image(pixels, depth, (48, 80)).tolist() == [False] * 4 + [True] * 2 + [False]


def test_autocast_does_not_touch_projections() -> None:
    rig = random_sample(0).rig
    points = torch.randn(50, 3) * 30
    exact = project(points, rig.img_from_ref)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = project(points, rig.img_from_ref)
    assert torch.equal(exact[0], under[0]) and torch.equal(exact[1], under[1])


def test_batched_rigs_project_each_their_own() -> None:
    rigs = [random_sample(i).rig for i in range(2)]
    stacked = torch.stack([r.img_from_ref for r in rigs])
    points = torch.randn(2, 9, 3) * 20
    pixels, depth = project(points, stacked)
    for i, rig in enumerate(rigs):
        alone = project(points[i], rig.img_from_ref)
        torch.testing.assert_close(pixels[i], alone[0])
        torch.testing.assert_close(depth[i], alone[1])
