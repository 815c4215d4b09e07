"""Transforms of whole samples keep geometry, pixels and the world together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.data.transforms import PhotoMetricDistortion, RangeFilter, RigMirror
from bev.data.transforms.photometric import ColourDraw, distort
from bev.geometry.mirror import mirror_order
from bev.geometry.projection import project
from bev.structures.conventions import CAMERAS_DETR3D
from tests.data.samples import random_sample

RNG = np.random.default_rng


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_mirror_moves_pixels_and_projections_alike(seed: int) -> None:
    sample = random_sample(seed)
    mirrored = RigMirror(1.0)(sample, RNG(0))
    assert sample.boxes is not None and mirrored.boxes is not None
    corners, mirrored_corners = (s.boxes.corners_m().reshape(-1, 3) for s in (sample, mirrored))
    # The corners of a mirrored box are the mirrored corners, left and right exchanged.
    reflected = corners * torch.tensor([-1.0, 1, 1])
    swap = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    torch.testing.assert_close(
        mirrored_corners.reshape(-1, 8, 3), reflected.reshape(-1, 8, 3)[:, swap], atol=1e-4, rtol=1e-5
    )
    order = mirror_order(CAMERAS_DETR3D)
    pixels, depth = project(corners, sample.rig.img_from_ref)
    new_pixels, new_depth = project(reflected, mirrored.rig.img_from_ref)
    seen = depth[order] > 0.5
    torch.testing.assert_close(new_depth, depth[order], atol=1e-4, rtol=1e-5)
    width = sample.rig.image_size_px[1]
    expected = torch.stack([width - pixels[order][..., 0], pixels[order][..., 1]], -1)
    torch.testing.assert_close(new_pixels[seen], expected[seen], atol=0.02, rtol=1e-3)
    torch.testing.assert_close(mirrored.images, sample.images[order].flip(-1))


def test_mirror_swaps_left_and_right_and_keeps_names() -> None:
    sample = random_sample(3)
    mirrored = RigMirror(1.0)(sample, RNG(0))
    assert mirrored.rig.names == sample.rig.names == CAMERAS_DETR3D
    left, right = CAMERAS_DETR3D.index("CAM_FRONT_LEFT"), CAMERAS_DETR3D.index("CAM_FRONT_RIGHT")
    torch.testing.assert_close(mirrored.images[left], sample.images[right].flip(-1))
    assert mirrored.rig.timestamp_us[left] == sample.rig.timestamp_us[right]
    # What a camera looks at stays on its side: the optical axis of the new left camera points left.
    axis = torch.linalg.inv(mirrored.rig.cam_from_ref[left])[:3, 2]
    assert axis[0] < -0.3 and axis[1] > 0.3


def test_mirror_keeps_the_world_and_twice_is_nothing() -> None:
    sample = replace(random_sample(5), previous=(random_sample(6),))
    mirror = RigMirror(1.0)
    once = mirror(sample, RNG(0))
    twice = mirror(once, RNG(0))
    assert sample.boxes is not None and once.boxes is not None and twice.boxes is not None
    world, again = (
        replace(s.boxes, center_m=s.boxes.center_m.double()).center_m @ s.global_from_ref[:3, :3].T
        + s.global_from_ref[:3, 3]
        for s in (sample, once)
    )
    torch.testing.assert_close(again, world)
    torch.testing.assert_close(twice.images, sample.images)
    torch.testing.assert_close(twice.rig.img_from_ref, sample.rig.img_from_ref)
    torch.testing.assert_close(twice.boxes.yaw_rad, sample.boxes.yaw_rad)
    torch.testing.assert_close(twice.boxes.velocity_mps, sample.boxes.velocity_mps, equal_nan=True)
    torch.testing.assert_close(once.previous[0].images, mirror(random_sample(6), RNG(0)).images)


def test_mirror_of_an_ego_frame_is_sideways() -> None:
    matrix = RigMirror(1.0, frame="ego").new_from_old
    assert matrix.diagonal().tolist() == [1, -1, 1, 1]
    with pytest.raises(ValueError, match="frame"):
        RigMirror(frame="global")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="CAM_LEFT needs CAM_RIGHT"):
        mirror_order(("CAM_FRONT", "CAM_LEFT"))


def test_mirror_probability() -> None:
    sample = random_sample(1)
    taken = [RigMirror(0.5).draw(RNG(i), sample) for i in range(200)]
    assert 60 < sum(taken) < 140
    assert RigMirror(0.0)(sample, RNG(0)).images is sample.images


def test_range_filter_looks_from_above() -> None:
    sample = random_sample(2, boxes=60)
    assert sample.boxes is not None
    kept = RangeFilter(x_m=(-10, 20), y_m=(0, 15))(sample, RNG(0)).boxes
    assert kept is not None
    c = sample.boxes.center_m
    inside = (c[:, 0] > -10) & (c[:, 0] < 20) & (c[:, 1] > 0) & (c[:, 1] < 15)
    assert 0 < int(inside.sum()) < 60
    torch.testing.assert_close(kept.center_m, c[inside])
    assert RangeFilter()(replace(sample, boxes=None), RNG(0)).boxes is None
    with pytest.raises(ValueError, match="RangeFilter"):
        RangeFilter(x_m=(1, 0))


NEUTRAL = ColourDraw(0.0, 1.0, True, 1.0, 0.0, (0, 1, 2))


def test_colours_neutral_is_identity_and_steps_do_what_they_say() -> None:
    image = RNG(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(distort(image, NEUTRAL), image)
    brighter = distort(image, replace(NEUTRAL, brightness=20.0))
    np.testing.assert_array_equal(brighter, np.clip(image.astype(int) + 20, 0, 255))
    flat = distort(image, replace(NEUTRAL, contrast=0.5))
    assert np.abs(flat - image / 2).max() <= 0.5
    grey = distort(image, replace(NEUTRAL, saturation=0.0))
    assert (grey.max(-1) == grey.min(-1)).all() and (grey[..., 0] == image.max(-1)).all()
    red = np.full((4, 4, 3), (200, 0, 0), np.uint8)
    turned = distort(red, replace(NEUTRAL, hue_deg=120.0)).astype(int)  # a third of the circle: red to green
    assert np.abs(turned - [0, 200, 0]).max() <= 6


def test_colours_of_a_sample_depend_on_the_draw_alone_and_leave_the_input() -> None:
    sample = random_sample(0)
    before = sample.images.clone()
    transform = PhotoMetricDistortion()
    first, second, third = (transform(sample, RNG(seed)).images for seed in (1, 1, 2))
    torch.testing.assert_close(first, second)
    assert not torch.equal(first, third) and not torch.equal(first, before)
    torch.testing.assert_close(sample.images, before)
    assert first.dtype == torch.uint8 and first.shape == before.shape


def test_channel_order_is_a_permutation_of_each_image() -> None:
    sample = random_sample(0)
    only_swap = PhotoMetricDistortion(brightness=0, contrast=(1, 1), saturation=(1, 1), hue_deg=0)
    images = only_swap(sample, RNG(3)).images
    swapped = 0
    for new, old in zip(images, sample.images):
        found = [next(i for i in range(3) if torch.equal(channel, old[i])) for channel in new]
        assert sorted(found) == [0, 1, 2]
        swapped += found != [0, 1, 2]
    assert 0 < swapped < 6
    with pytest.raises(ValueError, match="PhotoMetricDistortion"):
        PhotoMetricDistortion(contrast=(2, 1))
