"""Lift-splat pooling against the plain form: values, gradients, edges of the grid."""

import pytest
import torch
from torch.library import opcheck

from bev.ops.bev_pool import _bev_pool, _bev_pool_reference, bev_pool, plan_pool


def _case(rows=37, bins=5, channels=6, cells=11, keep=0.7, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cell = torch.randint(0, cells, (rows, bins), generator=generator)
    inside = torch.rand(rows, bins, generator=generator) < keep
    depth = torch.rand(rows, bins, generator=generator, dtype=dtype)
    features = torch.randn(rows, channels, generator=generator, dtype=dtype)
    return depth, features, plan_pool(cell, inside, cells)


@pytest.mark.parametrize("keep", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("cells", [1, 11, 4000])
def test_equals_reference_forward_and_backward(keep, cells):
    depth, features, plan = _case(keep=keep, cells=cells, dtype=torch.float64)
    depth.requires_grad_(), features.requires_grad_()
    weight = torch.randn(cells, features.shape[1], dtype=torch.float64)
    ours, plain = bev_pool(depth, features, plan), _bev_pool_reference(depth, features, plan)
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=0)
    for a, b in zip(
        torch.autograd.grad(ours, (depth, features), weight), torch.autograd.grad(plain, (depth, features), weight)
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_gradcheck():
    depth, features, plan = _case(rows=6, bins=3, channels=2, cells=4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda d, f: bev_pool(d, f, plan), (depth.requires_grad_(), features.requires_grad_())
    )


def test_opcheck():
    depth, features, plan = _case()
    opcheck(_bev_pool, (depth.requires_grad_(), features.requires_grad_(), *plan))


def test_non_contiguous_inputs():
    depth, features, plan = _case()
    expected = bev_pool(depth, features, plan)
    wide = torch.stack([features, features], -1)[..., 0]
    assert not wide.is_contiguous()
    torch.testing.assert_close(bev_pool(depth.T.contiguous().T, wide, plan), expected)


def test_half_precision_accumulates_in_float32():
    depth, features, plan = _case(rows=4000, cells=1, keep=1.0)
    exact = _bev_pool_reference(depth.bfloat16().double(), features.bfloat16().double(), plan)
    pooled = bev_pool(depth.bfloat16(), features.bfloat16(), plan)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.double(), exact, rtol=2**-8, atol=2e-2)


def test_no_rows():
    plan = plan_pool(torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.bool), 3)
    assert bev_pool(torch.zeros(0, 4), torch.zeros(0, 2), plan).tolist() == [[0, 0]] * 3


def test_plan_sorts_stably_and_drops_outside():
    cell = torch.tensor([[2, 0], [2, 9], [0, 2]])
    plan = plan_pool(cell, cell < 3, 3)
    assert plan.order.tolist() == [1, 4, 0, 2, 5]
    assert plan.offsets.tolist() == [0, 2, 2, 5]
    assert plan.cell_of_point.tolist() == [[2, 0], [2, 3], [0, 2]]
