"""deform_conv2d against a plain convolution and finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bev.models.deform_conv import ModulatedDeformConv2d
from bev.ops.deform_conv import deform_conv2d


@pytest.mark.parametrize("stride, padding, dilation, groups", [(1, 1, 1, 1), (2, 2, 2, 2), (3, 0, 1, 4)])
def test_unmoved_positions_give_a_plain_convolution(stride: int, padding: int, dilation: int, groups: int) -> None:
    maps, weight, bias = torch.randn(2, 8, 9, 11), torch.randn(4, 8 // groups, 3, 3), torch.randn(4)
    expected = F.conv2d(maps, weight, bias, stride, padding, dilation, groups)
    size = expected.shape[-2:]
    offset, mask = torch.zeros(2, 2 * 2 * 9, *size), torch.ones(2, 2 * 9, *size)
    result = deform_conv2d(maps, offset, mask, weight, bias, stride, padding, dilation, groups)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-5)


def test_no_mask_is_a_mask_of_ones_and_sides_may_differ() -> None:
    maps, weight = torch.randn(2, 4, 9, 11), torch.randn(4, 4, 3, 1)
    size = F.conv2d(maps, weight, None, (2, 1), (0, 1), (1, 2)).shape[-2:]
    offset = torch.randn(2, 2 * 3, *size)
    options = {"stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)}
    result = deform_conv2d(maps, offset, None, weight, **options)
    torch.testing.assert_close(result, deform_conv2d(maps, offset, torch.ones(2, 3, *size), weight, **options))
    still = deform_conv2d(maps, torch.zeros_like(offset), None, weight, **options)
    torch.testing.assert_close(still, F.conv2d(maps, weight, None, *options.values()), atol=1e-4, rtol=1e-5)


def test_gradcheck() -> None:
    g = torch.Generator().manual_seed(1)
    shapes = ((1, 2, 4, 5), (1, 18, 4, 5), (1, 9, 4, 5), (3, 2, 3, 3))
    leaves = [torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes]
    assert torch.autograd.gradcheck(lambda m, o, k, w: deform_conv2d(m, o, k, w, padding=1), leaves)


def test_masks_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"must be \[2, 2\]"):
        deform_conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(1, 18, 4, 4), None, torch.zeros(2, 2, 3, 3))
    with pytest.raises(ValueError, match="9 positions needs"):
        deform_conv2d(
            torch.zeros(1, 2, 4, 4), torch.zeros(1, 18, 4, 4), torch.zeros(1, 8, 4, 4), torch.zeros(2, 2, 3, 3)
        )


def test_autocast_and_export() -> None:
    layer = ModulatedDeformConv2d(4, 6, 3, 2, 1)
    torch.nn.init.normal_(layer.conv_offset.bias)
    maps = torch.randn(2, 4, 16, 300)
    expected = layer(maps)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(maps)
    assert half.dtype == torch.bfloat16 and (half.float() - expected).abs().mean() < 0.01 * expected.abs().max()
    program = torch.export.export(layer, (maps,))
    assert not any("grid_sampl" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(maps), expected, atol=1e-4, rtol=1e-4)
