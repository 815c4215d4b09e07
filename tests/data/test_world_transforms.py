"""Transforms of the world and of the rig: the same pixels and global facts; velocities and headings turn along."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.data.transforms import (
    AugmentReference,
    CalibrationNoise,
    CameraDropout,
    ClassFilter,
    ImageTransform,
    ResolutionBuckets,
)
from bev.data.transforms.base import move_reference
from bev.geometry.projection import project
from bev.registry import TRANSFORMS
from bev.structures import Sample
from bev.structures.conventions import CLASSES
from tests.data.samples import random_sample

RNG = np.random.default_rng


def _pixels(sample: Sample, xyz_m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return project(xyz_m, sample.rig.img_from_ref)


@given(seed=st.integers(0, 10_000), flips=st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])))
@settings(max_examples=30, deadline=None)
def test_every_corner_and_point_stays_on_its_pixel(seed: int, flips: tuple[float, float]) -> None:
    before = random_sample(seed)
    transform = AugmentReference((-180, 180), (0.8, 1.25), *flips)
    matrix = transform.draw(RNG(seed), before)
    after = transform.apply(before, matrix)
    torch.testing.assert_close(after.images, before.images)
    assert before.boxes is not None and after.boxes is not None and before.points is not None
    moved = before.boxes.corners_m().reshape(-1, 3).double() @ matrix[:3, :3].T
    corners = after.boxes.corners_m().reshape(-1, 3)
    # A reflection exchanges left and right of a box, so corners are compared as sets: nearest one.
    nearest = torch.cdist(corners.reshape(-1, 8, 3).double(), moved.reshape(-1, 8, 3)).amin(2)
    assert float(nearest.max()) < 1e-3
    assert after.points is not None
    for old, new in ((before.boxes.center_m, after.boxes.center_m), (before.points.xyz_m, after.points.xyz_m)):
        old_px, old_depth = _pixels(before, old)
        new_px, new_depth = _pixels(after, new)
        seen = old_depth > 1
        # The depth stays the camera's own, in metres, also under a scale.
        torch.testing.assert_close(new_depth[seen], old_depth[seen], atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(new_px[seen], old_px[seen], atol=0.05, rtol=1e-3)


@given(seed=st.integers(0, 10_000), angle=st.floats(-3, 3), scale=st.floats(0.5, 2), mirrored=st.booleans())
@settings(max_examples=30, deadline=None)
def test_velocities_and_headings_turn_with_the_world(seed: int, angle: float, scale: float, mirrored: bool) -> None:
    before = random_sample(seed)
    assert before.boxes is not None
    matrix = torch.diag(torch.tensor([scale, scale * (-1 if mirrored else 1), scale, 1.0], dtype=torch.float64))
    cos, sin = math.cos(angle), math.sin(angle)
    matrix[:2, :2] = matrix[:2, :2] @ torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    after = move_reference(before, matrix).boxes
    assert after is not None
    # Where an object is a second later is the changed place of where it was a second later.
    later = before.boxes.center_m[:, :2].double() + before.boxes.velocity_mps.double()
    expected = later @ matrix[:2, :2].T
    known = ~torch.isnan(expected[:, 0])
    torch.testing.assert_close(
        (after.center_m[:, :2] + after.velocity_mps).double()[known], expected[known], atol=1e-3, rtol=1e-4
    )
    assert torch.isnan(after.velocity_mps[~known]).all() and 0 < int(known.sum()) < len(known)
    ahead = before.boxes.center_m[:, :2] + torch.stack([before.boxes.yaw_rad.cos(), before.boxes.yaw_rad.sin()], -1)
    direction = (ahead - before.boxes.center_m[:, :2]).double() @ matrix[:2, :2].T / scale
    torch.testing.assert_close(torch.stack([after.yaw_rad.cos(), after.yaw_rad.sin()], -1).double(), direction,
                               atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.size_m, before.boxes.size_m * scale)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_global_facts_and_ego_motion_survive(seed: int) -> None:
    """What a temporal model computes from two poses is the motion in the changed world."""
    before = replace(random_sample(seed), previous=(random_sample(seed + 1),))
    moved_pose = before.previous[0].global_from_ref.clone()
    moved_pose[:2, 3] += 3
    before = replace(before, previous=(replace(before.previous[0], global_from_ref=moved_pose),))
    transform = AugmentReference()
    after = transform(before, RNG(seed))
    matrix = transform.draw(RNG(seed), before)
    assert before.boxes is not None and after.boxes is not None
    home = after.boxes.center_m.double() @ after.global_from_ref[:3, :3].T + after.global_from_ref[:3, 3]
    torch.testing.assert_close(
        home, before.boxes.transform(before.global_from_ref, "global").center_m.double(), atol=1e-3, rtol=0
    )
    past, past_before = after.previous[0], before.previous[0]
    now_from_past = torch.linalg.inv(after.global_from_ref) @ past.global_from_ref
    plain = torch.linalg.inv(before.global_from_ref) @ past_before.global_from_ref
    torch.testing.assert_close(now_from_past, matrix @ plain @ torch.linalg.inv(matrix), atol=1e-6, rtol=0)


def test_draws_cover_their_ranges() -> None:
    sample, transform = random_sample(), AugmentReference((-20, 20), (0.9, 1.1), 0.5, 0.25)
    matrices = torch.stack([transform.draw(RNG(i), sample) for i in range(400)])
    scale = torch.linalg.det(matrices[:, :3, :3]).abs() ** (1 / 3)
    assert 0.9 <= scale.min() < 0.92 and 1.08 < scale.max() <= 1.1
    # cos of at most 20 degrees: the signs of the diagonal are those of the flips.
    flips = (matrices[:, [0, 1], [0, 1]] < 0).double().mean(0)
    np.testing.assert_allclose(flips, [0.5, 0.25], atol=0.07)
    assert (matrices[:, 2, 2] > 0).all()


def test_classes_are_filtered() -> None:
    sample = random_sample(4, boxes=40)
    kept = ClassFilter(("car", "bus"))(sample, RNG(0)).boxes
    assert kept is not None and sample.boxes is not None
    wanted = [CLASSES.index(n) for n in ("car", "bus")]
    assert kept.label.tolist() == [label for label in sample.boxes.label.tolist() if label in wanted]
    with pytest.raises(ValueError, match="no class 'cra'; did you mean 'car'"):
        ClassFilter(("cra",))


def test_dropped_cameras_are_black_in_all_frames_and_one_is_left() -> None:
    sample = replace(random_sample(1), previous=(random_sample(2),))
    counts = []
    for seed in range(60):
        out = CameraDropout(0.7, max_cameras=9)(sample, RNG(seed))
        black = [not bool(image.any()) for image in out.images]
        assert black == [not bool(image.any()) for image in out.previous[0].images]
        rest = [i for i, gone in enumerate(black) if not gone]
        torch.testing.assert_close(out.images[rest], sample.images[rest])
        torch.testing.assert_close(out.rig.img_from_ref, sample.rig.img_from_ref)
        counts.append(sum(black))
    assert min(counts) == 0 and max(counts) == 5 and 8 < counts.count(0) < 30
    alone = replace(sample, images=sample.images[:1], rig=sample.rig.select([0]), previous=())
    assert CameraDropout(1.0)(alone, RNG(0)).images.any()


def test_calibration_noise_is_of_its_size_and_keeps_the_images() -> None:
    sample = replace(random_sample(1), previous=(random_sample(2),))
    angles, shifts, factors = [], [], []
    for seed in range(150):
        out = CalibrationNoise(1.0, 0.05, 0.02)(sample, RNG(seed))
        change = out.rig.cam_from_ref @ torch.linalg.inv(sample.rig.cam_from_ref)
        trace = change[:, :3, :3].diagonal(dim1=1, dim2=2).sum(1)
        angles.append(torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1))))
        shifts.append(change[:, :3, 3])
        factors.append(out.rig.intrinsics[:, 0, 0] / sample.rig.intrinsics[:, 0, 0])
        assert out.rig.check("noise") is out.rig and torch.equal(out.images, sample.images)
        past = out.previous[0].rig.cam_from_ref @ torch.linalg.inv(sample.previous[0].rig.cam_from_ref)
        torch.testing.assert_close(past, change)
        torch.testing.assert_close(out.rig.intrinsics[:, :2, 2], sample.rig.intrinsics[:, :2, 2])
    assert float(torch.stack(angles).square().mean().sqrt()) == pytest.approx(math.sqrt(3), rel=0.1)
    assert float(torch.stack(shifts).std()) == pytest.approx(0.05, rel=0.1)
    assert float(torch.stack(factors).log().std()) == pytest.approx(0.02, rel=0.1)
    same = CalibrationNoise(probability=0.0)(sample, RNG(0)).rig
    torch.testing.assert_close(same.img_from_ref, sample.rig.img_from_ref)


def test_buckets_depend_on_the_batch_alone() -> None:
    buckets = TRANSFORMS.build(
        dict(
            type="ResolutionBuckets",
            transforms=[dict(type="ImageTransform", size=(32, 64)), dict(type="ImageTransform", size=(48, 96))],
            weights=(1, 3),
        )
    )
    chosen = [buckets.choose((7, batch)).size for batch in range(200)]
    assert chosen == [buckets.choose((7, batch)).size for batch in range(200)]
    assert 0.65 < chosen.count((48, 96)) / 200 < 0.85
    for bad in ([], [ImageTransform((8, 8))]):
        with pytest.raises(ValueError, match="ResolutionBuckets"):
            ResolutionBuckets(bad, weights=(1, 2))


@pytest.mark.parametrize(
    "options", [dict(scale=(0, 1)), dict(rotate_deg=(3, 1)), dict(flip_x=2), dict(flip_y=-1), dict(scale=(1.1, 0.9))]
)
def test_wrong_options(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="AugmentReference"):
        AugmentReference(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="CameraDropout"):
        CameraDropout(max_cameras=0)
    with pytest.raises(ValueError, match="CalibrationNoise"):
        CalibrationNoise(rotation_deg=-1)
