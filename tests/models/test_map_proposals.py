"""Queries begun at the peaks of BEVFormer's map: where they start, what they learn from, batches, export, errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bev.geometry.bev_grid import BEVGrid
from bev.models.backbones import BEVEncoder
from bev.models.coders import SigmoidRefinement
from bev.models.coders.center_coder import CenterCoder
from bev.models.detectors import BEVFormer
from bev.models.heads import PUBLISHED_TASKS, BEVFormerHead, CenterHead, MapProposals
from bev.models.heads.map_proposals import FineMap
from bev.models.view.lift_splat import LiftedQueries
from tests.models import test_bevformer, test_lifted_queries
from tests.models.rigs import random_batch

DIM, COUNT = test_bevformer.DIM, 9
GRID = BEVGrid(x_m=(-20.0, 20.0, 40 / 12), y_m=(-20.0, 20.0, 4.0), z_m=(-3.0, 3.0, 6.0))
FINE = replace(GRID, x_m=(-20.0, 20.0, 40 / 24), y_m=(-20.0, 20.0, 2.0))


def proposals(grid: BEVGrid = GRID) -> MapProposals:
    torch.manual_seed(2)
    head = CenterHead(DIM, CenterCoder(grid, ray_aligned=True), shared_channels=8, head_channels=8, min_radius=1)
    return MapProposals(head, DIM, COUNT)


def fine_proposals() -> MapProposals:
    """The same in four cells for each of the map's."""
    torch.manual_seed(2)
    head = CenterHead(6, CenterCoder(FINE, ray_aligned=True), shared_channels=8, head_channels=8, min_radius=1)
    encoder = BEVEncoder(3 + 8, (6, 8), (1,))
    return MapProposals(head, DIM, COUNT, FineMap(DIM, 8, 2, encoder, spread_channels=3, out_channels=6))


def detector(fine: bool = False) -> BEVFormer:
    """The detector of the other tests with proposals."""
    plain = (test_lifted_queries if fine else test_bevformer).detector()
    old, lifted = plain.pts_bbox_head, None
    if fine:
        torch.manual_seed(3)
        lifted = LiftedQueries(DIM, 4, DIM, test_lifted_queries.BINS, FINE, stride_px=8, fold=2)
    parts = old.transformer, 30, DIM, 10, old.assigner, old.coder, old.loss_cls, old.loss_bbox
    head = BEVFormerHead(*parts, lifted=lifted, proposals=fine_proposals() if fine else proposals())
    images = plain.preprocess, plain.img_backbone, plain.img_neck
    return BEVFormer(*images, head, image_supervision=plain.image_supervision)


def test_queries_begin_at_the_boxes_of_the_highest_peaks() -> None:
    """A map head that says what it is told: two boxes, one of them a class whose neighbouring cell is nearly as hot."""
    part, (batch,) = proposals().eval(), test_bevformer.frames(1, batch=1)
    assert batch.boxes is not None
    boxes = batch.boxes[0][:2]
    boxes = replace(boxes, center_m=boxes.center_m.new_tensor([[7.0, -5.0, 0.5], [-12.0, 9.0, -0.5]]))
    codes = part.head.coder.encode(boxes)
    heat = torch.full((1, 10, 120), -5.0)
    heat[0, boxes.label, codes.cell] = torch.tensor([3.0, 1.0])
    heat[0, boxes.label[0], codes.cell[0] + 1] = 2.9  # no local maximum
    regression = torch.zeros(1, 10, 120)
    regression[0, :, codes.cell] = codes.code.T
    maps = dict(zip(part.head.branches, regression.view(1, 10, 10, 12).split(list(part.head.branches.values()), 1)))
    part.head.forward = lambda bev: [{**maps, "heatmap": heat.view(1, 10, 10, 12)}]  # type: ignore[method-assign]
    position_range = SigmoidRefinement(test_bevformer.RANGE_M)
    queries = part(torch.randn(1, DIM, 10, 12), position_range).queries
    assert queries.reference.shape == (1, COUNT, 3) and queries.content.shape == (1, COUNT, DIM)
    found = position_range.to_metric(queries.reference[0, :2])
    torch.testing.assert_close(found, boxes.center_m, atol=1e-4, rtol=0)


@pytest.mark.parametrize("fine", [False, True])
def test_gradients_reach_every_parameter_and_the_map(fine: bool) -> None:
    first, second = test_bevformer.frames()
    model = detector(fine).train()
    losses = model.loss(replace(second, previous=(first,)))
    assert {"map.loss_heatmap", "map.loss_bbox", "loss_cls", "d0.loss_bbox"} <= set(losses)
    sum(losses.values()).backward()
    part = model.pts_bbox_head.proposals
    assert part is not None
    missing = [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing
    model.zero_grad()
    losses = model.loss(second)
    (losses["map.loss_heatmap"] + losses["map.loss_bbox"]).backward()
    encoder = model.pts_bbox_head.transformer.encoder
    assert all(p.grad is not None and p.grad.any() for p in encoder.layers[-1].ffns.parameters())


def test_counts_divide_the_dense_losses_and_make_room_for_matches() -> None:
    batch, model = random_batch(), detector()
    counts = model.target_counts(batch)
    assert model.pts_bbox_head.num_matched == 30 + COUNT
    twice = {name: 2 * value if name.startswith("map.") else value for name, value in counts.items()}
    model.eval()
    ours, halved = model.loss(batch, counts), model.loss(batch, twice)
    torch.testing.assert_close(ours["map.loss_heatmap"], 2 * halved["map.loss_heatmap"])
    torch.testing.assert_close(ours["map.loss_bbox"], 2 * halved["map.loss_bbox"])
    torch.testing.assert_close(ours["loss_cls"], halved["loss_cls"])


@pytest.mark.parametrize("fine", [False, True])
def test_batches_are_their_samples(fine: bool) -> None:
    batch, model = random_batch(), detector(fine).eval()
    with torch.no_grad():
        whole = model(batch.images, batch.rig)
        assert whole["cls_logits"].shape[2] == 30 + COUNT
        one = test_bevformer.rows(batch, [1])
        alone = model(one.images, one.rig)
    torch.testing.assert_close(alone["box_code"][:, 0], whole["box_code"][:, 1], atol=1e-3, rtol=1e-3)


def test_a_cell_is_spread_over_its_parts_beside_what_was_lifted_there() -> None:
    """The map's cell in row 3, column 7 is known to the four fine cells in rows 6, 7 and columns 14, 15 alone."""
    fine = FineMap(DIM, 2, 2, torch.nn.Identity(), spread_channels=3, out_channels=5)
    bev, cells = torch.zeros(1, DIM, 10, 12), torch.randn(1, 2, 20, 24)
    bev[0, :, 3, 7] = 1.0
    given, empty = fine(bev, cells), fine(0 * bev, cells)
    rows, columns = ((given - empty)[0].abs().amax(0) > 0).nonzero().unbind(1)
    assert rows.tolist() == [6, 6, 7, 7] and columns.tolist() == [14, 15, 14, 15]
    torch.testing.assert_close(given[:, 3:], cells)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="one task, got 6"):
        MapProposals(CenterHead(DIM, CenterCoder(GRID), tasks=PUBLISHED_TASKS), DIM, COUNT)
    old = test_bevformer.detector().pts_bbox_head
    wrong = proposals(replace(GRID, y_m=(-20.0, 20.0, 5.0)))
    parts = old.transformer, 30, DIM, 10, old.assigner, old.coder, old.loss_cls, old.loss_bbox
    with pytest.raises(ValueError, match="proposals: a grid of"):
        BEVFormerHead(*parts, proposals=wrong)
    with pytest.raises(ValueError, match="a finer map needs lifted queries"):
        BEVFormerHead(*parts, proposals=fine_proposals())
    coarse = LiftedQueries(DIM, 4, DIM, test_lifted_queries.BINS, GRID, stride_px=8)
    with pytest.raises(ValueError, match="whose \\(20, 24\\) cells it reads"):
        BEVFormerHead(*parts, lifted=coarse, proposals=fine_proposals())
    with pytest.raises(ValueError, match="a finer map needs lifted cells"):
        fine_proposals()(torch.randn(1, DIM, 10, 12), SigmoidRefinement(test_bevformer.RANGE_M))
