"""Supervision on the images beside a detector's own losses, and the queries that begin at its peaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from bev.geometry.frustum import DepthBins
from bev.geometry.projection import project
from bev.models.detectors.query import ImageEncoder
from bev.models.heads import ImageCenterHead, ImageSupervision
from bev.models.heads.query_seeds import query_seeds
from bev.models.preprocess import ImageNormalizer
from tests.models.rigs import random_batch

SIZE = (8, 12)  # of the maps


def _head() -> ImageCenterHead:
    torch.manual_seed(0)
    return ImageCenterHead(8, 8, 10, DepthBins.log(2.0, 58.0, 8), stride_px=8)


def test_losses_are_weighted_and_depth_can_be_left_alone() -> None:
    batch, feature = random_batch(), torch.randn(2, 6, 8, *SIZE)
    whole = ImageSupervision(_head())
    halved = ImageSupervision(_head(), dict(heatmap=0.5, depth=0.0))
    maps = whole.image_head(feature, batch.rig)
    factors = whole.counts(batch, batch.boxes)
    assert set(factors) == {"centers", "depth"} and set(halved.counts(batch, batch.boxes)) == {"centers"}
    assert float(factors["centers"]) > 0 and float(factors["depth"]) > 0
    ours, other = (part(maps, batch, batch.boxes, factors) for part in (whole, halved))
    assert set(ours) == {"loss_heatmap", "loss_center", "loss_depth"} and "loss_depth" not in other
    torch.testing.assert_close(other["loss_heatmap"], 0.5 * ours["loss_heatmap"])
    torch.testing.assert_close(other["loss_center"], ours["loss_center"])
    without = replace(batch, points=None, derived={})
    assert torch.isfinite(halved(maps, without, batch.boxes, factors)["loss_center"])
    with pytest.raises(ValueError, match="load_points=True"):
        whole.counts(without, batch.boxes)


def test_seeds_are_the_highest_peaks_where_their_depth_puts_them() -> None:
    batch, feature, head = random_batch(), torch.randn(2, 6, 8, *SIZE), _head()
    maps = head(feature, batch.rig)
    heat = torch.full_like(maps.heatmap, -9.0)
    heat[0, 2, 7, 3, 5], heat[1, 4, 1, 6, 2] = 4.0, 3.0
    maps = maps._replace(heatmap=heat, offset=torch.zeros_like(maps.offset))
    seeds = query_seeds(head, feature, maps, batch.rig, count=4)
    assert seeds.point_m.shape == (2, 4, 3) and seeds.known.shape == (2, 4, 18)
    for frame, camera, label, row, column in ((0, 2, 7, 3, 5), (1, 4, 1, 6, 2)):
        assert torch.equal(seeds.known[frame, 0, :8], feature[frame, camera, :, row, column])
        assert int(seeds.known[frame, 0, 8:].argmax()) == label
        pixel, depth_m = project(seeds.point_m[frame, :1], batch.rig.img_from_ref[frame])
        expected = torch.tensor([(column + 0.5) * 8, (row + 0.5) * 8])
        torch.testing.assert_close(pixel[camera, 0].float(), expected, atol=1e-2, rtol=0)
        wanted = maps.log_depth[frame, camera, row, column].exp()
        torch.testing.assert_close(depth_m[camera, 0].float(), wanted, atol=1e-3, rtol=1e-4)


def test_wrong_use_is_named() -> None:
    with pytest.raises(ValueError, match="weights .'heat'. are unknown"):
        ImageSupervision(_head(), dict(heat=1.0))
    wanting = nn.Module()
    wanting.num_peaks = 30
    with pytest.raises(ValueError, match="30 queries seeded by the images need an image_supervision"):
        ImageEncoder(ImageNormalizer(), nn.Identity(), nn.Identity(), wanting)
