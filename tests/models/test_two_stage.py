"""Two stages: sampling, levels of regions, hard examples, proposals that move nothing, no export form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.models.assigners import Assignment, MaxIoUAssigner
from bev.models.coders import DeltaBoxCoder
from bev.models.heads.two_stage import RandomSampler, RegionCriterion, RegionFeatures, SharedLayers
from bev.structures import Boxes2D


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.floats(0, 1))
def test_draws_keep_their_bounds(seed: int, positives: int, negatives: int, count: int, share: float) -> None:
    torch.manual_seed(seed)
    box = torch.cat([torch.arange(positives) % 3, torch.full((negatives,), -1), torch.full((5,), -2)])
    box = box[torch.randperm(len(box))]
    drawn = RandomSampler(count, share).sample(Assignment(box, torch.zeros(len(box))))
    assert len(drawn.positive) == min(positives, int(count * share))
    assert len(drawn.negative) == min(negatives, count - len(drawn.positive))
    kept = drawn.box > -2
    assert torch.equal(drawn.box[kept], box[kept])


def test_regions_lie_on_the_level_of_their_size() -> None:
    sides = torch.tensor([10.0, 111.0, 113.0, 230.0, 460.0, 4000.0])
    rois = torch.stack([torch.zeros(6), torch.zeros(6), torch.zeros(6), sides, sides], 1)
    assert RegionFeatures().levels(rois).tolist() == [0, 0, 1, 2, 3, 3]
    # A region over a constant map has that constant, whatever its level.
    levels = [torch.full((1, 2, 64 >> k, 64 >> k), float(k)) for k in range(4)]
    found = RegionFeatures()(levels, torch.tensor([[0.0, 20, 20, 60, 60], [0.0, 10, 10, 200, 200]]))
    assert found.shape == (2, 2, 7, 7) and found[0].unique().tolist() == [0.0]
    torch.testing.assert_close(found[1], torch.ones(2, 7, 7))
    assert RegionFeatures()(levels, rois[:0]).shape == (0, 2, 7, 7)


def _criterion(**options: object) -> RegionCriterion:
    return RegionCriterion(MaxIoUAssigner(0.5, 0.5, 0.5, False), RandomSampler(100, 0.25), **options)


def test_hard_examples_alone_count() -> None:
    torch.manual_seed(0)
    truth = [Boxes2D(torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([1]), torch.ones(1))]
    proposals = [torch.tensor([[1.0, 0, 21, 20], [40.0, 40, 60, 60], [41.0, 40, 60, 60], [80.0, 0, 99, 9]])]
    targets = _criterion().targets(proposals, truth, 2)
    assert targets.label.tolist() == [1, 1, 2, 2, 2]  # the truth itself, its neighbour, background
    cls = torch.tensor([[0.0, 5, 0], [0.0, 5, 0], [9.0, 0, 0], [8.0, 0, 0], [0.0, 0, 5]])
    box, coder = torch.zeros(5, 2, 4), DeltaBoxCoder((0.1, 0.1, 0.2, 0.2))
    hard = _criterion(hard_examples=1)(cls, box, targets, coder)
    # The third region is the worst; the fourth repeats it, and would be second.
    assert hard["loss_cls"].item() == pytest.approx(-cls[2].log_softmax(0)[2].item(), rel=1e-5)
    assert hard["loss_bbox"].item() == 0.0
    both = _criterion(hard_examples=2)(cls, box, targets, coder)
    boxes = (coder.encode(_prior(targets.rois_px[1:2, 1:]), targets.wanted_px[1:2])).abs().sum()
    assert both["loss_bbox"].item() == pytest.approx((boxes / 2).item(), rel=1e-5)


def _prior(xyxy: torch.Tensor):  # type: ignore[no-untyped-def]
    from bev.models.heads.two_stage.region_criterion import as_priors

    return as_priors(xyxy)


def test_pictures_without_objects_teach_background() -> None:
    none = [Boxes2D(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))]
    criterion = _criterion()
    targets = criterion.targets([torch.tensor([[0.0, 0, 9, 9]])], none, 2)
    assert targets.label.tolist() == [2]
    empty = criterion.targets([torch.zeros(0, 4)], none, 2)
    network = SharedLayers(2, 4, 7, 8)
    for found in (targets, empty):
        cls, box = network(torch.randn(len(found.label), 4, 7, 7))
        losses = criterion(cls, box, found, DeltaBoxCoder())
        assert all(bool(term.isfinite()) for term in losses.values())
        assert losses["loss_bbox"].item() == 0.0


def test_bad_draws_are_named() -> None:
    with pytest.raises(ValueError, match="cannot draw 0 regions"):
        RandomSampler(0)
