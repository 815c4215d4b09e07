"""Matching, refinement, coding and losses of set prediction, as properties."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from bev.models.assigners import HungarianAssigner3D, focal_cost
from bev.models.coders import MetricRange, NMSFreeCoder, SigmoidRefinement, inverse_sigmoid
from bev.models.losses import FocalLoss, L1Loss, SmoothL1Loss
from tests.models.rigs import random_boxes

RANGE_M = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)


def _predictions(queries: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(queries, 10, generator=generator), torch.randn(queries, 10, generator=generator)


@settings(max_examples=25, deadline=None)
@given(queries=st.integers(1, 5), boxes=st.integers(0, 5), seed=st.integers(0, 1000))
def test_matching_is_optimal(queries: int, boxes: int, seed: int) -> None:
    assigner, truth = HungarianAssigner3D(), random_boxes(boxes, seed)
    logits, code = _predictions(queries, seed)
    target = NMSFreeCoder().encode(truth)
    query, box = assigner.assign(logits, code, truth.label, target)
    assert len(query) == min(queries, boxes) == len(set(query.tolist())) == len(set(box.tolist()))
    cost = assigner.cost(logits, code, truth.label, target)
    wide = cost if queries <= boxes else cost.T
    best = min(
        (
            float(sum(wide[i, j] for i, j in enumerate(p)))
            for p in itertools.permutations(range(wide.shape[1]), len(wide))
        ),
        default=0.0,
    )
    assert float(cost[query, box].sum()) == pytest.approx(best, abs=1e-4)


def test_velocity_does_not_enter_the_cost_and_class_does() -> None:
    assigner, truth = HungarianAssigner3D(), random_boxes(3)
    logits, code = _predictions(4, 0)
    cost = assigner.cost(logits, code, truth.label, NMSFreeCoder().encode(truth))
    assert bool(torch.isfinite(cost).all())  # the first box's velocity is NaN
    code[:, 8:] += 100
    assert torch.equal(cost, assigner.cost(logits, code, truth.label, NMSFreeCoder().encode(truth)))
    logits[0, truth.label[1]] += 3
    assert float(focal_cost(logits, truth.label)[0, 1]) < float(focal_cost(logits - 3, truth.label)[0, 1])


def test_predictions_that_are_not_finite_are_matched_last() -> None:
    truth = random_boxes(2)
    logits, code = _predictions(4, 1)
    code[0], logits[1], code[2, 3] = torch.nan, torch.nan, torch.inf
    query, _ = HungarianAssigner3D().assign(logits, code, truth.label, NMSFreeCoder().encode(truth))
    assert 3 in query.tolist() and len(query) == 2


@given(x=st.floats(1e-4, 1 - 1e-4), y=st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_inverse_sigmoid(x: float, y: float) -> None:
    assert float(inverse_sigmoid(torch.tensor(x)).sigmoid()) == pytest.approx(x, abs=1e-5)
    assert math.isfinite(float(inverse_sigmoid(torch.tensor(y))))


def test_refinement_moves_the_reference_and_nothing_else() -> None:
    refinement = SigmoidRefinement(RANGE_M)
    reference, raw = torch.rand(3, 5, 3), torch.randn(3, 5, 10)
    refined, code = refinement(raw, reference)
    torch.testing.assert_close(code[..., [0, 1, 4]], refinement.to_metric(refined))
    assert torch.equal(code[..., [2, 3, 5, 6, 7, 8, 9]], raw[..., [2, 3, 5, 6, 7, 8, 9]])
    still, _ = refinement(torch.zeros(3, 5, 10), reference)
    torch.testing.assert_close(still, reference)
    moved, _ = refinement(torch.ones(3, 5, 10), reference)
    assert bool((moved > reference).all())


def test_range_round_trip_and_bad_range() -> None:
    space = MetricRange(RANGE_M)
    points = torch.randn(7, 3) * 30
    torch.testing.assert_close(space.to_metric(space.from_metric(points)), points, atol=1e-4, rtol=1e-5)
    with pytest.raises(ValueError, match="lower one first"):
        MetricRange((0, 0, 0, 1, 1, 0))


@pytest.mark.parametrize("legacy", [False, True])
def test_coder_round_trip(legacy: bool) -> None:
    boxes, coder = random_boxes(12), NMSFreeCoder(legacy_box_code=legacy)
    logits = torch.full((12, 10), -9.0)
    logits[torch.arange(12), boxes.label] = torch.linspace(3, -3, 12)
    decoded = NMSFreeCoder(12, legacy_box_code=legacy).decode(logits, coder.encode(boxes))
    torch.testing.assert_close(decoded.center_m, boxes.center_m)
    torch.testing.assert_close(decoded.size_m, boxes.size_m)
    torch.testing.assert_close((decoded.yaw_rad - boxes.yaw_rad).cos(), torch.ones(12))
    torch.testing.assert_close(decoded.velocity_mps, boxes.velocity_mps, equal_nan=True)
    assert torch.equal(decoded.label, boxes.label)
    torch.testing.assert_close(decoded.score, torch.linspace(3, -3, 12).sigmoid())


def test_decode_keeps_the_best_inside_the_range_above_the_threshold() -> None:
    boxes = random_boxes(6)
    boxes.center_m[2, 0] = 70.0
    code = NMSFreeCoder().encode(boxes)
    logits = torch.full((6, 10), -20.0)
    logits[torch.arange(6), boxes.label] = torch.tensor([5.0, 4, 3, 2, 1, -8])
    kept = NMSFreeCoder(max_boxes=50, score_threshold=0.01).decode(logits, code)
    assert kept.score.tolist() == pytest.approx(torch.tensor([5.0, 4, 2, 1]).sigmoid().tolist())
    assert len(NMSFreeCoder(max_boxes=2).decode(logits, code)) == 2
    assert len(NMSFreeCoder().decode(logits[:0], code[:0])) == 0


def test_one_query_may_answer_for_two_classes() -> None:
    logits = torch.full((1, 10), -20.0)
    logits[0, [3, 7]] = torch.tensor([2.0, 1.0])
    decoded = NMSFreeCoder(max_boxes=2).decode(logits, torch.zeros(1, 10))
    assert decoded.label.tolist() == [3, 7]


def test_focal_loss_of_plain_settings_is_half_the_cross_entropy() -> None:
    logits, target = torch.randn(8, 4), torch.randint(0, 5, (8,))
    one_hot = torch.nn.functional.one_hot(target, 5)[:, :4].float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, one_hot) / 2
    torch.testing.assert_close(FocalLoss(gamma=0, alpha=0.5)(logits, target), expected)


def test_losses_without_elements_and_with_unknown_targets() -> None:
    empty = torch.zeros(0, 10, requires_grad=True)
    for loss in (L1Loss(), SmoothL1Loss()):
        result = loss(empty, torch.zeros(0, 10), torch.zeros(0, 10), avg_factor=1.0)
        result.backward()
        assert float(result.detach()) == 0
    prediction = torch.ones(2, 3, requires_grad=True)
    target = torch.tensor([[0.0, torch.nan, 3.0], [1, 1, torch.inf]])
    L1Loss()(prediction, target, torch.isfinite(target).float(), avg_factor=1.0).backward()
    assert torch.equal(prediction.grad, torch.tensor([[1.0, 0, -1], [0, 0, 0]]))


def test_smooth_l1_meets_l1() -> None:
    prediction, target = torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2)
    assert SmoothL1Loss(beta=1.0, reduction="none")(prediction, target).tolist() == [[0.125, 2.5]]
    with pytest.raises(ValueError, match="reduction 'mean'"):
        L1Loss(reduction="sum")(prediction, target, avg_factor=2.0)
