"""Voxelisation and reduction to voxels against plain loops over points."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bev.ops import voxelize as module
from bev.ops.voxelize import dynamic_scatter, dynamic_voxelize, hard_voxelize

SIZE, RANGE = (1.0, 2.0, 4.0), (-3.0, -4.0, -2.0, 3.0, 4.0, 2.0)


def _points(count: int = 300, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.cat([torch.rand(count, 3, generator=g) * 10 - 5, torch.rand(count, 1, generator=g)], 1)


@pytest.mark.parametrize("max_points, max_voxels", [(3, 10), (100, 100), (1, 1)])
def test_hard_voxels_equal_plain_loop(max_points: int, max_voxels: int) -> None:
    points = _points()
    voxels: dict[tuple[int, ...], list[Tensor]] = {}
    for point in points:
        place = [int(((p - low) / size).floor()) for p, low, size in zip(point, RANGE, SIZE)]
        if all(0 <= p < n for p, n in zip(place, (6, 4, 1))):
            key = tuple(reversed(place))
            if key in voxels or len(voxels) < max_voxels:
                voxels.setdefault(key, []).append(point)
    result = hard_voxelize(points, SIZE, RANGE, max_points, max_voxels)
    assert [tuple(c) for c in result.cell.tolist()] == list(voxels)
    assert result.num_points.tolist() == [min(len(v), max_points) for v in voxels.values()]
    for row, expected in zip(result.points_m, voxels.values()):
        kept = torch.stack(expected[:max_points])
        assert torch.equal(row[: len(kept)], kept) and not row[len(kept) :].any()


def test_edges_of_the_range() -> None:
    nan, inf = float("nan"), float("inf")
    points = torch.tensor([[-3, -4, -2], [3, 0, 0], [2.999, 3.999, 1.999], [nan, 0, 0], [inf, 0, 0], [-inf, 1e30, 0]])
    outside = [-1, -1, -1]
    assert dynamic_voxelize(points, SIZE, RANGE).tolist() == [[0, 0, 0], outside, [0, 3, 5], *[outside] * 3]
    assert len(hard_voxelize(points[:0], SIZE, RANGE, 2, 2).num_points) == 0
    assert len(hard_voxelize(points[1:2], SIZE, RANGE, 2, 2).num_points) == 0
    half = dynamic_voxelize(torch.tensor([[12.1, 0.0, 0.0]]), (1.0, 1.0, 1.0), (0.0, -1, -1, 12.5, 1, 1))
    assert half.tolist() == [[1, 1, 12]]  # twelve and a half voxels are thirteen
    with pytest.raises(ValueError, match="holds no voxel"):
        dynamic_voxelize(points, (9.0, 2.0, 0.0), RANGE)
    with pytest.raises(ValueError, match="must be positive"):
        hard_voxelize(points, SIZE, RANGE, 0, 2)


def _cells(seed: int = 0, batch: int = 3) -> Tensor:
    cell = torch.randint(-1, batch, (80, 4), generator=torch.Generator().manual_seed(seed))
    return cell


@pytest.mark.parametrize("reduction", ["sum", "mean", "max"])
def test_scatter_equals_plain_loop(reduction: str) -> None:
    cell = _cells()
    features = torch.randn(80, 5, dtype=torch.float64).round(decimals=1).requires_grad_()  # ties for max
    result = dynamic_scatter(features, cell, reduction)
    kept = (cell >= 0).all(1)
    assert torch.equal(result.cell, cell[kept].unique(dim=0)) and torch.equal(result.voxel_of_point >= 0, kept)
    assert torch.equal(result.cell[result.voxel_of_point[kept]], cell[kept])
    expected = module._reduce_reference(features, result.voxel_of_point, len(result.cell), reduction)
    torch.testing.assert_close(result.features, expected)
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad(result.features, features, weight)[0]
    if reduction != "max":
        torch.testing.assert_close(ours, torch.autograd.grad(expected, features, weight)[0])
    else:
        plain = torch.zeros_like(features)
        for voxel in range(len(expected)):
            members = (result.voxel_of_point == voxel).nonzero().squeeze(1)
            for channel in range(5):
                best = min(members.tolist(), key=lambda p: (-float(features.detach()[p, channel]), p))
                plain[best, channel] = weight[voxel, channel]
        torch.testing.assert_close(ours, plain)


def test_gradcheck_and_opcheck() -> None:
    cell = _cells()
    features = torch.randn(80, 2, dtype=torch.float64, requires_grad=True)
    for reduction in ("sum", "mean", "max"):
        assert torch.autograd.gradcheck(lambda x, r=reduction: dynamic_scatter(x, cell, r).features, (features,))
    order, starts, voxel = module._group(cell)
    single = torch.randn(80, 2, requires_grad=True)
    torch.library.opcheck(torch.ops.bev.group_points.default, (cell,))
    torch.library.opcheck(torch.ops.bev.reduce_points.default, (single, order, starts, voxel, "mean"))
    points = _points(20)
    arguments = (points, dynamic_voxelize(points, SIZE, RANGE), 2, 5)
    torch.library.opcheck(torch.ops.bev.hard_voxelize.default, arguments)


def test_scatter_edges() -> None:
    features, cell = torch.randn(4, 3, requires_grad=True), torch.full((4, 2), -1)
    assert dynamic_scatter(features, cell).features.shape == (0, 3)
    assert dynamic_scatter(features[:0], cell[:0], "mean").features.shape == (0, 3)
    far = torch.tensor([[2**40, 5], [0, 2**20], [2**40, 5], [3, 3]])  # keys of more than 32 bits
    result = dynamic_scatter(features.half(), far, "sum")
    assert result.cell.tolist() == [[0, 2**20], [3, 3], [2**40, 5]] and result.features.dtype == torch.float16
    with pytest.raises(ValueError, match="64 bits"):
        dynamic_scatter(features, torch.full((4, 2), 2**40))
    with pytest.raises(ValueError, match="'min'"):
        dynamic_scatter(features, cell, "min")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected features"):
        dynamic_scatter(features, cell[:2])
