"""BEVFormer whose grid begins with lifted image features: where they land, gradients, the state, errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins
from bev.geometry.projection import unproject
from bev.models.detectors import BEVFormer
from bev.models.heads.image_center_head import ImageCenterHead
from bev.models.heads.image_supervision import ImageSupervision
from bev.models.losses.depth import batch_depth_targets
from bev.models.view.lift_splat import LiftedQueries
from tests.models import test_bevformer
from tests.models.rigs import random_batch, ring_rig

BINS = DepthBins.log(1.0, 30.0, 8)
GRID = BEVGrid(x_m=(-20.0, 20.0, 40 / 12), y_m=(-20.0, 20.0, 4.0), z_m=(-3.0, 3.0, 6.0))
DIM = test_bevformer.DIM


def detector() -> BEVFormer:
    """The detector of the other tests, its grid lifted with the depth of an image head."""
    plain = test_bevformer.detector()
    head = plain.pts_bbox_head
    torch.manual_seed(1)
    head.lifted, head.reads_depth = LiftedQueries(DIM, 8, DIM, BINS, GRID, stride_px=8), True
    supervision = ImageSupervision(ImageCenterHead(DIM, 8, 10, BINS, stride_px=8))
    return BEVFormer(plain.preprocess, plain.img_backbone, plain.img_neck, head, image_supervision=supervision)


def test_what_a_camera_shows_lands_where_its_depth_says() -> None:
    rig = ring_rig(6, (64, 96), 1)
    lifted = LiftedQueries(3, 4, DIM, BINS, GRID, stride_px=8).eval()
    features = torch.zeros(1, 6, 3, 8, 12)
    features[0, 0, :, 3:5, 5:7] = 5.0  # ahead of camera 0, at its horizon
    for bin_ in (3, 5):
        depth = torch.zeros(1, 6, 8, 12, len(BINS))
        depth[..., bin_] = 1.0
        changed = (lifted(features, depth, rig).queries - lifted(0 * features, depth, rig).queries).abs().amax(-1)
        cell = changed.argmax()
        middle_px = torch.tensor([[48.0, 32.0]])
        expected = unproject(middle_px, BINS.centers_m()[bin_].view(1), rig.ref_from_img[0, :1])[0, :2]
        found = GRID.centers_m().flatten(0, 1)[cell]
        # The 3x3 convolution after the pooling may move the largest change by a cell.
        assert float((found - expected).abs().max()) < 1.6 * 4.0


def test_gradients_reach_every_parameter_and_the_depth() -> None:
    first, second = test_bevformer.frames()
    model, batch = detector().train(), replace(second, previous=(first,))
    losses = model.loss(batch)
    (losses["loss_cls"] + losses["loss_bbox"]).backward()  # without the losses on the images
    lifted = model.pts_bbox_head.lifted
    assert all(p.grad is not None and p.grad.any() for p in lifted.parameters())
    depth_rows = model.image_supervision.image_head.output.weight.grad[-len(BINS) :]
    assert bool(depth_rows.any())


def test_the_memory_alone_is_that_of_the_whole_and_batches_are_their_samples() -> None:
    batch, model = random_batch(), detector().eval()
    with torch.no_grad():
        whole = model(batch.images, batch.rig)["state"]["bev"]
        torch.testing.assert_close(model.remember(batch.images, batch.rig)["bev"], whole)
        one = test_bevformer.rows(batch, [1])
        torch.testing.assert_close(model(one.images, one.rig)["state"]["bev"][0], whole[1], atol=1e-4, rtol=1e-4)


def test_finer_cells_are_folded_into_queries() -> None:
    """A query begins with what its own cells hold, also where they are several."""
    fine = replace(GRID, x_m=(-20.0, 20.0, 40 / 24), y_m=(-20.0, 20.0, 2.0))
    rig = ring_rig(6, (64, 96), 1)
    lifted = LiftedQueries(3, 4, DIM, BINS, fine, stride_px=8, fold=2).eval()
    assert lifted.shape == GRID.shape[1:]
    features = torch.zeros(1, 6, 3, 8, 12)
    features[0, 0, :, 3:5, 5:7] = 5.0
    depth = torch.zeros(1, 6, 8, 12, len(BINS))
    depth[..., 4] = 1.0
    changed = (lifted(features, depth, rig).queries - lifted(0 * features, depth, rig).queries).abs().amax(-1)
    expected = unproject(torch.tensor([[48.0, 32.0]]), BINS.centers_m()[4].view(1), rig.ref_from_img[0, :1])[0, :2]
    found = GRID.centers_m().flatten(0, 1)[changed.argmax()]
    assert float((found - expected).abs().max()) < 1.6 * 4.0
    with pytest.raises(ValueError, match="3 x 3 cells a query do not divide"):
        LiftedQueries(3, 4, DIM, BINS, fine, stride_px=8, fold=3)


def test_errors_name_what_is_wrong() -> None:
    plain = test_bevformer.detector()
    with pytest.raises(ValueError, match="one level, got 2"):
        LiftedQueries(DIM, 8, DIM, BINS, replace(GRID, z_m=(-3.0, 3.0, 3.0)), stride_px=8)
    head = detector().pts_bbox_head
    with pytest.raises(ValueError, match="depth needs an image_supervision"):
        BEVFormer(plain.preprocess, plain.img_backbone, plain.img_neck, head)
    with pytest.raises(ValueError, match="need the depth distribution"):
        head([torch.randn(1, 6, DIM, 8, 12)] * 2, ring_rig(6, (64, 96), 1))


def test_measured_depth_is_told_in_training_alone() -> None:
    model, batch = detector(), random_batch()
    supervision = model.image_supervision
    assert supervision is not None
    supervision.measured_share = 1.0
    depth = torch.full((2, 6, 8, 12, len(BINS)), 1 / len(BINS))
    told = supervision.train().told_depth(depth, batch)
    certain = (told == 1).any(-1)
    assert certain.any() and torch.equal(told[~certain], depth[~certain])
    measured_m = batch_depth_targets(batch, 8)
    assert torch.equal(told.argmax(-1)[certain], BINS.index(measured_m)[certain])
    assert supervision.eval().told_depth(depth, batch) is depth
    model.train()
    with_measured = model.loss(batch)
    supervision.measured_share = 0.0
    assert with_measured["loss_cls"].item() != model.loss(batch)["loss_cls"].item()
