"""A turned reference frame describes the same world."""

import math

import numpy as np
import pytest
import torch

from bev.data.transforms import RotateReference
from bev.geometry.projection import project
from bev.structures import CameraRig, Sample
from tests.models.rigs import random_batch


def _sample() -> Sample:
    batch = random_batch(batch=1)
    rig = batch.rig
    single = CameraRig(
        rig.intrinsics[0], rig.cam_from_ref[0], rig.image_aug[0], rig.image_size_px, rig.names, rig.timestamp_us[0]
    )
    return Sample(batch.images[0], single, batch.global_from_ref[0], "t", 0, "s", batch.boxes[0], batch.points[0])


def test_pixels_and_global_positions_do_not_move():
    before = _sample()
    after = RotateReference()(before, np.random.default_rng(3))
    assert (before.boxes.center_m[:, :2] - after.boxes.center_m[:, :2]).abs().max() > 1
    for name in ("boxes", "points"):
        old, new = getattr(before, name), getattr(after, name)
        old_xyz = old.center_m if name == "boxes" else old.xyz_m
        new_xyz = new.center_m if name == "boxes" else new.xyz_m
        old_px, old_depth = project(old_xyz, before.rig.img_from_ref)
        new_px, new_depth = project(new_xyz, after.rig.img_from_ref)
        seen = old_depth > 1
        torch.testing.assert_close(new_depth[seen], old_depth[seen], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(new_px[seen], old_px[seen], rtol=1e-3, atol=1e-2)
    old, new = (s.boxes.transform(s.global_from_ref, "global") for s in (before, after))
    torch.testing.assert_close(new.center_m, old.center_m, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new.yaw_rad.cos(), old.yaw_rad.cos(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new.velocity_mps[1:], old.velocity_mps[1:], rtol=1e-4, atol=1e-4)
    assert torch.equal(before.images, after.images)


def test_the_angle_stays_in_its_range():
    transform, sample = RotateReference(0.1), _sample()
    angles = [transform.draw(np.random.default_rng(i), sample) for i in range(50)]
    assert max(map(abs, angles)) <= 0.1 and np.std(angles) > 0.03
    with pytest.raises(ValueError, match="0..pi"):
        RotateReference(2 * math.pi)
