"""Point set operators and membership in boxes against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bev.geometry.boxes import points_in_boxes as points_in_structure
from bev.ops import point_sets as module
from bev.ops.point_sets import ball_query, furthest_point_sampling, three_interpolate, three_nn
from bev.ops.points_in_boxes import box_of_points, points_in_boxes
from bev.structures import Boxes3D


def _points(batch: int, count: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(seed)) * 4


def test_furthest_points_equal_plain_loop() -> None:
    points = _points(2, 40)
    result = furthest_point_sampling(points, 12)
    for cloud, chosen in zip(points, result.tolist()):
        expected = [0]
        while len(expected) < 12:
            gap = (cloud[:, None] - cloud[expected][None]).square().sum(-1).amin(1)
            expected.append(int(gap.argmax()))
        assert chosen == expected
    assert furthest_point_sampling(points, 0).shape == (2, 0)
    assert furthest_point_sampling(points.half().transpose(1, 2).contiguous().transpose(1, 2), 3).shape == (2, 3)
    torch.library.opcheck(torch.ops.bev.furthest_point_sampling.default, (points, 3))
    with pytest.raises(ValueError, match="41 of 40"):
        furthest_point_sampling(points, 41)


@pytest.mark.parametrize("pairs", [1 << 20, 50])
def test_ball_query_equals_plain_loop(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(module, "_PAIRS", pairs)
    points, centers = _points(2, 30), _points(2, 9, seed=1)
    centers[:, 0], centers[:, 1] = points[:, 3], 99.0
    result = ball_query(points, centers, 1.2, 4, min_radius_m=0.5)
    for cloud, around, rows in zip(points, centers, result.tolist()):
        for center, row in zip(around, rows):
            squared = (cloud - center).square().sum(1)
            found = [i for i, d in enumerate(squared.tolist()) if d == 0 or 0.25 <= d < 1.2**2][:4]
            assert row == (found + [found[0]] * (4 - len(found)) if found else [0] * 4)
    assert ball_query(points[:, :2], centers, 9.0, 4).shape == (2, 9, 4)
    assert ball_query(points[:, :0], centers, 9.0, 4).tolist() == torch.zeros(2, 9, 4).long().tolist()
    with pytest.raises(ValueError, match="must be positive"):
        ball_query(points, centers, 1.0, 0)


def test_three_neighbours_and_interpolation() -> None:
    target, source = _points(2, 9), _points(2, 30, seed=1)
    distance, index = three_nn(target, source)
    expected = torch.cdist(target.double(), source.double()).topk(3, 2, largest=False)
    assert torch.equal(index, expected.indices)
    torch.testing.assert_close(distance, expected.values.float())
    features = torch.randn(2, 5, 30, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 9, 3, dtype=torch.float64, requires_grad=True)
    result = three_interpolate(features, index, weight)
    plain = torch.stack([(f[:, i] * w).sum(-1) for f, i, w in zip(features, index, weight)])
    torch.testing.assert_close(result, plain)
    assert torch.autograd.gradcheck(lambda f, w: three_interpolate(f, index[:, :2], w[:, :2]), (features, weight))
    assert three_nn(target[:, :0], source)[1].shape == (2, 0, 3)
    with pytest.raises(ValueError, match="got 2"):
        three_nn(target, source[:, :2])


def test_points_in_boxes() -> None:
    points = _points(2, 50) - 2
    boxes = torch.tensor([[[0, 0, 0, 3, 1, 2, 0.5], [1, 1, 0, 2, 2, 4, -2.0]]]).expand(2, 2, 7).clone()
    inside = points_in_boxes(points, boxes)
    assert inside.any() and not inside.all()
    for cloud, these, expected in zip(points, boxes, inside):
        zeros = torch.zeros(2, dtype=torch.int64)
        structure = Boxes3D(these[:, :3], these[:, 3:6], these[:, 6], torch.zeros(2, 2), zeros, torch.ones(2), "lidar")
        assert torch.equal(points_in_structure(cloud, structure).T, expected)
    first = torch.where(inside[..., 0], 0, torch.where(inside[..., 1], 1, -1))
    assert torch.equal(box_of_points(points, boxes), first)
    assert box_of_points(points, boxes[:, :0]).unique().tolist() == [-1]
    assert points_in_boxes(points[:, :0], boxes).shape == (2, 0, 2)
    with pytest.raises(ValueError, match="expected points"):
        points_in_boxes(points[0], boxes)


def test_faces() -> None:
    """Top and bottom are inside, sides are not."""
    box = torch.tensor([[[0, 0, 0, 2, 2, 2, 0.0]]])
    points = torch.tensor([[[0, 0, 1.0], [0, 0, -1], [1, 0, 0], [0, -1, 0], [0, 0, math.nextafter(1, 2) + 1e-6]]])
    assert points_in_boxes(points, box)[0, :, 0].tolist() == [True, True, False, False, False]
