"""YOLOv7's lead and coarse heads: candidates, guidance by the lead head, exclusiveness; the IoU-aware branch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.geometry.boxes2d import overlap
from bev.models.assigners import PointRangeAssigner, RatioAssigner, RatioSimOTAAssigner
from bev.models.coders import DistanceBoxCoder, RatioBoxCoder
from bev.models.heads.dense import (
    CenternessCriterion,
    CoupledConvs,
    DenseDecoder,
    DenseHead,
    LeadGuidedHead,
    RatioCriterion,
)
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.losses import FocalLoss, GIoULoss
from bev.models.priors import PointPriors, SizedAnchors
from bev.structures import Boxes2D

STRIDES, CHANNELS = (8, 16), (8, 8)
ANCHORS = SizedAnchors(STRIDES, (((10, 13), (30, 20)), ((60, 60), (30, 80))))
SIZES = [(8, 12), (4, 6)]


def boxes_of(seed: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([94.0, 62.0]) + 1.013
    size = torch.rand(count, 2, generator=generator) * 60 + 4
    return torch.cat([center - size / 2, center + size / 2], 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 6), st.sampled_from([0.5, 1.0]))
def test_guided_assignment_is_exclusive_and_near(seed: int, count: int, reach: float) -> None:
    """No anchor answers for two boxes, each positive is a candidate of some box, a wider reach has more candidates."""
    generator = torch.Generator().manual_seed(seed)
    priors, boxes = ANCHORS(SIZES, torch.device("cpu")), boxes_of(seed, count)
    scores = torch.rand(len(priors), 3, generator=generator)
    decoded = priors.xyxy_px + torch.randn(len(priors), 4, generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    found = RatioSimOTAAssigner(reach=reach).assign(priors, boxes, labels, scores, decoded)
    near = RatioAssigner(reach=reach).candidates(priors, boxes).any(1)
    assert bool(near[found.positive].all())
    assert len(found.positive.unique()) == len(found.positive)
    wide = RatioAssigner(reach=1.0).candidates(priors, boxes)
    assert bool((wide | ~RatioAssigner(reach=0.5).candidates(priors, boxes)).all())
    if count == 1 and bool(near.any()):
        # One box: it takes its cheapest candidates, as many as its ten best IoUs sum to.
        iou = overlap(decoded[near], boxes)
        assert len(found.positive) == min(max(1, int(iou.topk(min(10, len(iou))).values.sum())), int(near.sum()))


def head_of(weight: float = 0.25) -> LeadGuidedHead:
    def network() -> CoupledConvs:
        return CoupledConvs(3, CHANNELS, per_cell=2)

    criterion = RatioCriterion(RatioSimOTAAssigner(topk=20), balance=(4.0, 1.0))
    head = DenseHead(network(), ANCHORS, RatioBoxCoder(), criterion, DenseDecoder())
    return LeadGuidedHead(head, network(), RatioSimOTAAssigner(reach=1.0, topk=20), weight)


def features_of(times: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    levels = zip(CHANNELS * times, SIZES * times)
    return [torch.randn(2, c, *size, generator=generator) for c, size in levels]


def truth_of() -> list[Boxes2D]:
    boxes = boxes_of(3, 4)
    none = torch.zeros(0, dtype=torch.int64)
    return [Boxes2D(boxes, torch.arange(4) % 3, torch.ones(4)), Boxes2D(boxes[:0], none, torch.ones(0))]


def test_the_lead_head_guides_the_coarse_one() -> None:
    """The coarse head's positives change with the lead head's predictions, not with its own; its terms have 0.25."""
    torch.manual_seed(0)
    head, features, truth = head_of(), features_of(2), truth_of()
    maps = head(features)
    losses = head.loss(maps, truth)
    assert {"loss_bbox", "auxiliary_loss_bbox", "auxiliary_loss_obj"} <= set(losses)
    lead = head.head.predictions({k: v for k, v in maps.items() if not k.startswith("auxiliary_")})
    own = head.head.predictions({k.removeprefix("auxiliary_"): v for k, v in maps.items() if "auxiliary" in k})
    pairs = head.coarse.pairs(lead, truth)
    for name, value in head.coarse.terms(own, pairs, 2).items():
        torch.testing.assert_close(losses[f"auxiliary_{name}"], value)
    whole = RatioCriterion(head.coarse.assigner, balance=(4.0, 1.0)).terms(own, pairs, 2)
    for name, value in whole.items():
        torch.testing.assert_close(losses[f"auxiliary_{name}"], 0.25 * value)
    # Lead and coarse anchors differ, since the coarse one may take more cells.
    fine = head.head.criterion.pairs(lead, truth)
    assert set(fine[1].tolist()) != set(pairs[1].tolist())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in head.parameters())


def test_the_coarse_head_stays_at_home() -> None:
    head = head_of().eval()
    maps = head(features_of(2))
    assert set(maps) == {"cls", "box", "quality"}
    with pytest.raises(ValueError, match="training mode"):
        head.loss(maps, truth_of())
    lone = RatioCriterion(RatioAssigner(), balance=(4.0, 1.0))
    other = DenseHead(CoupledConvs(3, CHANNELS), ANCHORS, RatioBoxCoder(), lone, DenseDecoder())
    with pytest.raises(ValueError, match="RatioSimOTAAssigner"):
        LeadGuidedHead(other, CoupledConvs(3, CHANNELS), RatioSimOTAAssigner())


def test_the_quality_branch_may_learn_the_iou() -> None:
    """The third map's loss is the cross entropy with the decoded box's IoU; at test the scores have its share."""
    torch.manual_seed(0)
    priors = PointPriors((8,))([(8, 12)], torch.device("cpu"))
    predictions = DensePredictions(
        torch.randn(1, 96, 2), torch.rand(1, 96, 4) * 20 + 4, torch.zeros(1, 96), priors, DistanceBoxCoder()
    )
    truth = [Boxes2D(torch.tensor([[10.0, 10.0, 50.0, 50.0]]), torch.tensor([1]), torch.ones(1))]
    assigner = PointRangeAssigner(((-1, 1e8),))
    criterion = CenternessCriterion(assigner, FocalLoss(), GIoULoss(), quality="iou")
    targets = criterion.targets(predictions, truth)
    iou = overlap(predictions.boxes_px[0][targets.positive[1]], targets.boxes_px)
    predictions.quality[0, targets.positive[1]] = iou.logit()  # type: ignore[index]
    entropy = -(iou * iou.log() + (1 - iou) * (1 - iou).log())
    assert criterion(predictions, truth)["loss_quality"].item() == pytest.approx(entropy.mean().item(), rel=1e-4)
    decoder = DenseDecoder(0.0, None, None, None, quality_mode="geometric", quality_share=0.4)
    found = decoder(predictions, [(64, 96)])[0]
    expected = predictions.scores[0].pow(0.6) * predictions.quality[0].sigmoid()[:, None].pow(0.4)
    torch.testing.assert_close(found.score, expected.flatten().sort(descending=True).values[: len(found)])
    with pytest.raises(ValueError, match="quality_share 2"):
        DenseDecoder(quality_share=2)
    with pytest.raises(ValueError, match="neither 'centerness' nor 'iou'"):
        CenternessCriterion(assigner, FocalLoss(), GIoULoss(), quality="area")
