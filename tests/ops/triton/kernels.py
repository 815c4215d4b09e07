"""Values and gradients of the Triton kernels against the plain forms, on CUDA or interpreted; run as a script."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops import bev_pool as pooling
from bev.ops import deformable_attention as attention
from bev.ops.triton import bev_pool as pool_kernels
from bev.ops.triton import deformable_attention as attention_kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _close(name: str, ours: Tensor, plain: Tensor) -> None:
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5, equal_nan=True, msg=lambda text: f"{name}: {text}")


def check_attention() -> None:
    """Points inside, on the border, outside and not a number; channels that fill no power of two."""
    for shapes, channels, queries in (([(5, 7), (3, 4), (1, 1)], 6, 7), ([(9, 4)], 8, 16)):
        heights, widths = [h for h, _ in shapes], [w for _, w in shapes]
        value = torch.randn(2, sum(h * w for h, w in shapes), 3, channels, device=DEVICE)
        locations = torch.rand(2, queries, 3, len(shapes), 2, 2, device=DEVICE) * 1.6 - 0.3
        locations[0, 0, 0, 0, 0] = torch.tensor([1e9, -1e9])
        weights = torch.randn(2, queries, 3, len(shapes), 2, device=DEVICE)
        leaves = [x.requires_grad_() for x in (value, locations, weights)]
        arguments = value.detach(), heights, widths, locations.detach(), weights.detach()
        expected = attention._attention_reference(leaves[0], heights, widths, *leaves[1:])
        _close("attention", attention_kernels.forward(*arguments), expected)
        grad = torch.randn_like(expected)
        grads = torch.autograd.grad(expected, leaves, grad)
        ours = attention_kernels.backward(grad, *arguments)
        for name, mine, other in zip(("value", "locations", "weights"), ours, grads):
            _close(f"gradient of {name}", mine, other)
        arguments[3][1, 2, 1, 0, 1] = torch.tensor([float("nan"), 0.5])
        unknown = attention_kernels.forward(*arguments).isnan()
        assert unknown[1, 2, channels : 2 * channels].all() and unknown.sum() == channels


def check_pool() -> None:
    """Cells of none, one and many points, bins and channels that fill no block, and several blocks of channels."""
    for rows, bins, channels, cells in ((37, 5, 6, 11), (20, 19, 130, 3), (9, 2, 4, 400)):
        cell = torch.randint(0, cells, (rows, bins), device=DEVICE)
        plan = pooling.plan_pool(cell, torch.rand(rows, bins, device=DEVICE) < 0.7, cells)
        depth = torch.rand(rows, bins, device=DEVICE, requires_grad=True)
        features = torch.randn(rows, channels, device=DEVICE, requires_grad=True)
        expected = pooling._bev_pool_reference(depth, features, plan)
        _close("pool", pool_kernels.forward(depth.detach(), features.detach(), plan.order, plan.offsets), expected)
        grad = torch.randn_like(expected)
        ours = pool_kernels.backward(grad, depth.detach(), features.detach(), plan.cell_of_point)
        grads = torch.autograd.grad(expected, (depth, features), grad)
        for name, mine, other in zip(("depth", "features"), ours, grads):
            _close(f"gradient of {name}", mine, other)


if __name__ == "__main__":
    torch.manual_seed(0)
    check_attention()
    check_pool()
    print("equal")
