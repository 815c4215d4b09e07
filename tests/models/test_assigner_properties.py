"""Assigners by their definitions, box by box, and what they forbid: an anchor never answers for two boxes."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bev.geometry.boxes2d import contains, pairwise_overlap
from bev.models.assigners import (
    ATSSAssigner,
    DynamicSoftLabelAssigner,
    GridAssigner,
    HungarianAssigner2D,
    MaxIoUAssigner,
    PointRangeAssigner,
    RatioSimOTAAssigner,
    SimOTAAssigner,
    StaticQualityAssigner,
    TaskAlignedAssigner,
)
from bev.models.priors import PointPriors, Priors, ScaledAnchors

PRIORS: Priors = ScaledAnchors((8, 16), (3.0,), (1.0,))([(8, 12), (4, 6)], torch.device("cpu"))
SEEDS = st.integers(0, 100_000)
COUNTS = st.integers(1, 7)


def scene(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (M, 4), labels (M,), scores (P, 3), decoded boxes (P, 4); some boxes overlap much."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([96.0, 64.0])
    center[1::2] = center[: count // 2 * 2 : 2][: len(center[1::2])] + 3.0
    size = torch.rand(count, 2, generator=generator) * 50 + 6
    boxes = torch.cat([center - size / 2, center + size / 2], 1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    decoded = PRIORS.xyxy_px + torch.randn(len(PRIORS), 4, generator=generator) * 3
    return boxes, labels, torch.rand(len(PRIORS), 3, generator=generator), decoded


def best_of(candidates: Tensor, value: Tensor) -> list[int]:
    """For each prior the candidate box of largest value, -1 without a candidate."""
    result = []
    for row, values in zip(candidates.tolist(), value.tolist()):
        wanted = [(values[m], -m) for m, is_candidate in enumerate(row) if is_candidate]
        result.append(-max(wanted)[1] if wanted else -1)
    return result


@settings(max_examples=25, deadline=None)
@given(SEEDS, COUNTS)
def test_atss_is_its_definition(seed: int, count: int) -> None:
    boxes, *_ = scene(seed, count)
    iou, center = pairwise_overlap(PRIORS.xyxy_px, boxes), (PRIORS.xyxy_px[:, :2] + PRIORS.xyxy_px[:, 2:]) / 2
    candidates = torch.zeros_like(iou, dtype=torch.bool)
    for m, box in enumerate(boxes):
        near, first = [], 0
        for level in PRIORS.counts:
            distance = (center[first : first + level] - (box[:2] + box[2:]) / 2).norm(dim=1)
            near += (distance.topk(9, largest=False).indices + first).tolist()
            first += level
        threshold = iou[near, m].mean() + iou[near, m].std()
        for p in near:
            inside = float(contains(boxes[m : m + 1], center[p : p + 1])) > 0.01
            candidates[p, m] = bool(iou[p, m] >= threshold) and inside
    assert ATSSAssigner().assign(PRIORS, boxes).box.tolist() == best_of(candidates, iou)


@settings(max_examples=15, deadline=None)
@given(SEEDS, COUNTS)
def test_static_quality_is_atss_of_squares_and_the_predictions_overlap(seed: int, count: int) -> None:
    boxes, labels, scores, decoded = scene(seed, count)
    points = PointPriors((8, 16))([(8, 12), (4, 6)], torch.device("cpu"))
    squares = ScaledAnchors((8, 16), (5.0,), (1.0,))([(8, 12), (4, 6)], torch.device("cpu")).moved(0)
    middle = points.stride_px[:, None] / 2  # ScaledAnchors sit on the cells' corners
    moved = Priors(squares.xyxy_px + middle.repeat(1, 4), points.center_px, points.stride_px, points.counts)
    expected = ATSSAssigner().assign(moved, boxes)
    found = StaticQualityAssigner(ATSSAssigner()).assign(points, boxes, labels, scores, decoded)
    assert found.metric is not None and torch.equal(found.box, expected.box)
    iou = pairwise_overlap(decoded, boxes)
    for prior, box in enumerate(found.box.tolist()):
        assert math.isclose(found.metric[prior], iou[prior, box] if box >= 0 else 0, abs_tol=1e-6)
    centred = torch.tensor([[20.0, 20.0, 60.0, 52.0]])
    assert len(StaticQualityAssigner(ATSSAssigner()).assign(points, centred, labels[:1], scores, decoded).positive)
    nothing = StaticQualityAssigner(ATSSAssigner()).assign(points, boxes[:0], labels[:0], scores, decoded)
    assert not len(nothing.positive) and nothing.metric is not None


@settings(max_examples=25, deadline=None)
@given(SEEDS, COUNTS, st.booleans())
def test_task_alignment_is_its_definition(seed: int, count: int, inside_first: bool) -> None:
    boxes, labels, scores, decoded = scene(seed, count)
    iou, center = pairwise_overlap(decoded, boxes), (PRIORS.xyxy_px[:, :2] + PRIORS.xyxy_px[:, 2:]) / 2
    metric, inside = scores[:, labels] * iou**6, contains(boxes, center) > 0.01
    candidates = torch.zeros_like(inside)
    for m in range(count):
        rank = metric[:, m] * inside[:, m] if inside_first else metric[:, m]
        for p in rank.topk(13).indices.tolist():
            candidates[p, m] = bool(inside[p, m]) and float(rank[p]) > 0
    found = TaskAlignedAssigner(inside_first=inside_first).assign(PRIORS, boxes, labels, scores, decoded)
    assert found.box.tolist() == best_of(candidates, iou)


@settings(max_examples=25, deadline=None)
@given(SEEDS, COUNTS)
def test_largest_overlap_is_its_definition(seed: int, count: int) -> None:
    boxes, *_ = scene(seed, count)
    iou = pairwise_overlap(PRIORS.xyxy_px, boxes)
    found = MaxIoUAssigner(0.5, 0.4, match_low_quality=False).assign(PRIORS, boxes).box
    for p, values in enumerate(iou):
        best = float(values.max())
        expected = int(values.argmax()) if best >= 0.5 else -2 if best >= 0.4 else -1
        assert int(found[p]) == expected
    rescued = MaxIoUAssigner(0.5, 0.4).assign(PRIORS, boxes).box
    for m in range(count):
        for p in (iou[:, m] == iou[:, m].max()).nonzero().flatten().tolist():
            # Its best anchor is its own, or that of a later box which wants it too.
            assert int(rescued[p]) >= m


@settings(max_examples=25, deadline=None)
@given(SEEDS, COUNTS)
def test_no_prior_answers_for_two_boxes(seed: int, count: int) -> None:
    """One number a prior, and it is that of a box; positives of dynamic assigners are candidates of that very box."""
    boxes, labels, scores, decoded = scene(seed, count)
    logits = torch.logit(scores.clamp(0.01, 0.99))
    found = {
        "SimOTA": SimOTAAssigner().assign(PRIORS, boxes, labels, scores, decoded),
        "SimOTA, centres": SimOTAAssigner(1.5, "center", penalty=1e6).assign(PRIORS, boxes, labels, scores, decoded),
        "YOLOv7": RatioSimOTAAssigner(reach=1.0).assign(PRIORS, boxes, labels, scores, decoded),
        "RTMDet": DynamicSoftLabelAssigner().assign(PRIORS, boxes, labels, logits, decoded),
        "YOLOv3": GridAssigner().assign(PRIORS, boxes),
        "FCOS": PointRangeAssigner(((-1, 24), (24, 1e8))).assign(PRIORS, boxes),
    }
    inside = contains(boxes, PRIORS.center_px) > 0
    for name, assignment in found.items():
        assert assignment.box.shape == (len(PRIORS),), name
        assert set(assignment.box.tolist()) <= {*range(count), -1, -2}, name
        if name == "FCOS":
            assert bool(inside[assignment.positive, assignment.box[assignment.positive]].all()), name
    query, box = HungarianAssigner2D().assign(logits, decoded, labels, boxes, (64, 96))
    assert len(query.unique()) == len(query) == len(box.unique()) == count
