"""Parts of 2D detectors by their definitions: ratio assigner, box coder, pooling, one-to-one matching, configs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.engine import load_config
from bev.models.assigners import HungarianAssigner2D, RatioAssigner
from bev.models.assigners.hungarian import least_cost_pairs
from bev.models.backbones import CSPDarknet
from bev.models.backbones.csp_darknet_parts import SPPF, SPPBottleneck
from bev.models.coders import DistanceBoxCoder, RatioBoxCoder
from bev.models.heads.dense import OneToOneCriterion, PairedHead, RatioCriterion
from bev.models.heads.dense.one_to_one_criterion import cheap_rows, image_size
from bev.models.heads.dense.predictions import DensePredictions
from bev.models.priors import PointPriors, SizedAnchors
from bev.registry import MODELS
from bev.structures import Boxes2D
from tests.models.test_dense import batch_of
from tests.paths import REPO_ROOT

BCCD = sorted((REPO_ROOT / "configs/bccd").glob("*.py"))
ANCHORS = SizedAnchors((8, 16), (((10, 13), (30, 20)), ((60, 60),)))


def _by_definition(boxes: torch.Tensor, sizes: list[tuple[int, int]], reach: float) -> set[tuple[int, int]]:
    """(prior, box) as the definition goes: box by box, level by level, anchor by anchor, cell by cell."""
    pairs, first = set(), 0
    for stride, anchors, (rows, columns) in zip((8, 16), (((10, 13), (30, 20)), ((60, 60),)), sizes):
        for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            for index, (aw, ah) in enumerate(anchors):
                r = [(x1 - x0) / aw, (y1 - y0) / ah]
                if max(max(v, 1 / v) for v in r) >= 4:
                    continue
                gx, gy = (x0 + x1) / 2 / stride, (y0 + y1) / 2 / stride
                cells = {(math.floor(gx), math.floor(gy))}
                if gx % 1 < reach and gx > 1:
                    cells.add((math.floor(gx) - 1, math.floor(gy)))
                if gy % 1 < reach and gy > 1:
                    cells.add((math.floor(gx), math.floor(gy) - 1))
                if (columns - gx) % 1 < reach and columns - gx > 1:
                    cells.add((math.floor(gx) + 1, math.floor(gy)))
                if (rows - gy) % 1 < reach and rows - gy > 1:
                    cells.add((math.floor(gx), math.floor(gy) + 1))
                pairs |= {(first + (row * columns + column) * len(anchors) + index, number) for column, row in cells}
        first += rows * columns * len(anchors)
    return pairs


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.5, 1.0]), st.integers(0, 6))
def test_ratio_assigner_is_its_definition(seed: int, reach: float, count: int) -> None:
    sizes = [(8, 12), (4, 6)]
    generator = torch.Generator().manual_seed(seed)
    # Centres off the cells' middles and borders, where floating point decides.
    center = torch.rand(count, 2, generator=generator) * torch.tensor([94.0, 62.0]) + 1.013
    size = torch.rand(count, 2, generator=generator) * 60 + 2.5
    boxes = torch.cat([center - size / 2, center + size / 2], 1)
    priors = ANCHORS(sizes, torch.device("cpu"))
    prior, box = RatioAssigner(4.0, reach).assign(priors, boxes)
    assert set(zip(prior.tolist(), box.tolist())) == _by_definition(boxes, sizes, reach)


def test_ratio_box_coder_by_hand() -> None:
    """Zero logits: the cell's middle and the anchor itself; large ones: 1.5 cells on, four times the size."""
    priors = ANCHORS([(2, 2), (1, 1)], torch.device("cpu"))
    zero = RatioBoxCoder().decode(priors, torch.zeros(len(priors), 4))
    torch.testing.assert_close(zero, priors.xyxy_px)
    far = RatioBoxCoder().decode(priors, torch.full((len(priors), 4), 30.0))
    torch.testing.assert_close(far[0], torch.tensor([12.0 - 20, 12 - 26, 12 + 20, 12 + 26]))


def test_a_crowded_anchor_learns_its_best_box_and_all_classes() -> None:
    priors = ANCHORS([(8, 12), (4, 6)], torch.device("cpu"))
    count = len(priors)
    predictions = DensePredictions(
        torch.zeros(1, count, 2, requires_grad=True),
        torch.zeros(1, count, 4, requires_grad=True),
        torch.zeros(1, count, requires_grad=True),
        priors,
        RatioBoxCoder(),
    )
    same = torch.tensor([[18.0, 18.0, 30.0, 30.0], [19.0, 17.0, 29.0, 30.0]])
    truth = [Boxes2D(same, torch.tensor([0, 1]), torch.ones(2))]
    criterion = RatioCriterion(RatioAssigner(), balance=(4.0, 1.0))
    image, prior, boxes, labels = criterion.pairs(predictions, truth)
    assert len(prior) > len(prior.unique())
    losses = criterion(predictions, truth)
    assert losses["loss_cls"].item() == pytest.approx(0.5 * math.log(2), rel=1e-5)
    assert losses["loss_obj"].item() == pytest.approx((4 + 1) * math.log(2), rel=1e-5)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    quality = predictions.quality.grad[0]  # type: ignore[union-attr,index]
    assert bool((quality[prior.unique()] < quality.max()).all())
    none = criterion(predictions, [Boxes2D(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))])
    assert none["loss_bbox"].item() == none["loss_cls"].item() == 0


def test_chained_pooling_is_the_pyramid() -> None:
    torch.manual_seed(0)
    slow, quick = SPPBottleneck(8, 8, (5, 9, 13), "silu").eval(), SPPF(8, 8, "silu").eval()
    quick.load_state_dict(slow.state_dict())
    x = torch.randn(2, 8, 11, 17)
    torch.testing.assert_close(quick(x), slow(x), atol=1e-6, rtol=0)


def test_convolution_stem_is_the_focus() -> None:
    """A 6x6 convolution of stride 2 computes what Focus and a 3x3 one do, with its weights in another order."""
    torch.manual_seed(0)
    focus, conv = CSPDarknet(0.33, 0.25).stem.eval(), CSPDarknet(0.33, 0.25, stem="conv").stem.eval()
    weight = focus.conv.conv.weight.detach()
    spread = torch.zeros(weight.shape[0], 3, 6, 6)
    for part, (column, row) in enumerate((c, r) for c in (0, 1) for r in (0, 1)):
        spread[:, :, row::2, column::2] = weight[:, 3 * part : 3 * part + 3]
    conv.conv.weight.data = spread
    conv.bn.load_state_dict(focus.conv.bn.state_dict())
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(conv(image), focus(image), atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 8), st.integers(1, 60))
def test_cheap_rows_lose_nothing(seed: int, boxes: int, priors: int) -> None:
    """The cheapest matching of the chosen rows costs what that of all rows costs, and gives no prior twice."""
    cost = torch.rand(priors, boxes, generator=torch.Generator().manual_seed(seed))
    rows = cheap_rows(cost)
    few, columns = least_cost_pairs(cost[rows])
    whole = least_cost_pairs(cost)
    assert cost[rows[few], columns].sum().item() == pytest.approx(cost[whole].sum().item(), rel=1e-5)
    assert len(few.unique()) == len(few) == min(boxes, priors)


def test_each_box_gets_one_prior_inside_it() -> None:
    torch.manual_seed(0)
    priors = PointPriors((8, 16))([(8, 12), (4, 6)], torch.device("cpu"))
    head = OneToOneCriterion(HungarianAssigner2D())
    predictions = DensePredictions(
        torch.randn(2, len(priors), 3), torch.rand(2, len(priors), 4) * 20, None, priors, DistanceBoxCoder()
    )
    assert image_size(predictions) == (64, 96)
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [6.0, 6.0, 38.0, 44.0], [60.0, 20.0, 90.0, 60.0]])
    label = torch.tensor([0, 1, 2])
    truth = [Boxes2D(boxes, label, torch.ones(3)), Boxes2D(boxes[:0], label[:0], torch.ones(0))]
    targets = head.targets(predictions, truth)
    assert targets.per_image == [3, 0]
    center = priors.center_px[targets.positive[1]]
    assert bool(((center > targets.boxes_px[:, :2]) & (center < targets.boxes_px[:, 2:])).all())


@pytest.mark.parametrize("path", BCCD, ids=lambda p: p.stem)
def test_every_part_of_the_bccd_detectors_is_taught(path: Path) -> None:
    """Every parameter gets a finite gradient, pictures without objects do no harm, boxes come out in the picture."""
    torch.manual_seed(0)
    detector = MODELS.build(load_config(path).model)
    batch = batch_of([[[8.0, 8.0, 40.0, 48.0], [20.0, 4.0, 60.0, 30.0]], []])
    losses = detector.loss(batch)
    torch.stack(list(losses.values())).sum().backward()
    assert all(bool(term.isfinite()) for term in losses.values())
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
    torch.stack(list(detector.loss(batch_of([[], []])).values())).sum().backward()
    detector.eval()
    for boxes in detector.predict(batch):
        assert bool((boxes.xyxy_px >= 0).all() and (boxes.xyxy_px <= 64).all())
        assert bool((boxes.score[:-1] >= boxes.score[1:]).all())


def test_the_teacher_stays_at_home() -> None:
    """In evaluation the pair runs and exports its first head alone, and needs no suppression."""
    detector = MODELS.build(load_config(REPO_ROOT / "configs/bccd/one_to_one_nano_bccd.py").model)
    assert isinstance(detector.head, PairedHead) and detector.head.decoder.nms_iou is None
    batch = batch_of([[[8.0, 8.0, 40.0, 48.0]]])
    assert {"cls", "teacher_cls"} <= set(detector(batch.images))
    detector.eval()
    assert set(detector(batch.images)) == {"cls", "box"}
    with pytest.raises(ValueError, match="training mode"):
        detector.loss(batch)


def test_there_are_five_detectors_for_blood_cells() -> None:
    assert len(BCCD) >= 5
