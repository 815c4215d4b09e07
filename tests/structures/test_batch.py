"""Collating samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bev.structures import PointCloud, collate
from tests.data.samples import random_sample


def test_collate_stacks_in_order() -> None:
    samples = [replace(random_sample(i), previous=(random_sample(10 + i),)) for i in range(3)]
    batch = collate(samples)
    assert len(batch) == 3 and batch.tokens == ["t0", "t1", "t2"] and batch.timestamp_us.tolist() == [0, 1, 2]
    assert batch.boxes is not None and batch.points is not None and batch.scenes == ["s"] * 3
    assert batch.global_from_ref.dtype == torch.float64
    for i, sample in enumerate(samples):
        torch.testing.assert_close(batch.images[i], sample.images)
        torch.testing.assert_close(batch.rig.img_from_ref[i], sample.rig.img_from_ref)
        assert batch.boxes[i] is sample.boxes
    assert batch.previous[0].tokens == ["t10", "t11", "t12"]
    moved = batch.to("cpu")
    torch.testing.assert_close(moved.previous[0].images, batch.previous[0].images)


def test_parts_that_one_sample_lacks_are_left_out() -> None:
    batch = collate([random_sample(0), replace(random_sample(1), boxes=None)])
    assert batch.boxes is None and batch.points is not None


def test_samples_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\['t0', 't1'\].*image shapes"):
        collate([random_sample(0), random_sample(1, size=(24, 40))])
    with pytest.raises(ValueError, match="previous frames"):
        collate([random_sample(0), replace(random_sample(1), previous=(random_sample(2),))])


def test_points_keep_their_fields() -> None:
    cloud = PointCloud(torch.randn(5, 3), {"intensity": torch.arange(5.0)})
    picked = cloud[torch.tensor([True, False, True, False, True])]
    assert picked.fields["intensity"].tolist() == [0, 2, 4] and len(picked) == 3
    moved = cloud.transform(torch.diag(torch.tensor([1.0, -1, 1, 1])), "ego")
    torch.testing.assert_close(moved.xyz_m, cloud.xyz_m * torch.tensor([1.0, -1, 1]))
    assert moved.frame == "ego" and moved.fields["intensity"].tolist() == list(range(5))
    with pytest.raises(ValueError, match="'ring' has 4 rows, expected 5"):
        PointCloud(cloud.xyz_m, {"ring": torch.zeros(4)})
    with pytest.raises(ValueError, match=r"\(P, 3\)"):
        PointCloud(torch.zeros(3, 4))
