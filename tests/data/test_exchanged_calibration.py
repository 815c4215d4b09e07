"""Calibrations exchanged between cameras: nothing but the calibration changes, differently for every draw."""

from __future__ import annotations

import numpy as np
import torch

from bev.data.transforms import ExchangeCalibrations
from tests.data.samples import random_sample


def test_cameras_get_each_others_calibration() -> None:
    sample, transform = random_sample(), ExchangeCalibrations()
    orders = []
    for seed in range(5):
        changed = transform(sample, np.random.default_rng(seed))
        matches = (changed.rig.cam_from_ref[:, None] == sample.rig.cam_from_ref).all(-1).all(-1)
        order = matches.float().argmax(1)
        assert torch.equal(matches.sum(1), torch.ones(6, dtype=torch.int64))
        assert torch.equal(changed.rig.intrinsics, sample.rig.intrinsics[order])
        for name in ("image_aug", "timestamp_us"):
            assert torch.equal(getattr(changed.rig, name), getattr(sample.rig, name))
        assert changed.rig.names == sample.rig.names and changed.images is sample.images
        assert changed.boxes is sample.boxes and changed.points is sample.points
        orders.append(tuple(order.tolist()))
        again = transform(sample, np.random.default_rng(seed))
        assert torch.equal(again.rig.cam_from_ref, changed.rig.cam_from_ref)
    assert len(set(orders)) == 5
