"""Rotated and 3D overlap against polygon clipping in float64, exact cases, gradients, suppression."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bev.ops.box_iou_3d import box_iou_3d, box_iou_bev, nms_bev
from bev.ops.greedy import by_score
from bev.ops.rotated_iou import box_iou_rotated, nms_rotated, rotated_intersection


def _random(count: int, seed: int, far: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    span = torch.tensor([20, 20, 10, 4, 2 * math.pi], dtype=torch.float64)
    return torch.rand(count, 5, generator=g, dtype=torch.float64) * span + torch.tensor([far, far, 0.1, 0.1, -3.0])


def _corners(box: list[float]) -> list[tuple[float, float]]:
    x, y, w, h, angle = box
    c, s = math.cos(angle), math.sin(angle)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return [(x + c * u * w / 2 - s * v * h / 2, y + s * u * w / 2 + c * v * h / 2) for u, v in signs]


def _clipped_area(first: list[float], second: list[float]) -> float:
    """Sutherland and Hodgman's clipping, edge by edge."""
    polygon, window = _corners(first), _corners(second)
    for (ax, ay), (bx, by) in zip(window, window[1:] + window[:1]):
        side = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for x, y in polygon]
        clipped = []
        for k, (x, y) in enumerate(polygon):
            following = (k + 1) % len(polygon)
            if side[k] >= 0:
                clipped.append((x, y))
            if side[k] * side[following] < 0:
                t = side[k] / (side[k] - side[following])
                clipped.append((x + t * (polygon[following][0] - x), y + t * (polygon[following][1] - y)))
        polygon = clipped
        if not polygon:
            return 0.0
    return 0.5 * abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1])))


def test_equals_polygon_clipping() -> None:
    a, b = _random(40, 0), _random(30, 1)
    expected = torch.tensor([[_clipped_area(p, q) for q in b.tolist()] for p in a.tolist()], dtype=torch.float64)
    assert 0.1 < (expected > 0).double().mean() < 0.9
    torch.testing.assert_close(rotated_intersection(a, b), expected, atol=1e-11, rtol=0)
    torch.testing.assert_close(rotated_intersection(a.float(), b.float()).double(), expected, atol=5e-5, rtol=0)


CASES = [
    ([10, 20, 4, 2, 0.3], [10, 20, 4, 2, 0.3], 1.0),
    ([10, 20, 4, 2, 0.3], [10, 20, 4, 2, 0.3 + math.pi], 1.0),
    ([0, 0, 4, 2, 0], [0, 0, 2, 4, math.pi / 2], 1.0),
    ([0, 0, 4, 2, 0], [4, 0, 4, 2, 0], 0.0),  # a shared edge
    ([0, 0, 4, 2, 0], [4, 2, 4, 2, 0], 0.0),  # a shared corner
    ([0, 0, 2, 2, math.pi / 4], [0, 0, 2, 2, 0], math.sqrt(0.5)),
    ([0, 0, 4, 2, 0], [0, 0, 1, 1, 0.2], 0.125),  # one inside the other
    ([0, 0, 4, 2, 0], [0, 0, 0, 1, 0.2], 0.0),  # no width
    ([900, 900, 300, 0.01, 0.7], [900, 900, 300, 0.01, 0.7], 1.0),  # a needle far from the origin
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_cases(dtype: torch.dtype) -> None:
    a, b = (torch.tensor([case[i] for case in CASES], dtype=dtype) for i in (0, 1))
    expected = torch.tensor([case[2] for case in CASES], dtype=dtype)
    torch.testing.assert_close(box_iou_rotated(a, b, aligned=True), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(box_iou_rotated(b, a, aligned=True), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(box_iou_rotated(a, b).diagonal(), expected, atol=1e-6, rtol=0)


def test_angle_direction_mode_and_symmetry() -> None:
    a, b = _random(20, 2), _random(25, 3)
    mirror = torch.tensor([1, -1, 1, 1, 1])
    torch.testing.assert_close(box_iou_rotated(a, b), box_iou_rotated(b, a).T)
    torch.testing.assert_close(box_iou_rotated(a, b), box_iou_rotated(a * mirror, b * mirror, clockwise=False))
    shared, iof = rotated_intersection(a, b), box_iou_rotated(a, b, "iof")
    torch.testing.assert_close(iof, shared / (a[:, 2] * a[:, 3])[:, None])


def test_gradcheck_and_paths_agree() -> None:
    a, b = _random(6, 4).requires_grad_(), _random(5, 5).requires_grad_()
    assert torch.autograd.gradcheck(box_iou_rotated, (a, b))
    assert torch.autograd.gradcheck(lambda x, y: box_iou_3d(*map(_upright, (x, y))), (a, b))
    torch.testing.assert_close(box_iou_rotated(a, b), box_iou_rotated(a.detach(), b.detach()))


def _upright(boxes: Tensor) -> Tensor:
    flat = torch.ones_like(boxes[:, :1])
    return torch.cat([boxes[:, :2], 0.1 * boxes[:, :1], boxes[:, 2:4], 2 * flat, boxes[:, 4:]], 1)


def test_opcheck_empty_and_half() -> None:
    a = _random(5, 6).float()
    torch.library.opcheck(torch.ops.bev.rotated_intersection.default, (a, a[:3]))
    torch.library.opcheck(torch.ops.bev.nms_rotated.default, (a, torch.rand(5), None, 0.5))
    assert box_iou_rotated(a, a[:0]).shape == (5, 0) and box_iou_rotated(a[:0], a).shape == (0, 5)
    assert nms_rotated(a[:0], torch.zeros(0), 0.5).shape == (0,)
    assert box_iou_rotated(a.half(), a.half()).dtype == torch.float32


@pytest.mark.parametrize("grouped", [False, True])
def test_nms_equals_plain_loop(grouped: bool) -> None:
    boxes = _random(300, 7).float()
    g = torch.Generator().manual_seed(8)
    score, label = torch.rand(300, generator=g), torch.randint(0, 2, (300,), generator=g)
    iou, kept = box_iou_rotated(boxes, boxes), []
    for i in by_score(score).tolist():
        if not any(iou[k, i] > 0.2 and (not grouped or label[k] == label[i]) for k in kept):
            kept.append(i)
    group = label if grouped else None
    assert nms_rotated(boxes, score, 0.2, group).tolist() == kept
    assert nms_bev(_upright(boxes), score, 0.2, group).tolist() == kept


def test_3d_overlap() -> None:
    base = torch.tensor([[5.0, 3, 1, 4, 2, 2, 0.4]])
    lifted, half_turn, flat = base.clone(), base.clone(), base.clone()
    lifted[:, 2] += 1
    half_turn[:, 6] += math.pi
    flat[:, 5] = 0
    others = torch.cat([base, lifted, half_turn, flat])
    torch.testing.assert_close(box_iou_3d(base, others), torch.tensor([[1, 1 / 3, 1, 0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(box_iou_bev(base, others), torch.ones(1, 4), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="got \\(1, 5\\)"):
        box_iou_3d(base[:, :5], base)


def test_unrotated_nms_ignores_yaw() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 4, 1, 1, 0], [0, 0, 0, 4, 1, 1, math.pi / 2]])
    score = torch.tensor([0.5, 0.6])
    assert nms_bev(boxes, score, 0.3).tolist() == [1, 0]
    assert nms_bev(boxes, score, 0.3, rotated=False).tolist() == [1]
